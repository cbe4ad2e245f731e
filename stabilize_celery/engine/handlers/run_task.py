"""RunTask: claim a task attempt, then record how it ended (PROTOCOL 4.1: the ledger entry is the lease).

Pure. Two units of work under one ledger entry: `handle` claims (`own`, `att` + 1, a lease), the runtime executes the
body, `record` takes the result if `att` is unchanged. Claims and results both raise `att`, so a result counts once.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.endings import (
    release_lock,
)
from stabilize_celery.engine.handler import (
    Rules,
    entry_of,
    foreign,
    frame_of,
    guard,
    nothing,
    opening,
    stage_fields,
    workflow_of,
)
from stabilize_celery.engine.moves import (
    Frame,
    after_tasks,
    call_sub_workflow,
    owe_completion,
    owe_task,
    set_run,
    task_list,
)
from stabilize_celery.engine.state import ENTRY, SIGNALS, Entry, KeptSignal, TaskState, Waiter
from stabilize_celery.engine.steps import (
    Decision,
    DeleteFields,
    Event,
    Handling,
    Hash,
    Owed,
    Position,
    Read,
    SetFields,
    Snapshot,
)
from stabilize_celery.models.messages import RunTask, TimeOut, timer_name

__all__ = ["ClaimTerms", "ClaimedTask", "TaskReturned", "handle", "park", "record"]


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """Who claims, and what the task's type says. `timeout_ms`: for all attempts of the task together."""

    owner: str
    max_lost: int
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A committed claim: what the runtime needs to execute the body."""

    message: RunTask
    frame: Frame
    attempt: int
    lost: int
    run_number: int
    state: TaskState
    task_name: str


@dataclass(frozen=True, slots=True)
class TaskReturned:
    """How an attempt ended; a local message that never travels. Durations in ms.

    `status`: what the task answered: SUCCEEDED, SKIPPED, FAILED_CONTINUE, RUNNING, SUSPENDED, TERMINAL, STOPPED,
    CANCELED, REDIRECT, or RETRY for a transient failure with tries left.
    """

    attempt: int
    status: str
    context: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    target: str | None = None
    error: dict[str, Any] = field(default_factory=dict)
    again_after_ms: int = 0
    signal: str = ""
    deadline_ms: int | None = None
    sub_workflow: dict[str, Any] | None = None


def handle(message: RunTask, rules: Rules, _attempt: int, terms: ClaimTerms | None = None) -> Handling:
    """Decide whether this delivery may execute the task's body."""
    run_key = places.run(message.thread)
    snapshot = yield opening(
        message,
        Hash(run_key),
        stage_fields(message.ref_id),
        _position(message),
        watch=[run_key],
    )
    if (early := _not_to_run(message, snapshot)) is not None:
        return early
    entry = entry_of(snapshot, message)
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    terms = terms or ClaimTerms("nobody", rules.max_lost)
    number = (snapshot[_position(message)] or 0) + 1
    if entry.own == terms.owner:
        return _claimed_before(message, frame, entry, number)
    if entry.own:
        return nothing(f"claimed by {entry.own}")
    if entry.lost >= terms.max_lost:
        return _poisoned(message, frame, entry)
    return _claim(message, frame, entry, rules, terms, number)


def _not_to_run(message: RunTask, snapshot: Snapshot) -> Decision | None:
    """Return the decision for a delivery whose task is not to be executed now, whoever would."""
    entry, workflow = entry_of(snapshot, message), workflow_of(snapshot)
    has_ended = entry.exists and workflow.exists and not workflow.is_live
    early = foreign(message, snapshot) if has_ended else guard(message, snapshot)
    if early is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if has_ended or frame.run.is_ended:
        return _after_the_end(frame, entry)
    if frame.run.outcome:
        return _after_the_outcome(frame, entry)
    if frame.run.status != "RUNNING" or frame.run.task_index != message.task_index:
        return Decision(note=f"the run is {frame.run.status}, at task {frame.run.task_index}")
    return None


