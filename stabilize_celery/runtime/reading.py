"""Reading a whole workflow back as users see it: what it is, and how far each stage is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.engine.cut_short import joins_cut_short
from stabilize_celery.engine.joins import place_of
from stabilize_celery.engine.moves import (
    task_list,
)
from stabilize_celery.engine.plan import StagePlan, TaskPlan, decode_plan
from stabilize_celery.engine.region import Place, Region
from stabilize_celery.engine.standing import waiting
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, Run, TaskState, WorkflowRecord
from stabilize_celery.engine.steps import Hash, Items, Members, Query, Snapshot, workflow_slot
from stabilize_celery.errors import RecoveryError, WorkflowNotFoundError
from stabilize_celery.models.definition import from_definition
from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.workflow import PausedDetails, Workflow
from stabilize_celery.store.contract import Store

__all__ = ["StageView", "WorkflowView", "read_view", "read_workflow", "tasks_of"]

_RECORD, _DEFINITION = Hash(places.WORKFLOW), Hash(places.DEFINITION)
_NOTHING = pack({})
_LIVE, _RESTARTED, _PARKED = Members(places.LIVE), Hash(places.RESTARTED), Members(places.PARKED)


@dataclass(frozen=True, slots=True)
class StageView:
    """A stage with its runs that count, in order of creation: (thread, run)."""

    plan: StagePlan
    context: Mapping[str, Any]
    runs: Sequence[tuple[str, Run]]
    waiting: int
    """Arrivals at its join that are not used."""
    is_reachable: bool = True
    """A thread may still come (wcp 1.5)."""
    place: Place | None = None
    """Its arrivals, what its join has counted, how many runs may still pass their thread on."""
    is_cut: bool = False
    """Arrivals at its join were taken away when the workflow was cut short: newer than any run of it (wcp 1.2)."""
    suspended: Collection[str] = ()
    """Threads of runs that wait for a signal, whatever of them is unfinished (wcp 1.2)."""

    @property
    def newest(self) -> tuple[str, Run] | None:
        """The run that a status report shows: the newest unfinished one, else the newest (wcp 1.2)."""
        runs = [item for item in self.runs if item[1].instance is None]
        unfinished = [item for item in runs if not item[1].is_ended]
        return next(reversed(unfinished or runs), None)

    def status(self, record: WorkflowRecord) -> str:
        """Return the stage's status."""
        if self.is_cut:
            return "CANCELED"
        if (newest := self.newest) is not None:
            if not (record.is_live or newest[1].is_ended):
                return "CANCELED"  # it is about to be cleared away
            return "SUSPENDED" if newest[0] in self.suspended else newest[1].status
        if record.is_live:
            return "NOT_STARTED" if self.is_reachable else "SKIPPED"
        return "SKIPPED"


@dataclass(frozen=True, slots=True)
class WorkflowView:
    """A workflow as stored, read without locks: stages by ref, in the order of definition."""

    id: str
    record: WorkflowRecord
    definition: Mapping[str, Any]
    trigger: Mapping[str, Any]
    stages: Mapping[str, StageView]
    parked: frozenset[str]
    now_ms: int


def read_view(store: Store, workflow_id: str, *, without_payloads: bool = False) -> WorkflowView:
    """Read everything about a workflow, in three round trips; a few more for large values.

    `without_payloads`: contexts and outputs that are large enough to be kept apart look empty, and are not fetched.

    Raises:
        WorkflowNotFoundError: there is none of that id (any more).
        RecoveryError: what is stored of it can't be read.

    """
    try:
        return _read_view(store, workflow_id, without_payloads=without_payloads)
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        told = (
            f"what is stored of workflow {workflow_id} can't be read: a hand was in Redis, or it has lost writes. "
            f"`stabilize-celery cancel {workflow_id}` ends it"
        )
        raise RecoveryError(told, cause=error) from error


