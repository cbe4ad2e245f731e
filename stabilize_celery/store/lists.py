"""Lists of a Redis that is the broker: taken from at one end, put back at the same."""

from stabilize_celery.store.connection import RedisWire
from stabilize_celery.store.queries import bytes_of
from stabilize_celery.store.session import refusal, unreachable
from stabilize_celery.store.wire import Batch, Command, LinkLostError, Refused, Reply

__all__ = ["Lists"]


class Lists:
    """Lists by name. May be used by many threads, and after a fork.

    Args:
        wire: Connections to the broker's server and database.

    """

    def __init__(self, wire: RedisWire) -> None:
        self._wire = wire

    def take(self, name: str) -> bytes | None:
        """Take the item off a list that has been there for longest; None: it is empty.

        If the answer is lost, so is the item.

        Raises:
            UnreachableError: the server is away.

        """
        reply = self._one(name, ("RPOP", name))
        return None if reply is None else bytes_of(reply)

    def put_back(self, name: str, item: bytes) -> None:
        """Make an item the next one to be taken.

        Raises:
            UnreachableError: the server is away; the item may be lost.

        """
        self._one(name, ("RPUSH", name, item))

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    def _one(self, name: str, command: Command) -> Reply:
        try:
            ((reply,),) = self._wire.gather([Batch(name, [command])])
        except LinkLostError as lost:
            raise unreachable(self._wire, lost) from None
        if isinstance(reply, Refused):
            raise refusal(reply)
        return reply
