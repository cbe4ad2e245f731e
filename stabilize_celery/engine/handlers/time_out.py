"""TimeOut: end what is still at work at its deadline (PROTOCOL 4.2). Time spent paused does not count.

Pure. Scopes: the workflow, a stage's run, a task over all its attempts, a wait for a signal. A task that has an
`on_timeout` is asked first: this message comes again, and ends the task if that does not.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    finish_workflow,
)
from stabilize_celery.engine.handler import Rules, entry_of, frame_of, guard, opening, park, stage_fields, workflow_of
from stabilize_celery.engine.hooks import (
    ON_TIMEOUT,
    TIMEOUT_ANSWER_MS,
    ask_on_timeout,
    end_task,
    owe_last_time_out,
    task_at_work,
)
from stabilize_celery.engine.moves import Frame, owe_completion, set_run, task_list
from stabilize_celery.engine.state import ENTRY, SIGNALS, WORKFLOW_RECORD, Entry, SignalBox
from stabilize_celery.engine.steps import Decision, Event, Handling, Hash, Read, SetFields, Snapshot
from stabilize_celery.engine.telling import whose
from stabilize_celery.engine.waiters import forget_waiters
from stabilize_celery.models.messages import RunTask, TimeOut, run_name, timer_name

__all__ = ["handle"]


def handle(message: TimeOut, _rules: Rules, _attempt: int) -> Handling:
    """Decide whether the deadline has passed, and end what it bounds."""
    if message.scope == "workflow":
        return (yield from _workflow(message))
    run_key, box_key = places.run(message.thread), places.signals(message.ref_id)
    queries = (Hash(run_key), Hash(box_key), stage_fields(message.ref_id))
    snapshot = yield opening(message, *queries, watch=[run_key, box_key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    has_outcome = bool(frame.run.outcome) and not frame.run.is_at_after_stages
    if frame.run.is_ended or has_outcome or not _is_meant(message, frame):
        return Decision(note="what it bounded has ended")
    if frame.workflow.status == "PAUSED":
        return park(message, frame.workflow)
    own = entry_of(snapshot, message)
    known_ms = frame.run.paused_ms if own.paused_ms is None else own.paused_ms
    at_ms = own.nb + frame.workflow.paused_ms - known_ms
    if at_ms > frame.now_ms:
        return _put_off(message, at_ms, paused_ms=frame.workflow.paused_ms)
    return (yield from _fail(message, frame, SIGNALS.decode(snapshot.hash(box_key))))


def _is_meant(message: TimeOut, frame: Frame) -> bool:
    if message.scope == "stage":
        return not _has_done_its_work(frame)
    if message.task_index != frame.run.task_index:
        return False
    return message.scope == "task" or frame.run.status == "SUSPENDED"


def _has_done_its_work(frame: Frame) -> bool:
    """Return whether a run's last task has ended well and nothing is left but its completion, which is owed."""
    run = frame.run
    is_last = bool(run.tasks) and run.task_index == len(run.tasks) - 1
    return run.phase == "tasks" and is_last and run.tasks[-1].status in ("SUCCEEDED", "SKIPPED", "FAILED_CONTINUE")


def _workflow(message: TimeOut) -> Handling:
    snapshot = yield opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    record = workflow_of(snapshot)
    if record.status == "PAUSED":
        return park(message, record)
    at_ms = entry_of(snapshot, message).nb + record.paused_ms - record.paused_timed_ms
    if at_ms > snapshot.now_ms:
        decision = _put_off(message, at_ms)
        decision.change(SetFields(places.WORKFLOW, WORKFLOW_RECORD.encode(paused_timed_ms=record.paused_ms)))
        return decision
    decision = Decision()
    told = "the workflow's time-out has passed"
    finish_workflow(decision, message.workflow_id, record, "TERMINAL", snapshot.now_ms, reason=told)
    return decision


def _put_off(message: TimeOut, at_ms: int, **fields: int) -> Decision:
    decision = Decision(keeps_entry=True, note="paused time does not count")
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(nb=at_ms, pub=0, **fields)))
    decision.defers[message.name] = at_ms
    return decision


def _fail(message: TimeOut, frame: Frame, box: SignalBox) -> Generator[Read, Snapshot, Decision]:
    task_name = run_name(message.thread, message.instance, frame.run.task_index)
    task_key = places.ledger(task_name)
    entry: Entry = ENTRY.decode((yield Read((Hash(task_key),), (task_key,))).hash(task_key))
    told = entry.to or _told(message, frame)
    state = task_at_work(frame.run)
    if state is not None and ON_TIMEOUT in state.hooks and not entry.to:
        return _ask(message, frame, entry, box, told)
    if entry.to and message.scope == "stage":
        decision = Decision(note="the task's on_timeout is asked already")
        set_run(decision, frame.thread, late=_told(message, frame))
        return decision
    decision = Decision(events=[Event("stage.timed_out", message.ref_id, {"reason": told, **whose(message.thread)})])
    end_task(decision, frame, "TERMINAL", "TaskTimeoutError", told)
    set_run(decision, frame.thread, status="RUNNING", outcome="TERMINAL", reason=told, waits="")
    forget_waiters(decision, message.ref_id, box, frame.thread)
    if entry.own and frame.is_guarded:
        set_run(decision, frame.thread, code_runs=True)
        decision.change(SetFields(task_key, ENTRY.encode(cx=True)))
    else:
        decision.forgets.append(task_name)
    owe_completion(decision, frame)
    return decision


def _ask(message: TimeOut, frame: Frame, entry: Entry, box: SignalBox, told: str) -> Decision:
    """Have the task's own code say what its time-out means."""
    index = frame.run.task_index
    task = RunTask(
        workflow_id=message.workflow_id,
        ref_id=message.ref_id,
        thread=message.thread,
        task_index=index,
        task_type=task_list(frame.plan, frame.run.planned)[index].type,
    )
    if message.scope == "task":
        decision = _put_off(message, frame.now_ms + TIMEOUT_ANSWER_MS, paused_ms=frame.workflow.paused_ms)
    else:
        decision = Decision()
        owe_last_time_out(decision, task, frame)
    decision.note = "the task's on_timeout is asked"
    decision.events.append(Event("stage.timed_out", message.ref_id, {"reason": told, **whose(message.thread)}))
    if message.scope == "stage":
        set_run(decision, frame.thread, late=told)
        decision.forgets.append(timer_name("wait", message.thread, None, index))
    forget_waiters(decision, message.ref_id, box, frame.thread)
    ask_on_timeout(decision, task, frame, entry, told)
    return decision


def _told(message: TimeOut, frame: Frame) -> str:
    if message.scope == "wait":
        return f"nobody sent the signal {frame.run.waits!r} before its deadline"
    seconds = (frame.now_ms - frame.run.started_ms) / 1000
    return f"the {message.scope} timed out after {seconds:.1f} s"