def _read_view(store: Store, workflow_id: str, *, without_payloads: bool) -> WorkflowView:
    slot = workflow_slot(workflow_id)
    look = partial(store.look, slot, without_payloads=without_payloads)
    top = look((_RECORD, _DEFINITION, _LIVE, _RESTARTED, _PARKED))
    record = WORKFLOW_RECORD.decode(top[_RECORD])
    if not record.exists:
        told = f"there is no workflow {workflow_id!r}: the id is mistyped, or its retention is over"
        raise WorkflowNotFoundError(told, execution_id=workflow_id)
    plans = _plans(top[_DEFINITION])
    lists = {ref: _lists(plan) for ref, plan in plans.items()}
    found = look(tuple(query for queries in lists.values() for query in queries))
    threads = sorted({thread for ref in plans for query in lists[ref][:2] for thread in found[query]} | top[_LIVE])
    runs = look(tuple(Hash(places.run(thread)) for thread in threads))
    by_stage: dict[str, list[tuple[str, Run]]] = {ref: [] for ref in plans}
    since = {ref: int(time_us) for ref, time_us in top[_RESTARTED].items()}
    for thread in threads:
        run = RUN.decode(runs[Hash(places.run(thread))])
        if run.status and run.ref in by_stage and run.created_us >= since.get(run.ref, 0):
            by_stage[run.ref].append((thread, run))
    fields = top[_DEFINITION]
    places_ = {ref: _place(plan, by_stage[ref], lists[ref], found) for ref, plan in plans.items()}
    reachable = Region(places_).reachable() if record.is_live else set()
    is_cut = not record.is_live and not record.is_settled
    counted = {ref: [run for _, run in of_stage] for ref, of_stage in by_stage.items()}
    cut = joins_cut_short(places_, counted, record) if is_cut else set()
    suspended = waiting({thread: run for of_stage in by_stage.values() for thread, run in of_stage})
    stages = {
        ref: StageView(
            plan,
            unpack(fields.get(f"x:{ref}", _NOTHING)),
            sorted(by_stage[ref], key=lambda item: item[1].created_us),
            sum(map(len, places_[ref].waiting.values())),
            _may_come(plan, plans, by_stage, reachable) or (record.status == "BUFFERED" and not record.restarts),
            places_[ref],
            ref in cut,
            suspended,
        )
        for ref, plan in plans.items()
    }
    parked = frozenset(top[_PARKED])
    definition, trigger = unpack(fields["definition"]), unpack(fields.get("trigger", _NOTHING))
    return WorkflowView(workflow_id, record, definition, trigger, stages, parked, runs.now_ms)


def _may_come(
    plan: StagePlan,
    plans: Mapping[str, StagePlan],
    by_stage: Mapping[str, Sequence[tuple[str, Run]]],
    reachable: Collection[str],
) -> bool:
    """Whether a thread may still come to a stage; to a before or after stage with the one that it is a part of."""
    if plan.owner is None:
        return plan.ref in reachable
    while plan.parent is not None:
        plan = plans[plan.parent]
    return plan.ref in reachable or any(not run.is_ended for _, run in by_stage[plan.ref])


def _plans(fields: Mapping[str, bytes]) -> dict[str, StagePlan]:
    plans = [decode_plan(data) for name, data in fields.items() if name.startswith("s:")]
    order = {stage["ref_id"]: at for at, stage in enumerate(unpack(fields["definition"])["stages"])}
    return {plan.ref: plan for plan in sorted(plans, key=lambda plan: order.get(plan.ref, len(order)))}


def _lists(plan: StagePlan) -> tuple[Query, ...]:
    ref = plan.ref
    lists: tuple[Query, ...] = (Items(places.started(ref)), Items(places.bypassed(ref)))
    return lists if plan.is_direct else (*lists, Items(places.arrivals(ref)), Hash(places.join(ref)))


def _place(plan: StagePlan, runs: Sequence[tuple[str, Run]], queries: Sequence[Query], found: Snapshot) -> Place:
    """Return a stage as the judgement of what can still come sees it."""
    live = sum(not run.is_ended and run.instance is None and not run.passed_on for _, run in runs)
    arrivals, consumed = (found[query] for query in queries[2:]) if not plan.is_direct else ([], {})
    return place_of(plan, arrivals, consumed, runs=live)


