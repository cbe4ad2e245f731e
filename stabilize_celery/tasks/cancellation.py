"""Cooperative cancellation: the runtime raises a flag, task code looks at it where it can stop well.

The flag is raised whenever what the code does will not count any more. Its reason begins with why: `CANCELLED`,
`TIMED_OUT`, or `CLAIM_LOST`. Only a cancelled task's `on_cancel` is called.
"""

from contextvars import ContextVar
from typing import ClassVar

from stabilize_celery.errors import ErrorCode, TaskError
from stabilize_celery.tasks.binding import Binding

__all__ = [
    "CANCELLED",
    "CLAIM_LOST",
    "TIMED_OUT",
    "CancellationToken",
    "TaskCancelledError",
    "bind_token",
    "current_cancellation_token",
    "is_cancellation_requested",
    "raise_if_cancellation_requested",
]


CANCELLED = "cancelled"
"""Begins the reason where the stage, its region, instance or workflow was cancelled, or withdrawn in another way."""
TIMED_OUT = "timed out"
"""Begins the reason where the execution, the task or the stage took longer than it may."""
CLAIM_LOST = "claim lost"
"""Begins the reason where the task was given to another worker: that one's result counts."""


class TaskCancelledError(TaskError):
    """The task stopped because it was asked to; never retried."""

    code = 203
    default_error_code: ClassVar[ErrorCode] = ErrorCode.USER_CODE_ERROR


class CancellationToken:
    """A flag that is raised once, with a reason; safe to raise from another thread or a signal handler."""

    # A plain attribute and no threading.Event: its lock could already be held by the code a signal handler interrupts.
    __slots__ = ("_reason",)

    def __init__(self) -> None:
        self._reason: str | None = None

    def cancel(self, reason: str = "canceled") -> None:
        """Raise the flag; the first reason stays."""
        if self._reason is None:
            self._reason = reason

    @property
    def is_cancelled(self) -> bool:
        """Whether the flag is raised."""
        return self._reason is not None

    @property
    def reason(self) -> str | None:
        """Why the flag was raised; None as long as it is not."""
        return self._reason

    def raise_if_cancelled(self) -> None:
        """Raise `TaskCancelledError` with the reason if the flag is raised."""
        if self._reason is not None:
            raise TaskCancelledError(f"stopped on request: {self._reason}")


_TOKEN: ContextVar[CancellationToken | None] = ContextVar("stabilize_celery_cancellation", default=None)


def bind_token(token: CancellationToken | None) -> Binding[CancellationToken | None]:
    """Make `token` the one that task code inside the block looks at; None: it looks at none."""
    return Binding(_TOKEN, token)


def current_cancellation_token() -> CancellationToken | None:
    """Return the current call's token, to hand to threads that the task starts; None outside a call."""
    return _TOKEN.get()


def is_cancellation_requested() -> bool:
    """Return whether the current call was asked to stop; False outside a call."""
    token = _TOKEN.get()
    return token is not None and token.is_cancelled


def raise_if_cancellation_requested() -> None:
    """Raise `TaskCancelledError` if the current call was asked to stop."""
    token = _TOKEN.get()
    if token is not None:
        token.raise_if_cancelled()
