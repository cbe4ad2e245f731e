"""Event sourcing under upstream's names: accepted, because the history of every workflow is kept anyway."""

from stabilize_celery.compat.event_bus import Event, events_of
from stabilize_celery.compat.streams import client_of

__all__ = ["PostgresEventStore", "RedisEventStore", "SqliteEventStore", "configure_event_sourcing"]


class RedisEventStore:
    """Where histories are: in Redis, beside the workflows.

    Args:
        url: A Redis URL; otherwise histories are those of the store of this process that knows the workflow.
        create_tables: As upstream's; there are none.

    """

    def __init__(self, url: str = "", *, create_tables: bool = False) -> None:
        self.url = url
        self.create_tables = create_tables

    def get_events_for_workflow(self, workflow_id: str, from_sequence: int = 0) -> list[Event]:
        """Return what has happened to a workflow behind a sequence number. Raises WorkflowNotFoundError."""
        found = client_of(workflow_id, self).handle(workflow_id).events()
        return [event for event in events_of(workflow_id, found) if event.sequence > from_sequence]


class SqliteEventStore(RedisEventStore):
    """`RedisEventStore`."""


class PostgresEventStore(RedisEventStore):
    """`RedisEventStore`."""


def configure_event_sourcing(event_store: RedisEventStore | None = None) -> None:
    """Do nothing: the history of every workflow is kept.

    Raises:
        TypeError: it is given another event store, which would never be written to.

    """
    if event_store is not None and not isinstance(event_store, RedisEventStore):
        raise TypeError(f"histories are kept in Redis: give a RedisEventStore, not {type(event_store).__name__}")
