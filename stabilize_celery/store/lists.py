"""Lists of a Redis that is the broker: taken from at one end, put back at the same."""

from collections.abc import Sequence

from stabilize_celery.store.connection import RedisWire
from stabilize_celery.store.contract import Peek
from stabilize_celery.store.queries import int_of, popped_of
from stabilize_celery.store.session import refusal, unreachable
from stabilize_celery.store.wire import Batch, Command, LinkLostError, Refused, Reply

__all__ = ["Lists"]

_AT_ONCE_S = 0.001
"""The shortest wait that BRPOP knows (s): one look at many lists."""


class Lists:
    """Lists by name. May be used by many threads, and after a fork.

    Args:
        wire: Connections to the broker's server and database.

    """

    def __init__(self, wire: RedisWire) -> None:
        self._wire = wire

    def take(self, names: Sequence[str], wait_s: float = 0.0, others: Peek | None = None) -> tuple[str, bytes] | None:
        """Take the item that has been there for longest off the first list that has one.

        If the answer is lost, so is the item.

        Args:
            names: Of the lists; the first one that has an item.
            wait_s: How long to wait for one while all are empty; None is returned then. At most `MAX_BLOCK_MS`.
            others: What is looked at behind that, in the same round trip.

        Raises:
            UnreachableError: the server is away.

        """
        commands: list[Command] = [("BRPOP", *names, f"{max(wait_s, _AT_ONCE_S):.3f}")]
        if others is not None:
            commands.append(("EXISTS", *others.lists))
        reply, *waiting = self._replies(Batch(names[0], commands), wait_s)
        taken = None if reply is None else popped_of(_unless_refused(reply))
        if others is not None:
            if isinstance(waiting[0], Refused) and taken is not None:
                self.put_back(*taken)
            others.waiting = int_of(_unless_refused(waiting[0]))
        return taken

    def put_back(self, name: str, item: bytes) -> None:
        """Make an item the next one to be taken.

        Raises:
            UnreachableError: the server is away; the item may be lost.

        """
        _unless_refused(self._replies(Batch(name, [("RPUSH", name, item)]))[0])

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    def _replies(self, batch: Batch, wait_s: float = 0.0) -> Sequence[Reply]:
        try:
            return self._wire.wait(batch, int(1000 * wait_s)) if wait_s else self._wire.gather([batch])[0]
        except LinkLostError as lost:
            raise unreachable(self._wire, lost) from None


def _unless_refused(reply: Reply) -> Reply:
    if isinstance(reply, Refused):
        raise refusal(reply)
    return reply
