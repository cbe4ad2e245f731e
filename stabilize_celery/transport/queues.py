"""How long the broker's queues are, on any broker that tells it."""

from collections.abc import Iterable
from typing import Any

from celery import Celery

from stabilize_celery.errors import QueueError, redact_url
from stabilize_celery.settings import Settings
from stabilize_celery.store.pools import no_retries
from stabilize_celery.transport.producer import ProducerPublisher

__all__ = ["lengths_on", "queue_lengths"]


def queue_lengths(broker_url: str, settings: Settings, queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages wait in each queue of a broker; see `lengths_on`.

    Raises:
        QueueError: the broker does not answer.
        ConfigurationError: Celery can't use such a broker.

    """
    producer = ProducerPublisher(broker_url, settings)
    try:
        return lengths_on(producer.app, settings, queues)
    finally:
        producer.close()


def lengths_on(app: Celery, settings: Settings, queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages wait in each queue for a worker (count); one that does not exist has none.

    Messages that a worker has fetched already don't count.

    Args:
        app: Whose broker it is, with all that its configuration says of it.
        settings: How long the broker may take to answer.
        queues: Their names.

    Raises:
        QueueError: the broker does not answer.

    """
    timeout_s = settings.socket_timeout_ms / 1000
    try:
        with app.connection_for_read() as connection:
            _limit_waiting(connection, timeout_s)
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout_s)
            return {queue: _length(connection, queue) for queue in queues}
    except Exception as error:
        # Each broker's client has errors of its own.
        told = f"the broker at {redact_url(str(app.conf.broker_read_url))} does not say how long its queues are"
        raise QueueError(told, cause=error) from error


def _limit_waiting(connection: Any, timeout_s: float) -> None:
    """Let no answer take longer, on a connection that is not used yet; only a Redis may let one wait without end."""
    if connection.transport.driver_type != "redis":
        return
    limits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    options = {**connection.transport_options, **limits}
    if "master_name" in options:
        # A sentinel that hangs would be asked again and again.
        options["sentinel_kwargs"] = {**options.get("sentinel_kwargs", {}), **limits, "retry": no_retries()}
    connection.transport_options = options


def _length(connection: Any, queue: str) -> int:
    # On a Redis a declaration creates nothing, and kombu looks for a list that must be there without its prefix.
    must_exist = connection.transport.driver_type != "redis"
    # A refused declaration closes the channel: each queue gets one of its own.
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue, passive=must_exist).message_count)
        except connection.channel_errors:
            return 0
