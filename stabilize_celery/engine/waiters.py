"""Who waits for a signal at a stage (PROTOCOL 9): a run that ends, or is woken, waits no longer."""

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.state import SignalBox
from stabilize_celery.engine.steps import Decision, SetFields

__all__ = ["forget_waiters"]


def forget_waiters(decision: Decision, ref_id: str, box: SignalBox, thread: str) -> None:
    """Take a run's waiters out of its stage's box, which the caller has read and WATCHed."""
    rest = [waiter for waiter in box.waiters if waiter.thread != thread]
    if len(rest) < len(box.waiters):
        decision.change(SetFields(places.signals(ref_id), {"waiters": pack(rest)}))
