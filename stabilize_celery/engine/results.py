"""How the result of a task attempt is recorded (PROTOCOL 4.1 result, poll, retry, wait; 4.2; 4.3).

Pure. A result counts if `att` is unchanged since its claim; so it counts once, and what comes after a fence never does.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.endings import end_code
from stabilize_celery.engine.handler import (
    entry_of,
    frame_of,
    frame_of_rest,
    nothing,
    opening,
    stage_fields,
    workflow_of,
)
from stabilize_celery.engine.hooks import ON_TIMEOUT, ask_on_timeout, owe_last_time_out, task_at_work
from stabilize_celery.engine.moves import (
    Frame,
    after_tasks,
    call_sub_workflow,
    owe_completion,
    owe_task,
    set_run,
    task_list,
    tell_status,
)
from stabilize_celery.engine.state import ENTRY, SIGNALS, Entry, KeptSignal, Run, TaskState, Waiter
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
from stabilize_celery.engine.telling import whose
from stabilize_celery.models.messages import RunTask, TimeOut, timer_name

__all__ = [
    "TaskReturned",
    "TooLate",
    "after_the_end",
    "after_the_outcome",
    "deadline",
    "end_attempt",
    "expire",
    "position_of",
    "reads_of_result",
    "record",
    "set_task",
]


class TaskReturned(msgspec.Struct, frozen=True):
    """How an attempt ended; a local message that never travels. Durations in ms.

    `status`: what the task answered: SUCCEEDED, SKIPPED, FAILED_CONTINUE, RUNNING, SUSPENDED, TERMINAL, STOPPED,
    CANCELED, REDIRECT; RETRY for a transient failure with tries left; VERIFY for a success whose outputs (in `held`)
    can't be verified yet. `is_time_out`: it is what `on_timeout` answered. `is_disowned`: its code was asked to stop,
    as its claim was gone: what it says then is no news of the task.
    """

    attempt: int
    status: str
    context: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    target: str | None = None
    error: dict[str, Any] = {}
    again_after_ms: int = 0
    signal: str = ""
    deadline_ms: int | None = None
    sub_workflow: dict[str, Any] | None = None
    held: dict[str, Any] = {}
    is_time_out: bool = False
    is_disowned: bool = False


@dataclass(frozen=True, slots=True)
class TooLate:
    """Said (as `Decision.call`) of a result that does not count: its run has ended, or its claim was lost."""


def reads_of_result(message: RunTask) -> Read:
    """Return what a result is decided on."""
    run_key = places.run(message.thread)
    return opening(message, Hash(run_key), stage_fields(message.ref_id), watch=[run_key])


def record(message: RunTask, returned: TaskReturned) -> Handling:
    """Decide what the result of an attempt changes; nothing if the attempt has lost its claim."""
    snapshot = yield reads_of_result(message)
    entry = entry_of(snapshot, message)
    if (late := _too_late(message, returned, snapshot, entry)) is not None:
        late.call = TooLate()
        return late
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if entry.to and not returned.is_time_out:
        return _after_its_time(message, entry)
    if returned.status == "SUSPENDED" and returned.sub_workflow is None:
        return (yield from _suspend(message, frame, entry, returned))
    if returned.status in ("RUNNING", "RETRY", "VERIFY"):
        return _again(message, frame, entry, returned)
    return end_attempt(message, frame, entry, returned)


def expire(message: RunTask, returned: TaskReturned) -> Handling:
    """Decide about an execution that takes longer than it may, while its code goes on.

    Its `on_timeout` is asked, if it has one. Else `returned` counts, which is TERMINAL or RETRY, and what the code
    still returns comes too late; if a lock covers it, that waits for the code (PROTOCOL 4.3).
    """
    snapshot = yield reads_of_result(message)
    entry, workflow = entry_of(snapshot, message), workflow_of(snapshot)
    if entry.att != returned.attempt or not workflow.is_live:
        return nothing("it has ended, or lost its claim")
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    state = task_at_work(frame.run)
    if frame.run.is_ended or frame.run.outcome or state is None or entry.to:
        return nothing("its run has ended, or its time was over before")
    told = str(returned.error.get("message", ""))
    if ON_TIMEOUT in state.hooks:
        event = Event("stage.timed_out", message.ref_id, {"reason": told, **whose(message.thread)})
        decision = Decision(keeps_entry=True, events=[event])
        ask_on_timeout(decision, message, frame, entry, told)
        owe_last_time_out(decision, message, frame)
        return decision
    if returned.status == "RETRY":
        return _again(message, frame, entry, returned)
    decision = end_attempt(message, frame, entry, returned)
    if entry.own and frame.is_guarded:
        decision.keeps_entry = True
        decision.change(SetFields(places.ledger(message.name), ENTRY.encode(cx=True)))
        set_run(decision, frame.thread, code_runs=True)
    return decision


def _after_its_time(message: RunTask, entry: Entry) -> Decision:
    """Let go of an execution that has returned after its time: now `on_timeout` may be asked."""
    decision = Decision(keeps_entry=True, nudges=[message], note="the result comes too late: its time was over")
    key = places.ledger(message.name)
    decision.change(DeleteFields(key, ("own",)))
    decision.change(SetFields(key, ENTRY.encode(att=entry.att + 1, lost=0)))
    return decision


def _too_late(message: RunTask, returned: TaskReturned, snapshot: Snapshot, entry: Entry) -> Decision | None:
    """Return the decision for a result that does not count any more: a lost claim, or a run that has ended."""
    workflow = workflow_of(snapshot)
    if not entry.exists:
        return nothing("the result comes too late: nothing is owed any more")
    if entry.att != returned.attempt:
        return nothing(f"attempt {returned.attempt} lost its claim to attempt {entry.att}")
    if not workflow.exists:
        return Decision(note="the workflow is gone")
    if not workflow.is_live:
        rest = frame_of_rest(message.workflow_id, snapshot, message.ref_id, message.thread)
        return after_the_end(rest, entry, has_returned=True)
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.is_ended:
        return after_the_end(frame, entry, has_returned=True)
    if frame.run.outcome:
        return after_the_outcome(frame, entry, has_returned=True)
    is_given_away = returned.is_disowned and not entry.own
    return nothing("it was asked to stop, as its claim was gone; another attempt follows") if is_given_away else None


def after_the_end(frame: Frame, entry: Entry, *, has_returned: bool = False) -> Decision:
    """Handle a run that ended while its code ran: the locks that cover it wait for that (PROTOCOL 4.3)."""
    if entry.own and not has_returned:
        return nothing("the run has ended; its code may still run")
    decision = Decision(note=f"the run is {frame.run.status or 'gone'}")
    if frame.run.code_runs and frame.run.is_ended:
        end_code(decision, frame)
    elif frame.run.code_runs:
        set_run(decision, frame.thread, code_runs=False)
    return decision


def after_the_outcome(frame: Frame, entry: Entry, *, has_returned: bool = False) -> Decision:
    """Handle a run whose end is decided and owed: it gives its lock back once its code has returned."""
    if entry.own and not has_returned:
        return nothing("the run has failed; its code may still run")
    decision = Decision(note="the run has failed already")
    if frame.run.code_runs:
        set_run(decision, frame.thread, code_runs=False)
    return decision


def end_attempt(message: RunTask, frame: Frame, entry: Entry, returned: TaskReturned) -> Decision:
    """Decide what follows from an answer that ends the task, or calls an inner workflow."""
    if returned.status == "REDIRECT" and (frame.run.instance is not None or frame.plan.owner is not None):
        kind = "an instance" if frame.run.instance is not None else "a before or after stage"
        told = f"jump to {returned.target!r}: {kind} cannot jump (wcp 1.9)"
        returned = TaskReturned(returned.attempt, "TERMINAL", error={"type": "RedirectError", "message": told})
    decision = Decision(forgets=_deadlines(message, frame, entry))
    if frame.run.held:
        decision.change(DeleteFields(places.run(frame.thread), ("held",)))
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
    if index < len(tasks) and frame.run.late:
        set_run(decision, frame.thread, outcome="TERMINAL", reason=frame.run.late)
        owe_completion(decision, frame)
    elif index < len(tasks):
        set_run(decision, frame.thread, task_index=index, sub=None)
        decision.change(DeleteFields(places.run(frame.thread), ("signal", "payload")))
        owe_task(decision, frame, index, tasks[index].type)
    else:
        after_tasks(decision, frame, frame.run.planned)


def _again(message: RunTask, frame: Frame, entry: Entry, returned: TaskReturned) -> Decision:
    at_ms = frame.now_ms + returned.again_after_ms
    decision = Decision(keeps_entry=True, note=f"{returned.status}: again in {returned.again_after_ms} ms")
    key = places.ledger(message.name)
    decision.change(DeleteFields(key, ("own",)))
    decision.change(SetFields(key, ENTRY.encode(att=entry.att + 1, lost=0, nb=at_ms, pub=0)))
    if entry.tries:
        # Failures of ours count in a row: a task that polls for weeks must not collect them.
        decision.change(SetFields(key, ENTRY.encode(tries=0, error="")))
    decision.defers[message.name] = at_ms
    _merge(decision, frame, message.task_index, returned, "RUNNING")
    if returned.held:
        set_run(decision, frame.thread, held=returned.held)
    return decision


def _suspend(message: RunTask, frame: Frame, entry: Entry, returned: TaskReturned) -> Handling:
    box_key = places.signals(frame.plan.ref)
    position = position_of(message)
    waiting = yield Read((Hash(box_key), position), (box_key,))
    box = SIGNALS.decode(waiting.hash(box_key))
    taken = next((kept for kept in box.kept if _may_use(frame.run, kept, returned.signal)), None)
    if taken is not None:
        return _take_kept(message, frame, entry, returned, box.kept, taken)
    decision = Decision(forgets=_deadlines(message, frame, entry))
    _merge(decision, frame, message.task_index, returned, "SUSPENDED")
    deadline_ms = 0
    if returned.deadline_ms is not None:
        deadline_ms = frame.now_ms + returned.deadline_ms
        decision.owes.append(deadline(message, "wait", frame, deadline_ms))
    set_run(
        decision,
        frame.thread,
        status="SUSPENDED",
        att=entry.att + 1,
        waits=returned.signal,
        wait_deadline_ms=deadline_ms,
        **({"wait_paused_ms": frame.workflow.paused_ms} if frame.workflow.paused_ms else {}),
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
    decision.events.append(Event("stage.suspended", frame.plan.ref, {"signal": returned.signal, **whose(frame.thread)}))
    tell_status(decision, frame.workflow_id, frame.plan)
    return decision


def _may_use(run: Run, kept: KeptSignal, wanted: str) -> bool:
    return wanted in ("", kept.name) and kept.instance in (None, run.instance)


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
    decision.events.append(Event("stage.signaled", frame.plan.ref, {"signal": taken.name, **whose(frame.thread)}))
    return decision


def _deadlines(message: RunTask, frame: Frame, entry: Entry) -> list[str]:
    """Return the name of the time-out of all attempts of a task, if one may be owed."""
    state = frame.run.tasks[message.task_index]
    is_owed = state.has_deadline or ON_TIMEOUT in state.hooks or bool(entry.to)
    return [timer_name("task", message.thread, message.instance, message.task_index)] if is_owed else []


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
    set_task(decision, frame, index, state)
    if returned.context and returned.status != "REDIRECT":
        set_run(decision, frame.thread, context={**frame.run.context, **returned.context})
    if returned.outputs:
        set_run(decision, frame.thread, outputs={**frame.run.outputs, **returned.outputs})
    kind = "task.retried" if returned.status == "RETRY" else f"task.{_TOLD.get(status, status.lower())}"
    if returned.status not in ("RUNNING", "VERIFY"):
        told = {"task": task_list(frame.plan, frame.run.planned)[index].name, **whose(frame.thread)}
        if returned.error:
            told["error"] = str(returned.error.get("message", ""))[:500]
        decision.events.append(Event(kind, frame.plan.ref, told))


_TOLD = {"SUCCEEDED": "completed", "TERMINAL": "failed"}


def position_of(message: RunTask) -> Position:
    """Return the query for the run number; an instance has its run's."""
    return Position(places.started(message.ref_id), message.thread.partition(".")[0])


def set_task(decision: Decision, frame: Frame, index: int, state: TaskState) -> None:
    """Write the state of a task of a run."""
    tasks = list(frame.run.tasks)
    tasks[index] = state
    set_run(decision, frame.thread, tasks=tasks)


def deadline(message: RunTask, scope: str, frame: Frame, at_ms: int) -> Owed:
    """Return what is owed for the deadline of a task, or of its wait."""
    timer = TimeOut(
        workflow_id=message.workflow_id,
        scope=scope,
        ref_id=message.ref_id,
        thread=message.thread,
        task_index=message.task_index,
        instance=message.instance,
    )
    return Owed(timer, at_ms, fields=ENTRY.encode(paused_ms=frame.workflow.paused_ms))
