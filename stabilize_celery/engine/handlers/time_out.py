"""TimeOut: end what is still at work at its deadline (PROTOCOL 4.2). Time spent paused does not count.

Pure. Scopes: the workflow, a stage's run, a task over all its attempts, a wait for a signal.
"""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields, workflow_of
from stabilize_celery.engine.moves import Frame, finish_workflow, owe_completion, set_run
from stabilize_celery.engine.state import ENTRY, SIGNALS
from stabilize_celery.engine.steps import Decision, Event, Handling, Hash, SetFields, Snapshot
from stabilize_celery.models.messages import TimeOut, run_name

__all__ = ["handle"]


def handle(message: TimeOut, _rules: Rules, _attempt: int) -> Handling:
    """Decide whether the deadline has passed, and end what it bounds."""
    if message.scope == "workflow":
        return (yield from _workflow(message))
    run_key, box_key = places.run(message.thread), places.signals(message.ref_id)
    task_key = places.ledger(run_name(message.thread, message.instance, message.task_index))
    queries = (Hash(run_key), Hash(box_key), Hash(task_key), stage_fields(message.ref_id))
    snapshot = yield opening(message, *queries, watch=[run_key, box_key, task_key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.is_ended or frame.run.outcome or not _is_meant(message, frame):
        return Decision(note="what it bounded has ended")
    paused_ms = frame.workflow.paused_ms - frame.run.paused_ms
    if paused_ms > 0:
        return _later(message, frame, frame.now_ms + paused_ms)
    return _fail(message, frame, snapshot)


def _is_meant(message: TimeOut, frame: Frame) -> bool:
    if message.scope == "stage":
        return True
    if message.task_index != frame.run.task_index:
        return False
    return message.scope == "task" or frame.run.status == "SUSPENDED"


def _workflow(message: TimeOut) -> Handling:
    snapshot = yield opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    record = workflow_of(snapshot)
    if record.status == "PAUSED":
        return _defer(message, snapshot.now_ms + 60_000)
    decision = Decision()
    told = "the workflow's time-out has passed"
    finish_workflow(decision, message.workflow_id, record, "TERMINAL", snapshot.now_ms, reason=told)
    return decision


def _later(message: TimeOut, frame: Frame, at_ms: int) -> Decision:
    decision = _defer(message, at_ms)
    set_run(decision, frame.thread, paused_ms=frame.workflow.paused_ms)
    return decision


def _defer(message: TimeOut, at_ms: int) -> Decision:
    decision = Decision(keeps_entry=True, note="paused time does not count")
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(nb=at_ms, pub=0)))
    decision.defers[message.name] = at_ms
    return decision


def _fail(message: TimeOut, frame: Frame, snapshot: Snapshot) -> Decision:
    box_key = places.signals(message.ref_id)
    task_name = run_name(message.thread, message.instance, message.task_index)
    box, entry = SIGNALS.decode(snapshot.hash(box_key)), ENTRY.decode(snapshot.hash(places.ledger(task_name)))
    told = _told(message, frame)
    decision = Decision(events=[Event("stage.timed_out", message.ref_id, {"reason": told})])
    set_run(decision, frame.thread, status="RUNNING", outcome="TERMINAL", reason=told, waits="")
    if any(waiter.thread == frame.thread for waiter in box.waiters):
        rest = [waiter for waiter in box.waiters if waiter.thread != frame.thread]
        decision.change(SetFields(box_key, SIGNALS.encode(waiters=rest)))
    if entry.own and frame.run.lock == "held":
        set_run(decision, frame.thread, code_runs=True)
        decision.change(SetFields(places.ledger(task_name), ENTRY.encode(cx=True)))
    else:
        decision.forgets.append(task_name)
    owe_completion(decision, frame)
    return decision


def _told(message: TimeOut, frame: Frame) -> str:
    if message.scope == "wait":
        return f"nobody sent the signal {frame.run.waits!r} before its deadline"
    seconds = (frame.now_ms - frame.run.started_ms) / 1000
    return f"the {message.scope} timed out after {seconds:.1f} s"
