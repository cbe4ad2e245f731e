"""Putting messages on the broker through Celery."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError

from stabilize_celery.errors import QueueError, redact_url
from stabilize_celery.runtime.ports import Outgoing

__all__ = ["BATCH_SIZE", "CeleryPublisher", "queue_named", "task_name"]

BATCH_SIZE = 500
"""Messages per flush of a batch."""


def task_name(kind: str) -> str:
    """Return the name of the Celery task that handles messages of a kind."""
    return f"stabilize.{kind}"


def queue_named(app: Celery, name: str) -> Any:
    """Return the app's own queue of that name, or else a plain direct one (made known for publishing, not consumed)."""
    queues = app.amqp.queues
    if name not in queues:
        exchange = Exchange(name, type="direct")  # type: ignore[no-untyped-call]
        queues.add(Queue(name, exchange, routing_key=name))  # type: ignore[no-untyped-call]
    return queues[name]


class CeleryPublisher:
    """Publishes with an app's pooled producers; connects at the first message. Safe to share between threads."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Publish in order, as one batch where the broker can.

        Raises:
            QueueError: the broker did not take (all of) them; nothing was tried again.

        """
        if not batch:
            return
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                # Once, and not for the broker's whole connection timeout: who publishes has a keeper behind it.
                producer.connection.ensure_connection(max_retries=0)
                self._send(producer, batch)
        except self._broker_errors() as error:
            url = redact_url(self._app.connection_for_write().as_uri(include_password=False))
            raise QueueError(
                f"the broker at {url} did not take {len(batch)} message(s), first {batch[0].task_id}: {error}. "
                "They stay owed and are sent again; check that the broker runs.",
                cause=error,
            ) from error

    def _broker_errors(self) -> tuple[type[Exception], ...]:
        connection = self._app.connection_for_write()
        return (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)

    def _send(self, producer: Any, batch: Sequence[Outgoing]) -> None:
        if len(batch) > 1 and producer.supports_batch_publish:
            with producer.batch(max_size=BATCH_SIZE):
                self._send_each(producer, batch)
        else:
            self._send_each(producer, batch)

    def _send_each(self, producer: Any, batch: Sequence[Outgoing]) -> None:
        for message in batch:
            self._app.send_task(
                task_name(message.kind),
                kwargs=dict(message.kwargs),
                task_id=message.task_id,
                root_id=message.task_id,
                queue=queue_named(self._app, message.queue),
                producer=producer,
                retry=False,
                ignore_result=True,
                argsrepr="()",
                kwargsrepr=_readable(message.kwargs),
                add_to_parent=False,
                **({} if message.priority is None else {"priority": message.priority}),
            )


def _readable(kwargs: Mapping[str, Any]) -> str:
    """Return the kwargs as Flower and the log show them: whole, since they are ids only."""
    return repr(dict(kwargs))
