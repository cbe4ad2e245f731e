"""Events under upstream's names: a bus in the process of a `QueueProcessor`, and a workflow's history as a list.

Kinds of events that upstream has no name for (locks, joins, signals) are left out; `handle.events()` has all.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias

from stabilize_celery.client.client import Client
from stabilize_celery.client.events import ENDED
from stabilize_celery.client.following import EventFeed
from stabilize_celery.compat.event import EntityType, Event, EventType
from stabilize_celery.compat.event_reader import EventReader

__all__ = [
    "EventBus",
    "EventBusStats",
    "SubscriptionMode",
    "configure_event_bus",
    "get_event_bus",
    "reset_event_bus",
]

logger = logging.getLogger("stabilize_celery")


_OnError: TypeAlias = Callable[[str, Event, Exception], None]


class SubscriptionMode(Enum):
    """Accepted; handlers are called by the thread that handled the message."""

    SYNC = "sync"
    ASYNC = "async"


@dataclass(slots=True)
class _Subscription:
    name: str
    handler: Callable[[Event], Any]
    event_types: frozenset[EventType]
    entity_types: frozenset[EntityType]
    workflow_id: str | None
    enabled: bool = True

    def wants(self, event: Event) -> bool:
        return (
            self.enabled
            and (not self.event_types or event.event_type in self.event_types)
            and (not self.entity_types or event.entity_type in self.entity_types)
            and self.workflow_id in (None, event.workflow_id)
        )


@dataclass
class EventBusStats:
    """Counts of a bus since it was made or reset."""

    events_published: int = 0
    events_delivered: int = 0
    subscriptions_active: int = 0
    errors: int = 0


class EventBus:
    """Tells subscribers what happens to the workflows whose messages are handled in this process, each thing once.

    Of a workflow they hear everything from its first event on. A handler that raises keeps no other from hearing.

    Args:
        max_workers: As upstream's; handlers are called by who handled the message.
        error_handler: As for `on_error`.

    """

    def __init__(self, max_workers: int = 4, error_handler: _OnError | None = None) -> None:
        del max_workers
        self._subscriptions: dict[str, _Subscription] = {}
        self._feeds: dict[str, tuple[EventFeed, EventReader]] = {}
        self._lock = threading.RLock()
        self._on_error: list[_OnError] = [] if error_handler is None else [error_handler]
        self._counts = EventBusStats()
        self._is_shut = False

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
            self._subscriptions[subscription_id] = _Subscription(
                subscription_id, handler, kinds, entities, workflow_filter
            )

    def unsubscribe(self, subscription_id: str) -> bool:
        """Call that handler no more; False: there is none of that id."""
        with self._lock:
            return self._subscriptions.pop(subscription_id, None) is not None

    def enable_subscription(self, subscription_id: str) -> None:
        """Call that handler again."""
        self._switch(subscription_id, enabled=True)

    def disable_subscription(self, subscription_id: str) -> None:
        """Call that handler no more until it is enabled again."""
        self._switch(subscription_id, enabled=False)

    def get_subscriptions(self) -> list[str]:
        """Return the ids of all subscriptions."""
        with self._lock:
            return list(self._subscriptions)

    def on_error(self, handler: _OnError) -> _OnError:
        """Call `handler(subscription_id, event, error)` where one raises; usable as a decorator."""
        self._on_error.append(handler)
        return handler

    @property
    def stats(self) -> EventBusStats:
        """What it has told, counted."""
        with self._lock:
            active = sum(one.enabled for one in self._subscriptions.values())
            return replace(self._counts, subscriptions_active=active)

    def publish(self, event: Event) -> None:
        """Tell an event to all that want it."""
        with self._lock:
            if self._is_shut:
                return
            self._counts.events_published += 1
            heard = [one for one in self._subscriptions.values() if one.wants(event)]
        for one in heard:
            self._tell(one, event)

    def publish_batch(self, events: Iterable[Event]) -> None:
        """Tell events, in their order."""
        for event in events:
            self.publish(event)

    def shutdown(self, wait: bool = True) -> None:
        """Tell nothing any more, until it is reset. `wait`: as upstream's; nothing is told later."""
        del wait
        self._is_shut = True

    def reset(self) -> None:
        """Forget all subscriptions and counts."""
        with self._lock:
            self._subscriptions.clear()
            self._feeds.clear()
            self._on_error.clear()
            self._counts = EventBusStats()
            self._is_shut = False

    def _switch(self, subscription_id: str, *, enabled: bool) -> None:
        with self._lock:
            if subscription_id in self._subscriptions:
                self._subscriptions[subscription_id].enabled = enabled

    def _tell(self, one: _Subscription, event: Event) -> None:
        try:
            one.handler(event)
        except Exception as error:
            logger.exception("subscription %r: its handler failed at %s", one.name, event.event_type.value)
            self._counts.errors += 1
            for hear in self._on_error:
                hear(one.name, event, error)
        else:
            self._counts.events_delivered += 1

    def look(self, client: Client, workflow_id: str) -> None:
        """Tell what has happened to a workflow since the last look. Raises UnreachableError."""
        if not self._subscriptions:
            return
        with self._lock:
            if workflow_id not in self._feeds:
                self._feeds[workflow_id] = EventFeed(client.store, workflow_id), EventReader(client, workflow_id)
            feed, reader = self._feeds[workflow_id]
            while batch := feed.next_batch():
                for event in reader.read(batch):
                    self.publish(event)
                if batch[-1].kind in ENDED and len(self._feeds) > _MOST_FEEDS:
                    del self._feeds[workflow_id]


_MOST_FEEDS = 10_000
"""Of so many workflows it is remembered what was told (count)."""
_OF_PROCESS = [EventBus()]


def get_event_bus() -> EventBus:
    """Return the bus of this process."""
    return _OF_PROCESS[0]


def reset_event_bus() -> None:
    """Give this process a new bus; nobody is told by the one of before any more."""
    _OF_PROCESS[0].reset()
    _OF_PROCESS[0] = EventBus()


def configure_event_bus(max_workers: int = 4, error_handler: _OnError | None = None) -> EventBus:
    """Return the bus of this process, which tells `error_handler` of errors, too. `max_workers`: as upstream's."""
    del max_workers
    if error_handler is not None:
        _OF_PROCESS[0].on_error(error_handler)
    return _OF_PROCESS[0]
