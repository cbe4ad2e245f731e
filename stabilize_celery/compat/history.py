"""Event sourcing under upstream's names: accepted, because the history of every workflow is kept anyway."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any

from stabilize_celery.compat.event import EntityType, Event, EventType
from stabilize_celery.compat.event_reader import EventReader
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.compat.streams import client_of
from stabilize_celery.errors import ConfigurationError

__all__ = ["EventQuery", "PostgresEventStore", "RedisEventStore", "SqliteEventStore", "configure_event_sourcing"]


@dataclass
class EventQuery:
    """Which events, in which order. Without a `workflow_id`, of all workflows; both ends of a range belong to it.

    `entity_id`: of a workflow, a stage or a task; or a stage's `ref_id`.
    """

    entity_type: EntityType | None = None
    entity_id: str | None = None
    workflow_id: str | None = None
    event_types: Iterable[EventType] | None = None
    from_sequence: int | None = None
    to_sequence: int | None = None
    from_timestamp: datetime | None = None
    to_timestamp: datetime | None = None
    limit: int = 1000
    offset: int = 0
    order_by: str = "sequence"
    ascending: bool = True

    def wants(self, event: Event) -> bool:
        """Whether an event is one of those."""
        named = ((self.entity_type, event.entity_type), (self.workflow_id, event.workflow_id))
        return (
            all(wanted in (None, found) for wanted, found in named)
            and self.entity_id in (None, event.entity_id, event.data.get("ref_id"))
            and (self.event_types is None or event.event_type in self.event_types)
            and _within(event.sequence, self.from_sequence, self.to_sequence)
            and _within(event.timestamp, self.from_timestamp, self.to_timestamp)
        )


class RedisEventStore:
    """Where histories are: in Redis, beside the workflows.

    Events that a program appends are kept by this object only: for tests of what reads histories. `emit_progress` adds
    one to the history of a workflow.

    Args:
        url: A Redis URL; otherwise histories are those of the store of this process that knows the workflow.
        create_tables: As upstream's; there are none.

    """

    def __init__(self, url: str = "", *, create_tables: bool = False) -> None:
        self.url = url
        self.create_tables = create_tables
        self._appended: list[Event] = []

    def get_events_for_workflow(self, workflow_id: str, from_sequence: int = 0) -> list[Event]:
        """Return what has happened to a workflow behind a sequence number. Raises WorkflowNotFoundError."""
        return [event for event in self._history(workflow_id) if event.sequence > from_sequence]

    def get_events_for_entity(self, entity_type: EntityType, entity_id: str, from_version: int = 0) -> list[Event]:
        """Return what has happened to a workflow, a stage or a task.

        Raises:
            WorkflowNotFoundError: there is no such workflow.
            ValueError: it is a stage or task, and nobody said whose: it was neither stored nor started in this process,
                and nothing about it was appended here.

        """
        query = EventQuery(entity_type, entity_id)
        found = [event for event in self._appended if query.wants(event) and event.version >= from_version]
        if found:
            return found
        owner = entity_id if entity_type is EntityType.WORKFLOW else RedisWorkflowStore.owner_of(entity_id)
        if owner is None:
            raise ValueError(
                f"whose {entity_type.value} is {entity_id!r}? Histories are kept by workflow: use "
                "get_events(EventQuery(entity_type, ref_id, workflow_id))"
            )
        return [event for event in self._history(owner) if query.wants(event)]

    def get_events(self, query: EventQuery) -> Iterator[Event]:
        """Yield events of a workflow, or of all.

        Without a `workflow_id` they are those that were appended here; if there are none, those of all workflows.

        Raises:
            WorkflowNotFoundError: there is no such workflow.
            ConfigurationError: as `get_events_since`.

        """
        source = self._all() if query.workflow_id is None else self._history(query.workflow_id)
        found = [event for event in source if query.wants(event)]
        found.sort(key=lambda event: getattr(event, query.order_by), reverse=not query.ascending)
        yield from found[query.offset : query.offset + query.limit]

    def count_events(self, query: EventQuery | None = None) -> int:
        """Return how many events those of a query are, or all. Raises as `get_events`."""
        asked = EventQuery() if query is None else query
        return sum(1 for _ in self.get_events(replace(asked, offset=0, limit=sys.maxsize)))

    def get_event_by_id(self, event_id: str) -> Event | None:
        """Return one event, if there is one of that id. Reads all histories. Raises as `get_events_since`."""
        return next((event for event in self._all() if event.event_id == event_id), None)

    def append(self, event: Event, connection: Any = None) -> Event:
        """Keep an event in this object and return it with its sequence number. `connection`: as upstream's.

        From then on, the history of that event's workflow is what was appended here.
        """
        del connection
        numbered = event.with_sequence(len(self._appended) + 1)
        self._appended.append(numbered)
        return numbered

    def append_batch(self, events: Iterable[Event], connection: Any = None) -> list[Event]:
        """Keep events in this object and return them with their sequence numbers."""
        return [self.append(event, connection) for event in events]

    def get_events_since(self, sequence: int, limit: int = 1000) -> list[Event]:
        """Return what was appended here behind a sequence number; if nothing was, what has happened to all workflows.

        Raises:
            ConfigurationError: nothing was appended, and no store in this process says which workflows there are.

        """
        return [event for event in self._all() if event.sequence > sequence][:limit]

    def get_current_sequence(self) -> int:
        """Return the number of the event behind which nothing has happened yet; raises as `get_events_since`."""
        return len(self._all()) if self._appended or RedisWorkflowStore.newest() else 0

    def close(self) -> None:
        """Do nothing: it keeps no connection."""

    def _all(self) -> list[Event]:
        """Return what was appended here; else all histories, as one: numbered in the order of their times."""
        if self._appended:
            return self._appended
        store = RedisWorkflowStore.newest()
        if store is None:
            raise ConfigurationError("events of which workflow? No store in this process says which ones there are")
        found = [event for workflow_id in reversed([*store.ids()]) for event in self._history(workflow_id)]
        found.sort(key=attrgetter("timestamp"))
        return [event.with_sequence(number) for number, event in enumerate(found, 1)]

    def _history(self, workflow_id: str) -> list[Event]:
        own = [event for event in self._appended if event.workflow_id == workflow_id]
        if own:
            return own
        client = client_of(workflow_id, self)
        return list(EventReader(client, workflow_id).read(client.handle(workflow_id).events()))


class SqliteEventStore(RedisEventStore):
    """`RedisEventStore`. `create_tables`: as upstream's; there are none."""

    def __init__(self, connection_string: str = "", create_tables: bool = True) -> None:
        super().__init__(connection_string, create_tables=create_tables)


class PostgresEventStore(SqliteEventStore):
    """`RedisEventStore`."""


def configure_event_sourcing(event_store: RedisEventStore | None = None, *settings: Any, **more: Any) -> None:
    """Do nothing: the history of every workflow is kept. `settings`, `more`: as upstream's.

    Raises:
        TypeError: it is given another event store, which would never be written to.

    """
    del settings, more
    if event_store is not None and not isinstance(event_store, RedisEventStore):
        raise TypeError(f"histories are kept in Redis: give a RedisEventStore, not {type(event_store).__name__}")


def _within(value: Any, first: Any, last: Any) -> bool:
    return (first is None or first <= value) and (last is None or value <= last)
