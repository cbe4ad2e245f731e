"""A Celery app of a producer's own, to publish with: it knows no tasks and is never the current app."""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from celery import Celery

from stabilize_celery.errors import QueueError
from stabilize_celery.settings import Settings
from stabilize_celery.transport.broker import broker_settings
from stabilize_celery.transport.publish import CeleryPublisher

__all__ = ["TAKEN", "ProducerPublisher"]

_NO_QUEUE = "stabilize.no-queue"
TAKEN = "stabilize.*"
"""Stands for all messages that processes took themselves, of whichever kind."""


class ProducerPublisher(CeleryPublisher):
    """Publishes to a broker by its URL; connects at the first message.

    Args:
        broker_url: As Celery takes it, or a Redis URL as the store takes it.
        state_url: Where workflows are kept; where that is the broker's server, commits send what follows from them.

    Raises:
        ConfigurationError: Celery can't use such a broker.

    """

    def __init__(self, broker_url: str, settings: Settings, state_url: str = "") -> None:
        chosen = broker_settings(broker_url, settings.socket_timeout_ms / 1000, settings.broker_options)
        self.app = Celery("stabilize-producer", broker=chosen["broker_url"], set_as_current=False)
        self.app.conf.update(task_ignore_result=True, **chosen)
        super().__init__(self.app, state_url)

    def handled(self, workers: Collection[str], timeout_s: float) -> Counter[str]:
        """Return how many messages workers have handled since they started, by Celery task, as they tell themselves.

        Those that processes took themselves, which Celery does not count, stand under `TAKEN`.

        Args:
            workers: Their names, without the host.
            timeout_s: Stop listening after so long, if not all have answered (s).

        """
        ours = "|".join(map(re.escape, workers))
        inspect = self.app.control.inspect(
            timeout=timeout_s, limit=len(workers), pattern=f"({ours})@.*", matcher="pcre"
        )
        told = inspect.stats() or {}
        counts: Counter[str] = Counter()
        for stats in told.values():
            counts.update(stats.get("total", {}))
            counts[TAKEN] += stats.get("stabilize", {}).get("taken", 0)
        return counts

    def check(self) -> None:
        """Connect to the broker, and see whether a Redis takes messages: one that is full still answers.

        Raises:
            QueueError: it does not answer, or takes none.

        """
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
                if connection.transport.driver_type == "redis":
                    _try_to_push(connection)
        except QueueError:
            raise
        except Exception as error:
            # Each broker's client has errors of its own.
            raise QueueError("the broker does not answer", cause=error) from error

    def close(self) -> None:
        """Close its connections."""
        self.app.close()


def _try_to_push(connection: Any) -> None:
    try:
        # Where there is no such list it adds nothing, and is refused as any message would be.
        connection.default_channel.client.lpushx(_NO_QUEUE, "")
    except connection.channel_errors as error:
        # Who may not do that knows nothing of what others may.
        if "permission" not in str(error):
            raise QueueError("the broker takes no messages", cause=error) from error
