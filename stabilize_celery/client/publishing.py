"""Publishers for producers."""

from collections.abc import Sequence

from stabilize_celery.runtime.ports import Outgoing, Publisher

__all__ = ["BatchPublisher"]


class BatchPublisher:
    """Keeps what is published until `flush`, which publishes all of it as one batch."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._kept: list[Outgoing] = []

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
