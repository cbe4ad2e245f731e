"""ReleaseLock: give a mutex back and hand it over (PROTOCOL 8 Unlock). Works whatever became of the workflow.

Pure. Release and hand-over are one EXEC in the lock's slot, so nobody can barge in; forgotten last.
"""

from stabilize_celery.engine.handler import Rules, entry_of, foreign, guard, opening, workflow_of
from stabilize_celery.engine.locks import Owner, give_back
from stabilize_celery.engine.steps import Decision, Event, Handling
from stabilize_celery.models.messages import ReleaseLock

__all__ = ["handle"]


def handle(message: ReleaseLock, _rules: Rules, _attempt: int) -> Handling:
    """Decide who holds the lock next."""
    snapshot = yield opening(message)
    is_gone = not workflow_of(snapshot).exists
    early = guard(message, snapshot)
    # What a workflow has left in another slot outlives it.
    entry = entry_of(snapshot, message)
    is_owed = entry.exists and foreign(message, snapshot, entry) is None
    if early is not None and not (is_gone and is_owed):
        return early
    yield from give_back(message.lock, Owner(message.workflow_id, message.thread, message.request))
    return Decision() if is_gone else Decision(events=[Event("lock.released", message.ref_id, {"lock": message.lock})])