def _position(message: RunTask) -> Position:
    """Return the query for the run number; an instance has its run's."""
    return Position(places.started(message.ref_id), message.thread.partition(".")[0])


def _claim(message: RunTask, frame: Frame, entry: Entry, rules: Rules, terms: ClaimTerms, number: int) -> Decision:
    task_name = task_list(frame.plan, frame.run.planned)[message.task_index][1]
    before = frame.run.tasks[message.task_index]
    state = msgspec.structs.replace(
        before, status="RUNNING", started_ms=before.started_ms or frame.now_ms, attempts=before.attempts + 1
    )
    decision = Decision(keeps_entry=True)
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(own=terms.owner, att=entry.att + 1, parked="")))
    decision.defers[message.name] = frame.now_ms + rules.lease_ms
    _set_task(decision, frame, message.task_index, state)
    if not before.started_ms and terms.timeout_ms is not None:
        decision.owes.append(Owed(_timer(message, "task"), frame.now_ms + terms.timeout_ms))
    told = {"task": task_name, "attempt": state.attempts, "worker": terms.owner.rsplit("/", 1)[0]}
    decision.events.append(Event("task.started", frame.plan.ref, told))
    decision.call = ClaimedTask(message, frame, entry.att + 1, entry.lost, number, state, task_name)
    return decision


def _claimed_before(message: RunTask, frame: Frame, entry: Entry, number: int) -> Decision:
    """Go on with a claim whose EXEC was applied though its answer was lost."""
    task_name = task_list(frame.plan, frame.run.planned)[message.task_index][1]
    state = frame.run.tasks[message.task_index]
    claimed = ClaimedTask(message, frame, entry.att, entry.lost, number, state, task_name)
    return Decision(keeps_entry=True, call=claimed, note="claimed")


def record(message: RunTask, returned: TaskReturned) -> Handling:
    """Decide what the result of an attempt changes; nothing if the attempt has lost its claim."""
    run_key = places.run(message.thread)
    snapshot = yield opening(message, Hash(run_key), stage_fields(message.ref_id), watch=[run_key])
    if (late := _too_late(message, returned, snapshot)) is not None:
        return late
    entry = entry_of(snapshot, message)
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if returned.status == "SUSPENDED" and returned.sub_workflow is None:
        return (yield from _suspend(message, frame, entry, returned))
    if returned.status in ("RUNNING", "RETRY"):
        return _again(message, frame, entry, returned)
    return _ended(message, frame, entry, returned)


def _too_late(message: RunTask, returned: TaskReturned, snapshot: Snapshot) -> Decision | None:
    """Return the decision for a result that does not count any more: a lost claim, or a run that has ended."""
    entry, workflow = entry_of(snapshot, message), workflow_of(snapshot)
    if not entry.exists:
        return nothing("the result comes too late: nothing is owed any more")
    if entry.att != returned.attempt:
        return nothing(f"attempt {returned.attempt} lost its claim to attempt {entry.att}")
    if not workflow.exists:
        return Decision(note="the workflow is gone")
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.is_ended or not workflow.is_live:
        return _after_the_end(frame, entry, has_returned=True)
    return _after_the_outcome(frame, entry, has_returned=True) if frame.run.outcome else None


def park(message: RunTask, reason: str, again_after_ms: int) -> Handling:
    """Decide to let a task rest whose type this worker does not know: visible, and tried again for ever."""
    snapshot = yield opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    entry = entry_of(snapshot, message)
    if entry.own:
        return nothing(f"claimed by {entry.own}")
    at_ms = snapshot.now_ms + again_after_ms
    decision = Decision(keeps_entry=True, note=reason)
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(parked=reason, nb=at_ms, pub=0)))
    decision.defers[message.name] = at_ms
    if entry.parked != reason:
        decision.events.append(Event("task.parked", message.ref_id, {"reason": reason}))
    return decision