def read_workflow(store: Store, workflow_id: str) -> Workflow:
    """Read a workflow as the model that users know.

    Raises:
        WorkflowNotFoundError: there is none of that id (any more).

    """
    return workflow_from(read_view(store, workflow_id))


def workflow_from(view: WorkflowView) -> Workflow:
    """Return the user's model of a view."""
    record = view.record
    workflow = from_definition(view.definition, workflow_id=view.id)
    workflow.trigger = Trigger.from_dict(dict(view.trigger))
    workflow.status = WorkflowStatus.stored(record.status)
    workflow.start_time = record.started_ms or None
    workflow.end_time = record.ended_ms or None
    if record.status == "CANCELED":
        workflow.is_canceled, workflow.canceled_by = True, record.canceled_by or None
        workflow.cancellation_reason = record.reason or None
    if record.paused_at_ms or record.paused_ms:
        workflow.paused = PausedDetails(record.paused_by, record.paused_at_ms or None, None, record.paused_ms)
    for ref, stage_view in view.stages.items():
        stage = workflow.stage_by_ref_id(ref)
        if stage is None:
            stage = _planned_stage(stage_view)
            workflow.add_stage(stage)
        _fill(stage, stage_view, record)
    ids = {stage.ref_id: stage.id for stage in workflow.stages}
    for stage in workflow.stages:
        parent = view.stages[stage.ref_id].plan.parent
        if parent is not None:
            stage.parent_stage_id = ids.get(parent, parent)
    return workflow


def _planned_stage(view: StageView) -> StageExecution:
    plan = view.plan
    return StageExecution(
        ref_id=plan.ref,
        type=plan.type,
        name=plan.name,
        requisite_stage_ref_ids=set(plan.requisites),
        parent_stage_id=plan.parent,
        synthetic_stage_owner=SyntheticStageOwner[plan.owner] if plan.owner else None,
    )


def _fill(stage: StageExecution, view: StageView, record: WorkflowRecord) -> None:
    plan = view.plan
    stage.id = plan.stage_id
    stage.status = WorkflowStatus[view.status(record)]
    newest = view.newest[1] if view.newest else Run()
    stage.context = {**view.context, **newest.context}
    stage.outputs = dict(newest.outputs)
    stage.start_time, stage.end_time = newest.started_ms or None, newest.ended_ms or None
    stage.tasks = [_task(item, state) for item, state in tasks_of(plan, newest)]
    for task in stage.tasks:
        task.stage = stage
    if stage.tasks:
        stage.tasks[0].stage_start, stage.tasks[-1].stage_end = True, True


def tasks_of(plan: StagePlan, run: Run) -> list[tuple[TaskPlan, TaskState]]:
    """Return the tasks of a run with their states; where it has ended, none goes on."""
    tasks = task_list(plan, run.planned)
    states = list(run.tasks) + [TaskState()] * (len(tasks) - len(run.tasks))
    return [(task, _ended_with(run, state)) for task, state in zip(tasks, states, strict=False)]


def _ended_with(run: Run, state: TaskState) -> TaskState:
    if not run.is_ended or not state.started_ms:
        return state
    status = state.status
    if status in ("RUNNING", "SUSPENDED"):
        status = run.status if run.status in ("CANCELED", "TERMINAL", "STOPPED", "SKIPPED") else "TERMINAL"
    return msgspec.structs.replace(state, status=status, ended_ms=state.ended_ms or run.ended_ms)


def _task(plan: TaskPlan, state: TaskState) -> TaskExecution:
    return TaskExecution(
        id=plan.id,
        name=plan.name,
        implementing_class=plan.type,
        status=WorkflowStatus[state.status],
        start_time=state.started_ms or None,
        end_time=state.ended_ms or None,
        task_exception_details=dict(state.error),
    )
