"""A Celery app of a producer's own, to publish with: it knows no tasks and is never the current app."""

from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

from celery import Celery

from stabilize_celery.errors import QueueError
from stabilize_celery.settings import Settings
from stabilize_celery.transport.publish import CeleryPublisher

__all__ = ["ProducerPublisher", "broker_url_of"]


class ProducerPublisher(CeleryPublisher):
    """Publishes to a broker by its URL; connects at the first message.

    Args:
        broker_url: As Celery takes it, or a Redis URL as the store takes it.

    """

    def __init__(self, broker_url: str, settings: Settings) -> None:
        self.app = Celery("stabilize-producer", broker=broker_url_of(broker_url), set_as_current=False)
        self.app.conf.update(task_ignore_result=True, **_timeouts(broker_url, settings.socket_timeout_ms / 1000))
        super().__init__(self.app)

    def handled(self, workers: int, timeout_s: float) -> Counter[str]:
        """Return how many messages workers have taken since they started, by Celery task, as they tell themselves.

        Args:
            workers: Stop listening after so many have answered (count).
            timeout_s: Stop listening after so long (s).

        """
        told = self.app.control.inspect(timeout=timeout_s, limit=workers).stats() or {}
        counts: Counter[str] = Counter()
        for stats in told.values():
            counts.update(stats.get("total", {}))
        return counts

    def check(self) -> None:
        """Connect to the broker.

        Raises:
            QueueError: it does not answer.

        """
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
        except Exception as error:
            # Each broker's client has errors of its own.
            raise QueueError("the broker does not answer", cause=error) from error

    def close(self) -> None:
        """Close its connections."""
        self.app.close()


def broker_url_of(url: str) -> str:
    """Return a broker's URL for kombu; `unix://PATH?db=N` is spelled otherwise there."""
    if not url.startswith("unix://"):
        return url
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


def _timeouts(broker_url: str, seconds: float) -> dict[str, Any]:
    if not broker_url.startswith(("redis://", "rediss://")):
        return {"broker_connection_timeout": seconds}
    options = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "socket_keepalive": True}
    return {"broker_connection_timeout": seconds, "broker_transport_options": options}
