"""StageExecution: a unit of work in a workflow's graph, as its author writes it and as a reader sees it.

`requisite_stage_ref_ids` are the edges: empty = initial stage, one = next in a sequence, several = a join.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.snapshot import StageStateSnapshot, freeze
from stabilize_celery.models.stage.enums import (
    JoinMode,
    JoinType,
    MutexScope,
    SplitType,
    SyntheticStageOwner,
    _generate_stage_id,
)
from stabilize_celery.models.stage.navigation import StageNavigationMixin
from stabilize_celery.models.stage.rules import StatusParts, determine_status, failure_status
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution, mark_ends

if TYPE_CHECKING:
    from stabilize_celery.models.workflow import Workflow

__all__ = ["StageExecution"]


@dataclass
class StageExecution(StageNavigationMixin):
    """One stage: what it runs, what it waits for, what follows it, and its state.

    Times are epoch milliseconds. `context` holds its inputs and runtime state, `outputs` what stages downstream see.

    Attributes:
        ref_id: The name by which other stages refer to it; unique in the workflow.
        start_time_expiry: If it has not started by then, it is skipped.
        scheduled_time: It does not start before then.
        cleanup_on_failure: Run the finalizers in `finalizer_names` when it fails, too.
        join_threshold: For N_OF_M: the branches waited for (count); 0 = all.
        split_conditions: Downstream ref_id -> expression; the order counts for XOR.
        deferred_choice_group: Stages of one group and requisite are offered together; one is picked from outside.
        milestone_ref_id: It starts only while this stage has the status named by `milestone_status`.
        mutex_key: Held by one run at a time from its start to its end.
        cancel_region: The region that it belongs to.
        output_reducers: Output key, or `*` -> reducer, applied where branches meet (`models.reducers`).
        split_default: The downstream ref_id taken when no condition holds.
        join_mode: What happens to the branches that were not waited for.
        thread_split: Every taken edge gets this many threads (count).
        thread_merge: This many threads of its one requisite become one (count); None: off.
        choose_after_ms: An offered stage chooses itself after this time (milliseconds).
        mutex_scope: Who shares the key.
        mutex_section: Stages with the same key and section are one critical section.
        mutex_limit: How many runs may hold the key at once (count).
        cancels_regions: When it completes, these regions are cancelled.
        terminates_workflow: When it completes, the workflow ends.
        jump_targets: The stages that its tasks may jump to.
        sub_workflow: The name of the inner workflow that it runs, instead of tasks.
        sub_context: The inner workflow's context: name -> expression.

    """

    id: str = field(default_factory=_generate_stage_id)
    ref_id: str = ""
    type: str = ""
    name: str = ""
    status: WorkflowStatus = WorkflowStatus.NOT_STARTED
    context: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    tasks: list[TaskExecution] = field(default_factory=list)
    requisite_stage_ref_ids: set[str] = field(default_factory=set)
    parent_stage_id: str | None = None
    synthetic_stage_owner: SyntheticStageOwner | None = None
    start_time: int | None = None
    end_time: int | None = None
    start_time_expiry: int | None = None
    scheduled_time: int | None = None
    version: int = 0
    cleanup_on_failure: bool = False
    finalizer_names: list[str] = field(default_factory=list)
    join_type: JoinType = JoinType.AND
    join_threshold: int = 0
    split_type: SplitType = SplitType.AND
    split_conditions: dict[str, str] = field(default_factory=dict)
    mi_config: MultiInstanceConfig | None = None
    deferred_choice_group: str | None = None
    milestone_ref_id: str | None = None
    milestone_status: str | None = None
    mutex_key: str | None = None
    cancel_region: str | None = None
    output_reducers: dict[str, str] = field(default_factory=dict)
    split_default: str | None = None
    join_mode: JoinMode = JoinMode.STRUCTURED
    thread_split: int = 1
    thread_merge: int | None = None
    choose_after_ms: int | None = None
    mutex_scope: MutexScope = MutexScope.GLOBAL
    mutex_section: str | None = None
    mutex_limit: int = 1
    cancels_regions: list[str] = field(default_factory=list)
    terminates_workflow: bool = False
    jump_targets: list[str] = field(default_factory=list)
    sub_workflow: str | None = None
    sub_context: dict[str, str] = field(default_factory=dict)
    _execution: weakref.ReferenceType[Workflow] | Workflow | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Attach the tasks; ValueError for an N_OF_M join with a negative threshold."""
        if self.join_type == JoinType.N_OF_M and self.join_threshold < 0:
            msg = f"stage {self.ref_id!r}: join_threshold must be >= 0 for an N_OF_M join, not {self.join_threshold}"
            raise ValueError(msg)
        self.attach_tasks()

    @property
    def phase_version(self) -> tuple[str, int]:
        """The status' name and the version, to compare with a later state."""
        return (self.status.name, self.version)

    def state_snapshot(self) -> StageStateSnapshot:
        """Return a frozen copy of the state."""
        return StageStateSnapshot(
            id=self.id,
            ref_id=self.ref_id,
            status=self.status,
            version=self.version,
            context=freeze(self.context),
            outputs=freeze(self.outputs),
            start_time=self.start_time,
            end_time=self.end_time,
            parent_stage_id=self.parent_stage_id,
        )

    @property
    def execution(self) -> Workflow:
        """The workflow that it belongs to; ValueError when unattached or gone."""
        if self._execution is None:
            msg = f"stage {self.ref_id!r} is not attached to an execution: add it to a Workflow first"
            raise ValueError(msg)
        if not isinstance(self._execution, weakref.ReferenceType):
            return self._execution
        execution = self._execution()
        if execution is None:
            msg = f"stage {self.ref_id!r}: its execution has been garbage collected; keep a reference to the Workflow"
            raise ValueError(msg)
        return execution

    @execution.setter
    def execution(self, value: Workflow) -> None:
        self._execution = weakref.ref(value)

    def set_execution_strong(self, value: Workflow) -> None:
        """Attach to a workflow and keep it alive."""
        self._execution = value

    def has_execution(self) -> bool:
        """Return whether it is attached to a workflow that still exists."""
        held = self._execution
        return held is not None and (not isinstance(held, weakref.ReferenceType) or held() is not None)

    def cleanup(self) -> None:
        """Forget the workflow, and let the tasks forget this stage."""
        self._execution = None
        for task in self.tasks:
            task.cleanup()

    def attach_tasks(self) -> None:
        """Let every task know this stage; mark the first and the last, unless somebody marked tasks."""
        for task in self.tasks:
            if isinstance(task, TaskExecution):
                task.stage = self
        if all(isinstance(task, TaskExecution) for task in self.tasks):
            mark_ends(self.tasks)

    def first_task(self) -> TaskExecution | None:
        """Return the first task, or None."""
        return self.tasks[0] if self.tasks else None

    def next_task(self, task: TaskExecution) -> TaskExecution | None:
        """Return the task after `task`; None behind the last, and behind one that its author marked `stage_end`."""
        if task.ends_stage_early or task not in self.tasks:
            return None
        behind = self.tasks.index(task) + 1
        return self.tasks[behind] if behind < len(self.tasks) else None

    def has_tasks(self) -> bool:
        """Return whether there is any task."""
        return bool(self.tasks)

    def determine_status(self) -> WorkflowStatus:
        """Return the status that follows from the before stages, tasks and after stages (`models.stage.rules`)."""
        return determine_status(
            StatusParts(
                own=self.status,
                core=_statuses([*self.before_stages(), *self.tasks]),
                after=_statuses(self.after_stages()),
                on_failure=self.failure_status(),
                planning_failed=bool(self.context.get("beforeStagePlanningFailed", False)),
            )
        )

    def failure_status(self, default: WorkflowStatus = WorkflowStatus.TERMINAL) -> WorkflowStatus:
        """Return what the stage becomes when it fails; `default` where its context has no switch."""
        return failure_status(self.continue_pipeline_on_failure, self.should_fail_pipeline(), default)

    @property
    def continue_pipeline_on_failure(self) -> bool:
        """The pipeline goes on though this stage failed."""
        return bool(self.context.get("continuePipelineOnFailure", False))

    def should_fail_pipeline(self) -> bool:
        """Return whether this stage's failure fails the pipeline (the default)."""
        return bool(self.context.get("failPipeline", True))

    @property
    def allow_sibling_stages_to_continue_on_failure(self) -> bool:
        """The other branches run on to their end though this stage failed."""
        return bool(self.context.get("allowSiblingStagesToContinueOnFailure", False))

    @classmethod
    def create(
        cls,
        type: str,  # noqa: A002 - the seed's name
        name: str,
        ref_id: str,
        context: Mapping[str, Any] | None = None,
        requisite_stage_ref_ids: Iterable[str] | None = None,
    ) -> StageExecution:
        """Return a new stage; `context` and the requisites are copied."""
        return cls(
            type=type,
            name=name,
            ref_id=ref_id,
            context=dict(context or {}),
            requisite_stage_ref_ids=set(requisite_stage_ref_ids or ()),
        )

    @classmethod
    def create_synthetic(
        cls,
        type: str,  # noqa: A002 - the seed's name
        name: str,
        parent: StageExecution,
        owner: SyntheticStageOwner,
        context: Mapping[str, Any] | None = None,
    ) -> StageExecution:
        """Return a new stage that runs before or after the tasks of `parent`, with a ref_id of its own."""
        stage = cls(
            type=type,
            name=name,
            ref_id=_generate_stage_id(),
            context=dict(context or {}),
            parent_stage_id=parent.id,
            synthetic_stage_owner=owner,
        )
        if parent.has_execution():
            stage.execution = parent.execution
        return stage


def _statuses(parts: Iterable[StageExecution | TaskExecution]) -> frozenset[WorkflowStatus]:
    return frozenset(part.status for part in parts)
