"""LeaveLock: the last one whom a lock covers may have left: give it back (WCP-39; PROTOCOL 8). Pure, level-triggered.

The lock is a section's, that of a run that has ended before all that was part of it, or the slot of its pipeline that
an ended workflow has kept for code that was still running.
"""

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import release_lock, release_slot
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields, workflow_of
from stabilize_celery.engine.moves import set_run
from stabilize_celery.engine.rooms import count_kept, inside, owe_look_at_slot, section_thread
from stabilize_celery.engine.steps import Decision, Fields, Handling, Hash, Members
from stabilize_celery.models.messages import LeaveLock

__all__ = ["handle"]


_LIVE = Members(places.LIVE)
_KEPT = Fields(places.COUNTERS, ("kept",))


def handle(message: LeaveLock, _rules: Rules, _attempt: int) -> Handling:
    """Decide whether anybody is inside."""
    if not message.thread:
        return (yield from _slot(message))
    run, room = Hash(places.run(message.thread)), Hash(places.room(message.thread))
    snapshot = yield opening(message, run, room, stage_fields(message.ref_id), watch=[run.key, room.key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.lock not in ("requested", "held"):
        return Decision(note="it holds no lock")
    is_section = message.thread == section_thread(frame.plan.mutex_section)
    has_ended = is_section or (frame.run.is_ended and not frame.run.code_runs)
    if not has_ended or inside(snapshot[room], frame.workflow) > 0:
        return Decision(note="there is still something at work under the lock")
    decision = Decision()
    release_lock(decision, frame)
    set_run(decision, frame.thread, lock="done", **({"status": "SUCCEEDED"} if is_section else {}))
    count_kept(decision, -1)
    owe_look_at_slot(decision, frame.workflow_id, frame.workflow)
    return decision


def _slot(message: LeaveLock) -> Handling:
    snapshot = yield opening(message, _LIVE, _KEPT, watch=[places.LIVE, places.COUNTERS])
    if (early := guard(message, snapshot)) is not None:
        return early
    record = workflow_of(snapshot)
    if record.is_live or record.lock_state != "held":
        return Decision(note="it has no slot to give back")
    if snapshot[_LIVE] or int(snapshot[_KEPT].get("kept", b"0")) > 0:
        return Decision(note="something of the workflow is still at work")
    decision = Decision()
    release_slot(decision, message.workflow_id, record)
    return decision
