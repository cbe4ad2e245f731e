"""Putting messages on the broker through Celery."""

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError

from stabilize_celery.errors import QueueError, redact_url
from stabilize_celery.runtime.lanes import queue_and_step
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.store.contract import Post
from stabilize_celery.transport.broker_place import databases_of_one_server, names_of_its_own
from stabilize_celery.transport.payloads import Payloads, readable

__all__ = [
    "BATCH_SIZE",
    "SUBMIT",
    "CeleryPublisher",
    "queue_named",
    "task_name",
]

BATCH_SIZE = 500
"""Messages per flush of a batch."""


SUBMIT = "SubmitWorkflow"
"""The kind of message by which programs that have only Celery start a workflow: no ledger knows of it yet."""


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


_WITH_LANES = ("redis", "memory")


class CeleryPublisher:
    """Publishes with an app's pooled producers; connects at the first message. Safe to share between threads.

    To a Redis it writes the lists itself, with messages as Celery makes them (`Payloads`); any other broker, and
    whatever is not plain, gets them through Celery and kombu.

    Args:
        state_url: Where workflows are kept; where that is the broker's server, commits send what follows from them.

    """

    def __init__(self, app: Celery, state_url: str = "") -> None:
        self._app = app
        self._payloads = Payloads(app, self._send_each)
        self._plain: dict[str, bool] = {}
        self._databases = databases_of_one_server(app, state_url)
        self._is_broker_there = self._databases is not None and self._databases[0] == self._databases[1]
        """Whether the broker's database has been reached: SELECT of one that does not exist would spoil a commit."""

    def riding(self, batch: Sequence[Outgoing]) -> Sequence[Post] | None:
        """Return what a commit writes to send a batch, if the state's server is the broker; None: it is not."""
        if self._databases is None or not self._is_broker_there:
            return None
        lists = self._posts(batch)
        return None if lists is None else [Post(queue, texts, self._databases) for queue, texts in lists.items()]

    def _posts(self, batch: Sequence[Outgoing]) -> dict[str, list[str]] | None:
        """Return what to push on which lists of a Redis that is the broker; None: it must go through Celery."""
        if not self._payloads.is_fit() or not all(map(self._is_plain, batch)):
            return None
        lists: dict[str, list[str]] = {}
        for message in batch:
            lists.setdefault(message.queue, []).append(self._payloads.of(message))
        return lists

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
            self._is_broker_there = True
        except self._broker_errors() as error:
            url = redact_url(self._app.connection_for_write().as_uri(include_password=False))
            count = "1 message" if len(batch) == 1 else f"{len(batch)} messages"
            raise QueueError(
                f"the broker at {url} did not take {count}, first {batch[0].task_id}. They stay owed "
                "and are sent again: check that the broker runs",
                cause=error,
            ) from error

    def _broker_errors(self) -> tuple[type[Exception], ...]:
        connection = self._app.connection_for_write()
        return (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)

    def _is_plain(self, message: Outgoing) -> bool:
        """Whether a lane is a list of that name, as far as kombu is concerned."""
        is_plain = self._plain.get(message.queue)
        if is_plain is None:
            queue = queue_named(self._app, queue_and_step(message.queue)[0])
            special = (queue.expires, queue.message_ttl, queue.max_length, queue.max_priority, queue.queue_arguments)
            is_direct = queue.exchange.type == "direct" and queue.routing_key == queue.name
            is_ours = not (any(special) or names_of_its_own(self._app))
            is_plain = self._plain[message.queue] = is_direct and is_ours
        return is_plain

    def _send(self, producer: Any, batch: Sequence[Outgoing]) -> None:
        is_redis = producer.connection.transport.driver_type == "redis"
        if is_redis and (lists := self._posts(batch)) is not None:
            client = producer.channel.client
            for queue, payloads in lists.items():
                for first in range(0, len(payloads), BATCH_SIZE):
                    client.lpush(queue, *payloads[first : first + BATCH_SIZE])
            return
        if len(batch) > 1 and producer.supports_batch_publish:
            with producer.batch(max_size=BATCH_SIZE):
                self._send_each(producer, batch)
        else:
            self._send_each(producer, batch)

    def _send_each(self, producer: Any, batch: Sequence[Outgoing]) -> None:
        # Elsewhere a higher number goes first, or queues have to be declared for it: there each has one lane.
        has_lanes = producer.connection.transport.driver_type in _WITH_LANES
        for message in batch:
            queue, step = queue_and_step(message.queue)
            self._app.send_task(
                task_name(message.kind),
                kwargs=dict(message.kwargs),
                task_id=message.task_id,
                root_id=message.task_id,
                queue=queue_named(self._app, queue),
                producer=producer,
                retry=False,
                ignore_result=True,
                argsrepr="()",
                kwargsrepr=readable(message.kwargs),
                add_to_parent=False,
                **({"priority": step} if step and has_lanes else {}),
            )
