"""Do those who stand in a lock still hold it, or wait for it? Who does not is taken out (PROTOCOL 8, 11).

Who waits audits the holders itself, every few minutes; this is for those who can't wait, and for locks that nobody
waits for.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import end_code, release_slot
from stabilize_celery.engine.handler import stage_fields
from stabilize_celery.engine.locks import Owner, give_back, has_let_go
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.rooms import inside, owe_leaving, section_thread
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, Room, Run, WorkflowRecord
from stabilize_celery.engine.steps import Decision, Event, Fields, Handling, Hash, Members, Read, Snapshot
from stabilize_celery.models.messages import run_name
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.inspection import Inspected

__all__ = ["audit_owner"]

_LIVE = Members(places.LIVE)
_RECORD = Hash(places.WORKFLOW)
_KEPT = Fields(places.COUNTERS, ("kept",))


def audit_owner(lock: str, name: str, *, mends: bool) -> Handling:
    """Decide about one who stands in a lock, in its own workflow's slot; the decision's `call` is an `Inspected`.

    Args:
        lock: The lock's full name, `SCOPE:key`.
        name: The owner's name, as it stands in the lock.
        mends: Whether it is taken out of the lock at once, on the way to the decision.

    """
    owner = Owner.parse(name)
    key = Hash(places.run(owner.thread))
    unlock = Hash(places.ledger(f"Unlock:{owner.thread}#{owner.request}"))
    seen = yield Read((_RECORD, key, unlock), (places.WORKFLOW, key.key, unlock.key))
    record, run = WORKFLOW_RECORD.decode(seen[_RECORD]), RUN.decode(seen[key])
    if seen[unlock]:
        return Decision(keeps_entry=True, call=Inspected())
    if has_let_go(owner, record, run):
        told = f"{lock} is held or waited for by {name}, which has ended or is gone"
        if mends:
            yield from give_back(lock, owner)
        found = Finding("lock", owner.workflow_id, told, "take it out of the lock", run.ref)
        return Decision(keeps_entry=True, call=Inspected((found,)))
    if not owner.thread:
        return (yield from _slot(lock, owner, record))
    if run.lock == "held" and (frame := (yield from _forgotten(owner, record, run))) is not None:
        return _released(lock, frame)
    return Decision(keeps_entry=True, call=Inspected())


def _slot(lock: str, owner: Owner, record: WorkflowRecord) -> Handling:
    """Find a slot of a pipeline that an ended workflow has kept, though nothing of it is at work any more."""
    decision = Decision(keeps_entry=True, call=Inspected())
    if record.is_live or record.lock_state != "held":
        return decision
    clear, leave = (Hash(places.ledger(name)) for name in ("Clear", "Leave:"))
    seen = yield Read((clear, leave, _LIVE, _KEPT), (clear.key, leave.key, places.LIVE, places.COUNTERS))
    if not (seen[clear] or seen[leave] or seen[_LIVE] or int(seen[_KEPT].get("kept", b"0")) > 0):
        release_slot(decision, owner.workflow_id, record)
        told = f"{lock} is held by {owner.workflow_id}, which has ended"
        decision.events.append(Event("workflow.repaired", "", {"found": told, "done": "give it back"}))
        decision.call = Inspected((Finding("lock", owner.workflow_id, told, "give it back"),))
    return decision


def _forgotten(owner: Owner, record: WorkflowRecord, run: Run) -> Generator[Read, Snapshot, Frame | None]:
    """Return a run or section that holds a lock though nobody is at work under it any more, if nothing is owed to it.

    That is what would give the lock back; None: all is well.
    """
    names = (run_name(owner.thread, None, run.task_index), "Clear", f"Leave:{owner.thread}")
    task, clear, leave = (Hash(places.ledger(name)) for name in names)
    room, fields = Hash(places.room(owner.thread)), stage_fields(run.ref)
    watch = (task.key, clear.key, leave.key, room.key, places.LIVE)
    seen = yield Read((task, clear, leave, room, fields, _LIVE), watch)
    if seen[leave] or seen[clear] or not seen[fields]:
        return None
    plan = decode_plan(seen[fields][f"s:{run.ref}"])
    is_section = owner.thread == section_thread(plan.mutex_section)
    is_at_work = run.code_runs and bool(seen[task]) if run.is_ended else owner.thread in seen[_LIVE] or record.is_live
    if inside(seen[room], record) > 0 or (is_at_work and not is_section):
        return None
    return Frame(owner.workflow_id, seen.now_us, record, plan, owner.thread, run)


def _released(lock: str, frame: Frame) -> Decision:
    run = frame.run
    told = f"{lock} is held by a run of stage {run.ref!r} that has ended"
    decision = Decision(keeps_entry=True)
    if run.code_runs:
        end_code(decision, frame)
    else:
        owe_leaving(decision, frame.workflow_id, Room(frame.thread, run.ref))
    decision.events.append(Event("workflow.repaired", run.ref, {"found": told, "done": "give it back"}))
    decision.call = Inspected((Finding("lock", frame.workflow_id, told, "give it back", run.ref),))
    return decision