def _ended(message: RunTask, frame: Frame, entry: Entry, returned: TaskReturned) -> Decision:
    if returned.status == "REDIRECT" and (frame.run.instance is not None or frame.plan.owner is not None):
        kind = "an instance" if frame.run.instance is not None else "a before or after stage"
        told = f"jump to {returned.target!r}: {kind} cannot jump (wcp 1.9)"
        returned = TaskReturned(returned.attempt, "TERMINAL", error={"type": "RedirectError", "message": told})
    decision = Decision(forgets=[timer_name("task", message.thread, message.instance, message.task_index)])
    status = "SUCCEEDED" if returned.status == "REDIRECT" else returned.status
    if returned.sub_workflow is not None:
        status = "RUNNING"
    _merge(decision, frame, message.task_index, returned, status)
    if returned.sub_workflow is not None:
        decision.forgets.clear()
        set_run(decision, frame.thread, att=entry.att + 1)
        call_sub_workflow(decision, frame, returned.sub_workflow)
    elif returned.status == "REDIRECT":
        set_run(decision, frame.thread, jump=returned.target or "", jump_context=returned.context)
        owe_completion(decision, frame)
    elif returned.status in ("TERMINAL", "STOPPED", "CANCELED"):
        reason = str(returned.error.get("message", "")) or f"task {message.task_type!r} answered {returned.status}"
        set_run(decision, frame.thread, outcome=returned.status, reason=reason)
        owe_completion(decision, frame)
    else:
        _next(decision, frame, message.task_index + 1)
    return decision


def _next(decision: Decision, frame: Frame, index: int) -> None:
    tasks = task_list(frame.plan, frame.run.planned)
    if index < len(tasks):
        set_run(decision, frame.thread, task_index=index, sub=None)
        decision.change(DeleteFields(places.run(frame.thread), ("signal", "payload")))
        owe_task(decision, frame, index, tasks[index][2])
    else:
        after_tasks(decision, frame, frame.run.planned)


def _again(message: RunTask, frame: Frame, entry: Entry, returned: TaskReturned) -> Decision:
    at_ms = frame.now_ms + returned.again_after_ms
    decision = Decision(keeps_entry=True, note=f"{returned.status}: again in {returned.again_after_ms} ms")
    key = places.ledger(message.name)
    decision.change(DeleteFields(key, ("own",)))
    decision.change(SetFields(key, ENTRY.encode(att=entry.att + 1, lost=0, nb=at_ms, pub=0)))
    decision.defers[message.name] = at_ms
    _merge(decision, frame, message.task_index, returned, "RUNNING")
    return decision


def _suspend(message: RunTask, frame: Frame, entry: Entry, returned: TaskReturned) -> Handling:
    box_key = places.signals(frame.plan.ref)
    position = _position(message)
    waiting = yield Read((Hash(box_key), position), (box_key,))
    box = SIGNALS.decode(waiting.hash(box_key))
    taken = next((kept for kept in box.kept if not returned.signal or kept.name == returned.signal), None)
    if taken is not None:
        return _take_kept(message, frame, entry, returned, box.kept, taken)
    decision = Decision(forgets=[timer_name("task", message.thread, message.instance, message.task_index)])
    _merge(decision, frame, message.task_index, returned, "SUSPENDED")
    deadline_ms = 0
    if returned.deadline_ms is not None:
        deadline_ms = frame.now_ms + returned.deadline_ms
        decision.owes.append(Owed(_timer(message, "wait"), deadline_ms))
    set_run(
        decision,
        frame.thread,
        status="SUSPENDED",
        att=entry.att + 1,
        waits=returned.signal,
        wait_deadline_ms=deadline_ms,
        paused_ms=frame.workflow.paused_ms,
    )
    waiter = Waiter(
        returned.signal,
        frame.thread,
        frame.run.instance,
        message.task_index,
        message.task_type,
        frame.now_ms,
        waiting[position] or 0,
        entry.q,
    )
    decision.change(SetFields(box_key, SIGNALS.encode(waiters=[*box.waiters, waiter])))
    decision.events.append(Event("stage.suspended", frame.plan.ref, {"signal": returned.signal}))
    return decision


