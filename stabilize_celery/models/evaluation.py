"""What a definition says, and can't be evaluated when a run comes to it: its stage fails, closed (wcp 1.4)."""

from stabilize_celery.errors import StabilizeError

__all__ = ["EvaluationError"]


class EvaluationError(StabilizeError):
    """A condition, a reducer, a number of instances or a call that says nothing usable; the text says which and why."""
