"""Event sourcing under upstream's names: accepted, because the history of every workflow is kept anyway."""

__all__ = ["PostgresEventStore", "RedisEventStore", "SqliteEventStore", "configure_event_sourcing"]


class RedisEventStore:
    """Stands for where histories are: Redis, beside the workflows. Read one with `Client(…).handle(id).events()`.

    Args:
        url: As upstream's; histories are where the workflows are, whatever it says.
        create_tables: As upstream's; there are none.

    """

    def __init__(self, url: str = "", *, create_tables: bool = False) -> None:
        self.url = url
        self.create_tables = create_tables


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
