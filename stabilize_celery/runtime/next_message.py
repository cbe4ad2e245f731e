"""The next message: the last commit of a delivery may take it off the broker's lists in its own EXEC (decision 015)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from stabilize_celery.store.contract import Take, Transaction

__all__ = ["NextMessage", "has_next", "taking_next", "with_next"]


class NextMessage:
    """What is taken while one message is handled.

    Args:
        wants: Says what may be taken at that moment; None: nothing.

    """

    def __init__(self, wants: Callable[[], Take | None]) -> None:
        self._wants = wants
        self._take: Take | None = None

    @property
    def taken(self) -> tuple[str, bytes] | None:
        """The list and the text of what was taken; None: nothing was."""
        return self._take.taken if self._take is not None else None

    def wanted(self) -> Take | None:
        """Return what to take now: one message at most."""
        if self.taken is not None:
            return None
        self._take = self._wants()
        return self._take


_next: ContextVar[NextMessage | None] = ContextVar("stabilize_celery_next_message", default=None)


@contextmanager
def taking_next(message: NextMessage) -> Iterator[None]:
    """Let the last commit of what is handled inside, on this thread, take the next message."""
    token = _next.set(message)
    try:
        yield
    finally:
        _next.reset(token)


def with_next(transaction: Transaction) -> Transaction:
    """Return the last transaction of a delivery, which takes the next message if this thread wants one.

    No code of users may run behind it before the delivery ends: the message would wait for that.
    """
    message = _next.get()
    take = message.wanted() if message is not None else None
    return transaction if take is None else msgspec.structs.replace(transaction, take=take)


def has_next() -> bool:
    """Whether the next message has been taken already."""
    message = _next.get()
    return message is not None and message.taken is not None