def _take_kept(
    message: RunTask,
    frame: Frame,
    entry: Entry,
    returned: TaskReturned,
    kept: list[KeptSignal],
    taken: KeptSignal,
) -> Decision:
    now = TaskReturned(returned.attempt, "RUNNING", returned.context, returned.outputs)
    decision = _again(message, frame, entry, now)
    rest = list(kept)
    rest.remove(taken)
    decision.change(SetFields(places.signals(frame.plan.ref), {"kept": pack(rest)}))
    set_run(decision, frame.thread, signal=taken.name, payload=taken.payload)
    decision.nudges.append(message)
    decision.events.append(Event("stage.signaled", frame.plan.ref, {"signal": taken.name}))
    return decision


def _poisoned(message: RunTask, frame: Frame, entry: Entry) -> Decision:
    told = f"task {message.task_type!r} lost its worker {entry.lost} times in a row"
    lost = TaskReturned(entry.att, "TERMINAL", error={"type": "WorkerLost", "message": told})
    return _ended(message, frame, entry, lost)


def _after_the_end(frame: Frame, entry: Entry, *, has_returned: bool = False) -> Decision:
    """Handle a run that ended while its code ran: its lock is free once the code has returned (PROTOCOL 4.3)."""
    if entry.own and not has_returned:
        return nothing("the run has ended; its code may still run")
    decision = Decision(note=f"the run is {frame.run.status or 'gone'}")
    if frame.run.code_runs and frame.run.lock == "held":
        set_run(decision, frame.thread, lock="done", code_runs=False)
        release_lock(decision, frame)
    return decision


def _after_the_outcome(frame: Frame, entry: Entry, *, has_returned: bool = False) -> Decision:
    """Handle a run whose end is decided and owed: it gives its lock back once its code has returned."""
    if entry.own and not has_returned:
        return nothing("the run has failed; its code may still run")
    decision = Decision(note="the run has failed already")
    if frame.run.code_runs:
        set_run(decision, frame.thread, code_runs=False)
    return decision


def _merge(decision: Decision, frame: Frame, index: int, returned: TaskReturned, status: str) -> None:
    before = frame.run.tasks[index]
    is_over = status not in ("RUNNING", "SUSPENDED")
    state = msgspec.structs.replace(
        before,
        status=status,
        ended_ms=frame.now_ms if is_over else 0,
        polls=before.polls + (returned.status == "RUNNING"),
        retries=before.retries + 1 if returned.status == "RETRY" else 0,
        error=returned.error or before.error,
    )
    _set_task(decision, frame, index, state)
    if returned.context and returned.status != "REDIRECT":
        set_run(decision, frame.thread, context={**frame.run.context, **returned.context})
    if returned.outputs:
        set_run(decision, frame.thread, outputs={**frame.run.outputs, **returned.outputs})
    kind = "task.retried" if returned.status == "RETRY" else f"task.{_TOLD.get(status, status.lower())}"
    if returned.status != "RUNNING":
        told = {"task": task_list(frame.plan, frame.run.planned)[index][1]}
        if returned.error:
            told["error"] = str(returned.error.get("message", ""))[:500]
        decision.events.append(Event(kind, frame.plan.ref, told))


_TOLD = {"SUCCEEDED": "completed", "TERMINAL": "failed"}


def _set_task(decision: Decision, frame: Frame, index: int, state: TaskState) -> None:
    tasks = list(frame.run.tasks)
    tasks[index] = state
    set_run(decision, frame.thread, tasks=tasks)


def _timer(message: RunTask, scope: str) -> TimeOut:
    return TimeOut(
        workflow_id=message.workflow_id,
        scope=scope,
        ref_id=message.ref_id,
        thread=message.thread,
        task_index=message.task_index,
        instance=message.instance,
    )
