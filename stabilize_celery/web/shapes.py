"""What is read, as the API gives it."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from stabilize_celery.client.dead_letters import DeadLetter
from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.client.pages import WorkflowSummary
from stabilize_celery.client.why import Reason
from stabilize_celery.client.why.cycle import MOST_TOLD, Deadlock
from stabilize_celery.client.why.locks import LockFacts, Party
from stabilize_celery.engine.instances import Crowd
from stabilize_celery.engine.moves import task_list
from stabilize_celery.engine.plan import StagePlan, TaskPlan
from stabilize_celery.engine.state import Run, TaskState, WorkflowRecord
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.runtime.reading import StageView, WorkflowView, tasks_of
from stabilize_celery.web.bodies import (
    DeadLetterLine,
    DeadlockLine,
    DeadlockPartyLine,
    EventLine,
    InstanceCounts,
    InstanceLine,
    LockLine,
    PartyLine,
    ReasonLine,
    RunLine,
    StageDetail,
    StageLine,
    TaskLine,
    WorkflowLine,
    WorkflowState,
)

__all__ = [
    "deadlock_line",
    "event_line",
    "letter_line",
    "lock_line",
    "reason_line",
    "redacted",
    "stage_detail",
    "stage_line",
    "workflow_line",
    "workflow_state",
]

_MOST_RUNS = 50
_MOST_INSTANCES = 300
_MOST_WAITERS = 200
_LONGEST_TOLD = 300
_OVERLAP_MS = 1_000
"""A stream begins so long before what was read: a commit between TIME and the reading must not be missed."""


def workflow_line(item: WorkflowSummary) -> WorkflowLine:
    """Return a line of a listing."""
    return WorkflowLine(
        item.id,
        item.application,
        item.name,
        item.status.name,
        item.started_ms,
        item.ended_ms,
        item.priority,
        list(item.dead_letters),
    )


def workflow_state(
    view: WorkflowView,
    crowds: Mapping[str, Crowd],
    regions: Mapping[str, Collection[str]],
    *,
    has_moved: bool = False,
) -> WorkflowState:
    """Return a workflow with all its stages.

    `has_moved`: something happened to it while it was read. What was read piece by piece may then look as if no thread
    were left, so no stage is told to be out of reach.
    """
    record = view.record
    of_stage: dict[str, list[str]] = {}
    for name, refs in regions.items():
        for ref in refs:
            of_stage.setdefault(ref, []).append(name)
    lines = [
        stage_line(ref, stage, record, crowds.get(ref), of_stage.get(ref, [])) for ref, stage in view.stages.items()
    ]
    if has_moved and record.is_live:
        for line in lines:
            if line.status == "SKIPPED" and line.runs == 0:
                line.status = "NOT_STARTED"
    return WorkflowState(
        id=view.id,
        application=record.application,
        name=record.name,
        status=record.status,
        reason=record.reason,
        started_ms=record.started_ms,
        ended_ms=record.ended_ms or None,
        paused_by=record.paused_by,
        canceled_by=record.canceled_by,
        parent_id=record.parent_id,
        regions=sorted(regions),
        restarts=record.restarts,
        priority=record.priority,
        now_ms=view.now_ms,
        position=f"{max(0, view.now_ms - _OVERLAP_MS)}-0",
        stages=lines,
    )


def stage_line(
    ref: str, view: StageView, record: WorkflowRecord, crowd: Crowd | None = None, regions: Sequence[str] = ()
) -> StageLine:
    """Return a stage as the graph shows it."""
    line = _planned(ref, view.plan, regions)
    line.status = view.status(record)
    if (newest := view.newest) is not None:
        _add_run(line, view.plan, newest[1])
    line.runs = sum(run.instance is None for _, run in view.runs)
    if crowd is not None and crowd.total:
        line.instances = InstanceCounts(crowd.total, crowd.begun, crowd.done, crowd.failed)
    return line


def _planned(ref: str, plan: StagePlan, regions: Sequence[str]) -> StageLine:
    many = plan.instances
    return StageLine(
        ref_id=ref,
        status="",
        name=plan.name if plan.name != ref else "",
        type=plan.type,
        requisites=plan.requisites,
        parent=plan.parent or "",
        owner=plan.owner or "",
        tasks=[task.type for task in plan.tasks],
        join=plan.join,
        split=plan.split,
        jumps=plan.jump_targets,
        mutex_key=plan.mutex_key or "",
        can_multiply=many is not None,
        is_dynamic=many is not None and many.is_dynamic,
        region=list(regions),
    )


def _add_run(line: StageLine, plan: StagePlan, run: Run) -> None:
    line.started_ms, line.ended_ms = run.started_ms, run.ended_ms
    if run.status == "BUFFERED":
        line.waiting_since_ms = run.created_us // 1000
    line.tasks = line.tasks or [task.type for task in task_list(plan, run.planned)]
    line.attempts = max((task.attempts for task in run.tasks), default=0)
    line.is_idle = _is_idle(plan, run)
    line.waits, line.offer, line.child = run.waits, run.offer, run.child
    line.told = " ".join(_why(run).split())[:_LONGEST_TOLD]


def _is_idle(plan: StagePlan, run: Run) -> bool:
    is_at_instances = plan.instances is not None and run.instance is None
    if run.status != "RUNNING" or run.phase != "tasks" or run.child or is_at_instances:
        return False
    state = run.tasks[run.task_index] if run.task_index < len(run.tasks) else TaskState()
    return run.task_index < len(task_list(plan, run.planned)) and state.status == "NOT_STARTED"


def _why(run: Run) -> str:
    errors = (str(task.error.get("message", "")) for task in run.tasks if task.error)
    return run.reason or next(errors, "")


# -- one stage ---------------------------------------------------------------------------------------------------------


def stage_detail(ref: str, view: StageView, record: WorkflowRecord, crowd: Crowd | None, now_ms: int) -> StageDetail:
    """Return all there is to know about a stage, runs newest first."""
    runs = [item for item in view.runs if item[1].instance is None]
    by_parent: dict[str, list[Run]] = {}
    for _, run in view.runs:
        if run.instance is not None:
            by_parent.setdefault(run.parent, []).append(run)
    lines = [
        _run(thread, run, view.plan, by_parent.get(thread, ()), run.waits_until_ms(record, now_ms))
        for thread, run in runs[: -_MOST_RUNS - 1 : -1]
    ]
    return StageDetail(stage_line(ref, view, record, crowd), dict(view.context), lines, len(runs), now_ms)


def redacted(detail: StageDetail, redaction: Redaction) -> StageDetail:
    """Return a stage without the values of secrets in its contexts and outputs."""
    runs = [
        msgspec.structs.replace(run, context=redaction.shown(run.context), outputs=redaction.shown(run.outputs))
        for run in detail.runs
    ]
    return msgspec.structs.replace(detail, context=redaction.shown(detail.context), runs=runs)


def _run(thread: str, run: Run, plan: StagePlan, instances: Sequence[Run], until_ms: int) -> RunLine:
    first = sorted(instances, key=lambda one: (one.status != "TERMINAL", one.is_ended, one.instance or 0))
    return RunLine(
        thread=thread,
        status=run.status,
        created_ms=run.created_us // 1000,
        started_ms=run.started_ms,
        ended_ms=run.ended_ms,
        reason=_why(run),
        context=run.context,
        outputs=run.outputs,
        tasks=[_task(item, state) for item, state in tasks_of(plan, run)],
        token=run.token,
        waits=run.waits,
        wait_deadline_ms=until_ms,
        child=run.child,
        instances=[_instance(one) for one in first[:_MOST_INSTANCES]],
    )


def _task(plan: TaskPlan, state: TaskState) -> TaskLine:
    return TaskLine(
        plan.name,
        plan.type,
        state.status,
        state.started_ms,
        state.ended_ms,
        state.attempts,
        state.polls,
        state.retries,
        dict(state.error),
    )


def _instance(run: Run) -> InstanceLine:
    attempts = max((task.attempts for task in run.tasks), default=0)
    return InstanceLine(run.instance or 0, run.status, run.started_ms, run.ended_ms, attempts, _why(run))


# -- the rest ----------------------------------------------------------------------------------------------------------


def event_line(event: WorkflowEvent) -> EventLine:
    """Return an event with its words."""
    return EventLine(event.id, event.kind, event.ref_id, event.at_ms, event.told, dict(event.data))


def reason_line(reason: Reason) -> ReasonLine:
    """Return a reason."""
    return ReasonLine(reason.kind, reason.text, reason.ref_id, reason.detail, reason.advice, reason.traceback)


def lock_line(lock: LockFacts, mark: str = "") -> LockLine:
    """Return a lock with its holders and the first of those who wait; `mark`: what a deadlock makes of it."""
    return LockLine(
        lock.name,
        lock.key,
        lock.scope,
        lock.within,
        lock.limit,
        [_party(one) for one in lock.holders],
        [_party(one) for one in lock.waiters[:_MOST_WAITERS]],
        len(lock.waiters),
        mark,
    )


def deadlock_line(deadlock: Deadlock) -> DeadlockLine:
    """Return a deadlock."""
    parties = [
        DeadlockPartyLine(_party(link.holder), link.holds, _party(link.waiter), link.wants, link.relation)
        for link in deadlock.links
    ]
    return DeadlockLine(parties, list(deadlock.commands[:MOST_TOLD]))


def _party(party: Party) -> PartyLine:
    return PartyLine(
        party.workflow_id,
        party.workflow_name,
        party.ref_id,
        party.section,
        party.since_ms,
        party.token,
        party.worker.partition("#")[0],
    )


def letter_line(letter: DeadLetter) -> DeadLetterLine:
    """Return a dead letter."""
    return DeadLetterLine(
        letter.workflow_id,
        letter.name,
        letter.kind,
        letter.ref_id,
        letter.tries,
        letter.error,
        letter.at_ms,
        letter.is_unknown,
    )
