"""CeleryQueue: where messages go: to the broker of your Celery workers, or to the processor in this process."""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from typing_extensions import override

from stabilize_celery.compat.control import ControlMessage
from stabilize_celery.compat.mailbox import Delay, Mailbox, seconds_of
from stabilize_celery.compat.messages import EngineMessage
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.errors import ConfigurationError, StabilizeError
from stabilize_celery.runtime.ports import Outgoing, Publisher
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.settings import Settings
from stabilize_celery.transport.incoming import split_task_id
from stabilize_celery.transport.producer import ProducerPublisher
from stabilize_celery.transport.publish import CeleryPublisher

__all__ = ["CeleryQueue"]

logger = logging.getLogger("stabilize_celery")

_MOST_KEPT = 10_000
"""So many messages are kept at most for a processor that there is not (count); what is owed comes back by itself."""


class CeleryQueue(Mailbox):
    """Takes messages for workers. As long as a `QueueProcessor` of this process serves it, they stay in the process.

    Args:
        app_or_url: A Celery app, or a broker's URL. Default: no broker; a `QueueProcessor` must serve it, or workers
            find what is owed a little later by themselves.
        table_name: Accepted; there are no tables.
        lock_duration: As for a `Mailbox`: of messages that are polled by hand.
        max_attempts: As for a `Mailbox`.
        connection_string: Upstream's name of a broker's URL.

    """

    def __init__(
        self,
        app_or_url: Any = None,
        table_name: str = "",
        lock_duration: timedelta | None = None,
        max_attempts: int = 10,
        *,
        connection_string: str = "",
    ) -> None:
        super().__init__(lock_duration, max_attempts)
        del table_name
        self._given = app_or_url if app_or_url is not None else connection_string or None
        self._broker: Publisher | None = None
        self._store: RedisWorkflowStore | None = None
        self._ready: deque[Outgoing] = deque()
        self._arrived = threading.Condition()
        self._is_served = False

    @property
    def store(self) -> RedisWorkflowStore:
        """The store whose workflows it serves.

        Raises:
            ConfigurationError: nobody has told yet.

        """
        if self._store is None:
            raise ConfigurationError("which store? Give store= to Orchestrator, QueueProcessor or send_signal once")
        return self._store

    @property
    def is_bound(self) -> bool:
        """Whether it is known which store it serves."""
        return self._store is not None

    def serve(self, store: RedisWorkflowStore | None) -> RedisWorkflowStore:
        """Send what this store's workflows owe through this queue; None: that of before."""
        if store is not None and store is not self._store:
            self._store = store
            store.publish_to(self)
        return self.store

    def push(self, message: ControlMessage, delay: Delay = None, connection: Any = None) -> Any:
        """Apply a message at once and return what came of it; with a delay, this process' processor does it then.

        As long as nobody has said which store it serves, messages are kept: for a processor, or to be polled.

        Args:
            message: What the outside wants of a workflow.
            delay: How much later; a number is seconds.
            connection: As upstream's; without an effect.

        Raises:
            TypeError: it is a message that the engine sends itself.
            ValueError: a delay was asked for, and no processor serves it: `scheduled_time` of a stage, or a `wait`
                task, does that.
            WorkflowNotFoundError: there is no such workflow.
            KeyError: there is no such stage.

        """
        del connection
        is_later = seconds_of(delay) > 0 and not isinstance(message, EngineMessage)
        if not self.is_bound or (is_later and self._is_served):
            self.keep(message, delay)
            return None
        if is_later:
            raise ValueError("a message can't be delayed: use scheduled_time, or a stage with a `wait` task")
        return message.apply(self.store)

    @override
    def poll_one(self) -> ControlMessage | None:
        """Return a message that was pushed before a store was known.

        Raises:
            TypeError: a store is known, so that a processor or Celery's workers take what there is.

        """
        if self.is_bound:
            raise TypeError("messages can't be polled by hand: QueueProcessor.process_one() or process_all() does that")
        return super().poll_one()

    def apply_due(self) -> int:
        """Apply the kept messages whose time has come; what can't be applied is put aside. Return how many."""
        applied = 0
        while (message := super().poll_one()) is not None:
            applied += 1
            try:
                message.apply(self.store)
                self.ack(message)
            except (TypeError, KeyError, ValueError, StabilizeError) as error:
                logger.warning("%s: put aside: %s", type(message).__name__, error)
                self.move_to_dlq(message.message_id, str(error))
        return applied

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Hand messages to this process' processor if there is one, else to the broker. Raises QueueError.

        Without a broker they are kept for a processor that the program makes later, as far as there is room.
        """
        if not self._is_served and self._given is not None:
            self._publisher().publish(batch)
            return
        with self._arrived:
            if self._is_served or len(self._ready) < _MOST_KEPT:
                self._ready.extend(batch)
            self._arrived.notify_all()

    def attach(self) -> None:
        """Keep messages in this process from now on: a processor serves them."""
        self._is_served = True

    def detach(self) -> None:
        """Send messages to the broker again."""
        self._is_served = False

    def take(self, wait_s: float = 0.0) -> Outgoing | None:
        """Return the next message, waiting up to `wait_s` for one."""
        with self._arrived:
            if not self._ready and wait_s > 0:
                self._arrived.wait(wait_s)
            return self._ready.popleft() if self._ready else None

    def take_all(self, kind: str) -> list[Outgoing]:
        """Return all messages of a kind, which are not in the queue any more."""
        with self._arrived:
            taken = [message for message in self._ready if message.kind == kind]
            for message in taken:
                self._ready.remove(message)
            return taken

    @override
    def size(self) -> int:
        """Return how many messages wait in this process."""
        return len(self._ready) + super().size()

    @override
    def has_pending_message_for_execution(self, execution_id: str) -> bool:
        """Return whether a message about a workflow is in this process."""
        with self._arrived:
            is_ready = any(split_task_id(one.task_id)[0] == execution_id for one in self._ready if one.kind != PROBE)
        return is_ready or super().has_pending_message_for_execution(execution_id)

    @override
    def is_due_within(self, seconds: float) -> bool:
        """Return whether there will be a message in this process so soon."""
        return bool(self._ready) or super().is_due_within(seconds)

    @override
    def clear(self) -> None:
        """Forget the messages that wait in this process; what is owed comes back by itself."""
        self._ready.clear()
        super().clear()

    def close(self) -> None:
        """Close the connection to the broker."""
        if isinstance(self._broker, ProducerPublisher):
            self._broker.close()

    def _create_table(self) -> None:
        """Do nothing: there are no tables."""

    def _publisher(self) -> Publisher:
        if self._broker is None:
            if isinstance(self._given, str):
                self._broker = ProducerPublisher(self._given, Settings())
            elif self._given is not None:
                self._broker = CeleryPublisher(self._given)
            else:
                raise ConfigurationError("this queue has no broker")
        return self._broker
