"""FinalizeStage: the finalizers and clean-up hooks of an ended run have been run. Works whatever the workflow's status.

Pure: the runtime calls the hooks (user code) before this handler forgets the message, so they run at least once.
"""

from stabilize_celery.engine.handler import Rules, guard, opening
from stabilize_celery.engine.steps import Decision, Event, Handling
from stabilize_celery.engine.telling import whose
from stabilize_celery.models.messages import FinalizeStage

__all__ = ["handle"]


def handle(message: FinalizeStage, _rules: Rules, _attempt: int) -> Handling:
    """Decide that nothing more is owed to the run."""
    snapshot = yield opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    return Decision(events=[Event("stage.finalized", message.ref_id, {**whose(message.thread)})])
