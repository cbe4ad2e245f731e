"""ReleaseLock: give a mutex back and hand it over (PROTOCOL 8 Unlock). Works whatever became of the workflow.

Pure. Release and hand-over are one EXEC in the lock's slot, so nobody can barge in; forgotten last.
"""

from stabilize_celery.engine.handler import Rules, guard, opening, workflow_of
from stabilize_celery.engine.locks import Owner, give_back
from stabilize_celery.engine.steps import Decision, Event, Handling
from stabilize_celery.models.messages import ReleaseLock

__all__ = ["handle"]


def handle(message: ReleaseLock, _rules: Rules, _attempt: int) -> Handling:
    """Decide who holds the lock next."""
    snapshot = yield opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    yield from give_back(message.lock, Owner(message.workflow_id, message.thread, message.request))
    if not workflow_of(snapshot).exists:
        return Decision()
    return Decision(events=[Event("lock.released", message.ref_id, {"lock": message.lock})])
