"""Events under upstream's names: a bus in the process of a `QueueProcessor`, and a workflow's history as a list.

Kinds of events that upstream has no name for (locks, joins, signals) are left out; `handle.events()` has all.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Self

from ulid import ULID

from stabilize_celery.client.client import Client
from stabilize_celery.client.events import ENDED, WorkflowEvent
from stabilize_celery.client.following import EventFeed
from stabilize_celery.compat.streams import StreamItem

__all__ = ["EntityType", "Event", "EventBus", "EventType", "SubscriptionMode", "events_of", "get_event_bus"]

logger = logging.getLogger("stabilize_celery")


class EventType(Enum):
    """What happened."""

    WORKFLOW_CREATED = "workflow.created"
    WORKFLOW_STARTED = "workflow.started"
    WORKFLOW_COMPLETED = "workflow.completed"
    WORKFLOW_FAILED = "workflow.failed"
    WORKFLOW_CANCELED = "workflow.canceled"
    WORKFLOW_PAUSED = "workflow.paused"
    WORKFLOW_RESUMED = "workflow.resumed"
    STAGE_STARTED = "stage.started"
    STAGE_COMPLETED = "stage.completed"
    STAGE_FAILED = "stage.failed"
    STAGE_SKIPPED = "stage.skipped"
    STAGE_CANCELED = "stage.canceled"
    STAGE_SUSPENDED = "stage.suspended"
    TASK_STARTED = "task.started"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_RETRIED = "task.retried"
    TASK_SUSPENDED = "task.suspended"
    STATUS_CHANGED = "status.changed"
    CONTEXT_UPDATED = "context.updated"
    OUTPUTS_UPDATED = "outputs.updated"
    JUMP_EXECUTED = "jump.executed"
    CUSTOM = "custom.progress"


_KNOWN = {one.value: one for one in EventType}
_NEAREST = {
    "stage.failed_continue": EventType.STAGE_FAILED,
    "stage.stopped": EventType.STAGE_FAILED,
    "task.failed_continue": EventType.TASK_FAILED,
    "task.stopped": EventType.TASK_FAILED,
    "stage.jumped": EventType.JUMP_EXECUTED,
}


class EntityType(Enum):
    """What it happened to."""

    WORKFLOW = "workflow"
    STAGE = "stage"
    TASK = "task"


class SubscriptionMode(Enum):
    """Accepted; handlers are called by the thread that handled the message."""

    SYNC = "sync"
    ASYNC = "async"


@dataclass(frozen=True)
class Event:
    """One thing that happened. `entity_id`: a stage's `ref_id`, or the workflow's id; `sequence` grows with each."""

    event_type: EventType = EventType.STATUS_CHANGED
    entity_type: EntityType = EntityType.WORKFLOW
    entity_id: str = ""
    workflow_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    event_id: str = field(default_factory=lambda: str(ULID()))

    def with_sequence(self, sequence: int) -> Self:
        """Return the event with another sequence number."""
        return replace(self, sequence=sequence)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        named = {"event_type": self.event_type.value, "entity_type": self.entity_type.value}
        return {**vars(self), **named, "data": dict(self.data), "timestamp": self.timestamp.isoformat()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return an event of the known keys in `data`; missing ones have their defaults."""
        known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        read: dict[str, Callable[[Any], Any]] = {
            "event_type": EventType,
            "entity_type": EntityType,
            "timestamp": datetime.fromisoformat,
        }
        return cls(**{name: read[name](value) if name in read else value for name, value in known.items()})


def events_of(workflow_id: str, found: Iterable[WorkflowEvent]) -> Iterator[Event]:
    """Yield those of a workflow's events that upstream has a name for."""
    for event in found:
        item = StreamItem.from_event(event, "replay", workflow_id)
        kind = _KNOWN.get(item.event_type) or _NEAREST.get(item.event_type)
        if kind is not None:
            yield Event(
                kind,
                EntityType("stage" if kind is EventType.JUMP_EXECUTED else item.entity_type),
                item.entity_id,
                workflow_id,
                {"ref_id": event.ref_id, "name": event.ref_id, **item.data},
                item.sequence,
                datetime.fromtimestamp(event.at_ms / 1000, UTC),
                event.id,
            )


@dataclass(frozen=True, slots=True)
class _Subscription:
    handler: Callable[[Event], Any]
    event_types: frozenset[EventType]
    entity_types: frozenset[EntityType]
    workflow_id: str | None

    def wants(self, event: Event) -> bool:
        return (
            (not self.event_types or event.event_type in self.event_types)
            and (not self.entity_types or event.entity_type in self.entity_types)
            and self.workflow_id in (None, event.workflow_id)
        )


class EventBus:
    """Tells subscribers what happens to the workflows whose messages are handled in this process, each thing once.

    Of a workflow they hear everything from its first event on. A handler that raises keeps no other from hearing.
    """

    def __init__(self) -> None:
        self._subscriptions: dict[str, _Subscription] = {}
        self._feeds: dict[str, EventFeed] = {}
        self._lock = threading.RLock()

    def subscribe(
        self,
        subscription_id: str,
        handler: Callable[[Event], Any],
        event_types: Iterable[EventType] | None = None,
        entity_types: Iterable[EntityType] | None = None,
        workflow_filter: str | None = None,
        mode: SubscriptionMode = SubscriptionMode.SYNC,
    ) -> None:
        """Call `handler` with each event, of these types and of this workflow if they are given.

        Raises:
            ValueError: the id is taken.

        """
        del mode
        with self._lock:
            if subscription_id in self._subscriptions:
                raise ValueError(
                    f"subscription {subscription_id!r} is there already: unsubscribe it, or take another id"
                )
            kinds, entities = frozenset(event_types or ()), frozenset(entity_types or ())
            self._subscriptions[subscription_id] = _Subscription(handler, kinds, entities, workflow_filter)

    def unsubscribe(self, subscription_id: str) -> bool:
        """Call that handler no more; False: there is none of that id."""
        with self._lock:
            return self._subscriptions.pop(subscription_id, None) is not None

    def publish(self, event: Event) -> None:
        """Tell an event to all that want it."""
        with self._lock:
            heard = [one.handler for one in self._subscriptions.values() if one.wants(event)]
        for handler in heard:
            try:
                handler(event)
            except Exception:
                logger.exception("a subscriber of %s failed", event.event_type.value)

    def look(self, client: Client, workflow_id: str) -> None:
        """Tell what has happened to a workflow since the last look. Raises UnreachableError."""
        if not self._subscriptions:
            return
        with self._lock:
            if workflow_id not in self._feeds:
                self._feeds[workflow_id] = EventFeed(client.store, workflow_id)
            feed = self._feeds[workflow_id]
            while batch := feed.next_batch():
                for event in events_of(workflow_id, batch):
                    self.publish(event)
                if batch[-1].kind in ENDED and len(self._feeds) > _MOST_FEEDS:
                    del self._feeds[workflow_id]


_MOST_FEEDS = 10_000
"""Of so many workflows it is remembered what was told (count)."""
_BUS = EventBus()


def get_event_bus() -> EventBus:
    """Return the bus of this process."""
    return _BUS
