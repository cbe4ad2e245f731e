"""Do those who stand in a lock still hold it, or wait for it? Who does not is taken out (PROTOCOL 8, 11).

Who waits audits the holders itself, every few minutes; this is for those who can't wait, and for locks that nobody
waits for.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import stage_fields
from stabilize_celery.engine.locks import Owner, give_back
from stabilize_celery.engine.moves import set_run
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, Run, WorkflowRecord
from stabilize_celery.engine.steps import Decision, Event, Handling, Hash, Members, Owed, Read, Snapshot
from stabilize_celery.models.messages import ReleaseLock, run_name
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.inspection import Inspected

__all__ = ["audit_owner"]

_LIVE = Members(places.LIVE)
_RECORD = Hash(places.WORKFLOW)


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
    if _has_let_go(owner, record, run):
        told = f"{lock} is held or waited for by {name}, which has ended or is gone"
        if mends:
            yield from give_back(lock, owner)
        found = Finding("lock", owner.workflow_id, told, "take it out of the lock", run.ref)
        return Decision(keeps_entry=True, call=Inspected((found,)))
    if owner.thread and run.lock == "held" and (yield from _is_forgotten(owner, record, run)):
        return _released(lock, owner, run)
    return Decision(keeps_entry=True, call=Inspected())


def _has_let_go(owner: Owner, record: WorkflowRecord, run: Run) -> bool:
    """Return whether an owner is done with its lock: that never changes back."""
    if not record.exists:
        return True
    if not owner.thread:
        return record.lock_state in ("", "done")
    return run.lock in ("", "done") or run.request != owner.request


def _is_forgotten(owner: Owner, record: WorkflowRecord, run: Run) -> Generator[Read, Snapshot, bool]:
    """Return whether a run holds a lock though it has ended, and nothing is owed that would give it back."""
    task, clear = (Hash(places.ledger(name)) for name in (run_name(owner.thread, None, run.task_index), "Clear"))
    seen = yield Read((task, clear, _LIVE, stage_fields(run.ref)), (task.key, clear.key, places.LIVE))
    if run.is_ended:
        return not (run.code_runs and seen[task])
    if record.is_live or seen[clear] or owner.thread in seen[_LIVE]:
        return False
    fields = seen[stage_fields(run.ref)]
    section = decode_plan(fields[f"s:{run.ref}"]).mutex_section if fields else ""
    leave = Hash(places.ledger(f"Leave:{section}"))
    return not (yield Read((leave,), (leave.key,)))[leave]


def _released(lock: str, owner: Owner, run: Run) -> Decision:
    told = f"{lock} is held by a run of stage {run.ref!r} that has ended"
    decision = Decision(keeps_entry=True)
    set_run(decision, owner.thread, lock="done", code_runs=False)
    message = ReleaseLock(
        workflow_id=owner.workflow_id, ref_id=run.ref, thread=owner.thread, request=owner.request, lock=lock
    )
    decision.owes.append(Owed(message))
    decision.events.append(Event("workflow.repaired", run.ref, {"found": told, "done": "give it back"}))
    decision.call = Inspected((Finding("lock", owner.workflow_id, told, "give it back", run.ref),))
    return decision
