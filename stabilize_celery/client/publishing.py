"""Publishers for producers."""

from collections.abc import Sequence
from typing import NoReturn

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.runtime.ports import Outgoing, Publisher, RidingPublisher
from stabilize_celery.store.contract import Post

__all__ = ["BatchPublisher", "NoBroker"]


class BatchPublisher:
    """Keeps what is published until `flush`, which publishes all of it as one batch.

    What can be part of a commit is not kept: it is sent at once, at no cost.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._rider = publisher if isinstance(publisher, RidingPublisher) else None
        self._kept: list[Outgoing] = []

    def riding(self, batch: Sequence[Outgoing]) -> Sequence[Post] | None:
        """Return what a commit writes to send a batch; None: it has to be published after it."""
        return None if self._rider is None else self._rider.riding(batch)

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Keep the messages."""
        self._kept.extend(batch)

    def flush(self) -> None:
        """Publish what was kept.

        Raises:
            QueueError: the broker did not take (all of) it; it stays owed and is published by the workers.

        """
        kept, self._kept = self._kept, []
        if kept:
            self._publisher.publish(kept)


class NoBroker:
    """Stands for the broker that nobody named where the state's server can be none: who only looks needs none.

    Whatever would be sent is refused before it is committed.
    """

    def __init__(self, error: ConfigurationError) -> None:
        self._error = error

    def riding(self, batch: Sequence[Outgoing]) -> NoReturn:  # noqa: ARG002 - the port's signature
        """Raise ConfigurationError: it says what to set."""
        raise self._error

    def publish(self, batch: Sequence[Outgoing]) -> NoReturn:  # noqa: ARG002 - the port's signature
        """Raise ConfigurationError: it says what to set."""
        raise self._error
