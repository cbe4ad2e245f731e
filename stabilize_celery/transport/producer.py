"""A Celery app of a producer's own, to publish with: it knows no tasks and is never the current app."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from celery import Celery

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
