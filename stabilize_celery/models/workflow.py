"""Workflow: a pipeline with its stages, what started it and how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ulid import ULID

from stabilize_celery.models.graph import topological_sort
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.lookup import StageLookup, by_id, by_ref_id
from stabilize_celery.models.merge import merge_outputs
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.validation import check

__all__ = ["PausedDetails", "Trigger", "Workflow", "WorkflowCriteria", "WorkflowType"]


def _generate_execution_id() -> str:
    return str(ULID())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class WorkflowType(StrEnum):
    """A pipeline, or a few stages run ad hoc."""

    PIPELINE = "PIPELINE"
    ORCHESTRATION = "ORCHESTRATION"


@dataclass
class PausedDetails:
    """Who paused a workflow, when, and for how long (epoch milliseconds, milliseconds)."""

    paused_by: str = ""
    pause_time: int | None = None
    resume_time: int | None = None
    paused_ms: int = 0

    @property
    def is_paused(self) -> bool:
        """It is paused now."""
        return self.pause_time is not None and self.resume_time is None


@dataclass
class WorkflowCriteria:
    """Which workflows a query returns: at most `page_size`, of these statuses, started in this window (ms)."""

    page_size: int | None = 20
    statuses: set[WorkflowStatus] | None = None
    start_time_before: int | None = None
    start_time_after: int | None = None


@dataclass
class Workflow:
    """A pipeline: its stages in their order of definition, its settings, and its state as last read.

    Times are epoch milliseconds. Stages hold a weak reference to it: keep it as long as you use them.

    Attributes:
        start_time_expiry: If it has not started by then, it is cancelled.
        pipeline_config_id: Workflows of one configuration share a limit of concurrent executions.
        is_limit_concurrent: Whether `max_concurrent_executions` counts; it needs a `pipeline_config_id`.
        max_concurrent_executions: So many of one configuration run at a time (count); 0: no limit.
        keep_waiting_pipelines: With a limit: waiting workflows are kept when another one starts waiting, not replaced.
        max_jumps: Jumps of all its stages together (count); one more fails the jumping stage.
        max_depth: How deep it may call inner workflows (count).
        timeout_ms: How long it may run (milliseconds), from the scheduled time of its first stages; None: no limit.
        priority: 0 is the most urgent, 9 the least. Its messages go before those of less urgent workflows, in four
            steps: 0 to 2, 3 to 5, 6 to 8, 9.
        sub_workflows: The inner workflows that its stages may call, by name.

    """

    id: str = field(default_factory=_generate_execution_id)
    type: WorkflowType = WorkflowType.PIPELINE
    application: str = ""
    name: str = ""
    status: WorkflowStatus = WorkflowStatus.NOT_STARTED
    stages: list[StageExecution] = field(default_factory=list)
    context: dict[str, Any] = field(default_factory=dict)
    trigger: Trigger = field(default_factory=Trigger)
    start_time: int | None = None
    end_time: int | None = None
    start_time_expiry: int | None = None
    is_canceled: bool = False
    canceled_by: str | None = None
    cancellation_reason: str | None = None
    paused: PausedDetails | None = None
    pipeline_config_id: str | None = None
    is_limit_concurrent: bool = False
    max_concurrent_executions: int = 0
    keep_waiting_pipelines: bool = False
    origin: str = "unknown"
    config_version: str | None = None
    queue_table: str | None = None
    max_jumps: int = 100
    max_depth: int = 10
    timeout_ms: int | None = None
    priority: int = DEFAULT_PRIORITY
    sub_workflows: dict[str, Workflow] = field(default_factory=dict)
    _by_id: StageLookup = field(default_factory=lambda: StageLookup(by_id), init=False, repr=False, compare=False)
    _by_ref_id: StageLookup = field(
        default_factory=lambda: StageLookup(by_ref_id), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Attach the stages."""
        for stage in self.stages:
            if isinstance(stage, StageExecution):
                self._attach(stage)

    def _attach(self, stage: StageExecution) -> None:
        stage.execution = self
        stage.attach_tasks()

    def add_stage(self, stage: StageExecution) -> None:
        """Append and attach a stage."""
        self._attach(stage)
        self.stages.append(stage)

    def remove_stage(self, stage_id: str) -> None:
        """Take the stage of that id out; nothing happens when there is none."""
        self.stages = [stage for stage in self.stages if stage.id != stage_id]

    def cleanup(self) -> None:
        """Detach all stages and empty the list."""
        for stage in self.stages:
            stage.cleanup()
        self.stages.clear()

    def stage_by_id(self, stage_id: str) -> StageExecution:
        """Return the stage of that id.

        Raises:
            ValueError: There is none.

        """
        position = self._by_id.position(self.stages, stage_id)
        if position is None:
            msg = f"workflow {self.id} has no stage with the id {stage_id!r}"
            raise ValueError(msg)
        return self.stages[position]

    def stage_by_ref_id(self, ref_id: str) -> StageExecution | None:
        """Return the stage of that ref_id, or None."""
        position = self._by_ref_id.position(self.stages, ref_id)
        return None if position is None else self.stages[position]

    def stages_by_ids(self, stage_ids: Iterable[str]) -> list[StageExecution]:
        """Return the stages of these ids, in the workflow's order; unknown ones are left out."""
        return self._by_id.find_all(self.stages, stage_ids)

    def stages_by_ref_ids(self, ref_ids: Iterable[str]) -> list[StageExecution]:
        """Return the stages of these ref_ids, in the workflow's order; unknown ones are left out."""
        return self._by_ref_id.find_all(self.stages, ref_ids)

    def initial_stages(self) -> list[StageExecution]:
        """Return the stages that can start at once: no requisites, not synthetic."""
        return [stage for stage in self.stages if stage.is_initial() and not stage.is_synthetic()]

    def top_level_stages(self) -> list[StageExecution]:
        """Return the stages that are not synthetic."""
        return [stage for stage in self.stages if not stage.is_synthetic()]

    def get_context(self) -> dict[str, Any]:
        """Return the outputs of the top-level stages in topological order: lists joined, else the latest wins."""
        return merge_outputs(stage.outputs for stage in topological_sort(self.stages))

    def validate(self) -> None:
        """Check all that is checked when it is submitted; `find_problems` returns the problems as a list.

        `create` has done so; call it after changes made since, or for what `create_orchestration` returned.

        Raises:
            InvalidWorkflowError: The definition is wrong; the text lists every problem with its path.

        """
        check(self)

    def update_status(self, status: WorkflowStatus) -> None:
        """Set the status of this object; a running workflow is changed through its handle."""
        self.status = status

    def cancel(self, user: str, reason: str) -> None:
        """Mark this object as cancelled; a running workflow is cancelled through its handle."""
        self.is_canceled = True
        self.canceled_by = user
        self.cancellation_reason = reason

    def pause(self, user: str) -> None:
        """Mark this object as paused now; a running workflow is paused through its handle."""
        self.paused = PausedDetails(paused_by=user, pause_time=_now_ms())
        self.status = WorkflowStatus.PAUSED

    def resume(self) -> None:
        """Mark this object as running on; a running workflow is resumed through its handle."""
        if self.paused is not None and self.paused.pause_time is not None:
            self.paused.resume_time = _now_ms()
            self.paused.paused_ms = self.paused.resume_time - self.paused.pause_time
        self.status = WorkflowStatus.RUNNING

    def paused_duration_relative_to(self, instant_ms: int) -> int:
        """Return how long it was paused after `instant_ms` (milliseconds); 0 if the pause began before."""
        if self.paused is None or self.paused.pause_time is None or self.paused.pause_time <= instant_ms:
            return 0
        return self.paused.paused_ms

    @classmethod
    def create(
        cls,
        application: str,
        name: str,
        stages: Iterable[StageExecution],
        trigger: Trigger | None = None,
        pipeline_config_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Workflow:
        """Return a new, checked workflow; `settings` are further fields of it, such as `timeout_ms`.

        That it has no stage yet, or a synthetic stage no parent, is left for its submission to refuse.

        Raises:
            InvalidWorkflowError: The definition is wrong; the text lists every problem with its path.

        """
        workflow = cls(
            application=application,
            name=name,
            stages=list(stages),
            context=dict(context or {}),
            trigger=trigger or Trigger(),
            pipeline_config_id=pipeline_config_id,
            **settings,
        )
        check(workflow, unfinished=True)
        return workflow

    @classmethod
    def create_orchestration(cls, application: str, name: str, stages: Iterable[StageExecution]) -> Workflow:
        """Return a new ad-hoc workflow, unchecked until it is submitted or `validate` is called."""
        return cls(type=WorkflowType.ORCHESTRATION, application=application, name=name, stages=list(stages))
