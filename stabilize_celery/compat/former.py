"""The names of SQL stores and queues: programs that make one run, on Redis where that is known, else in memory.

There is no SQL here. `STABILIZE_REDIS_URL` says where Redis is. There, and without it in this process' memory, a SQLite
database is a namespace: one for each file, a new one for each `:memory:`, or all in the one that `STABILIZE_NAMESPACE`
names. A PostgreSQL database, which other processes share, is refused without a Redis.
"""

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from uuid import NAMESPACE_URL, uuid4, uuid5

from stabilize_celery.compat.celery_queue import CeleryQueue
from stabilize_celery.compat.gone import NO_SQL
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.settings import Settings

__all__ = ["PostgresQueue", "PostgresWorkflowStore", "SqliteQueue", "SqliteWorkflowStore"]

logger = logging.getLogger("stabilize_celery")

_REDIS = ("redis:", "rediss:", "redis+", "unix:", "valkey", "memory:")
_DELETE_ALL = ("DELETE", "FROM", "table")
_OWN_MEMORY = ("", "sqlite://", "sqlite:///", "sqlite:///:memory:", ":memory:")


class SqliteWorkflowStore(RedisWorkflowStore):
    """`RedisWorkflowStore` at `STABILIZE_REDIS_URL`; without that, in this process' memory, which ends with it.

    Args:
        connection_string: A SQLite URL (two stores of one file have the same workflows), or a Redis URL.
        create_tables: Accepted; there are none.

    """

    def __init__(self, connection_string: str = "", create_tables: bool = False, **more: Any) -> None:
        url, namespace = _place(connection_string)
        super().__init__(url, create_tables, **{"namespace": namespace, **more})

    def _get_connection(self) -> "_NoConnection":
        """Return what test-suites empty their tables by, between tests."""
        return _NoConnection()


class PostgresWorkflowStore(RedisWorkflowStore):
    """`RedisWorkflowStore` at `STABILIZE_REDIS_URL`.

    Args:
        connection_string: A PostgreSQL URL, or a Redis URL.
        create_tables: Accepted; there are none.

    Raises:
        ConfigurationError: nobody said where Redis is.

    """

    def __init__(self, connection_string: str = "", create_tables: bool = False, **more: Any) -> None:
        super().__init__(_server(connection_string, "PostgresWorkflowStore"), create_tables, **more)


class SqliteQueue(CeleryQueue):
    """`CeleryQueue` to the broker that the environment names; without one, messages stay in this process."""

    def __init__(
        self,
        connection_string: str = "",
        table_name: str = "queue_messages",
        lock_duration: timedelta | None = None,
        max_attempts: int = 10,
    ) -> None:
        super().__init__(_broker(connection_string), table_name, lock_duration, max_attempts)


class PostgresQueue(CeleryQueue):
    """`CeleryQueue` to the broker that the environment names, or `STABILIZE_REDIS_URL`.

    Raises:
        ConfigurationError: nobody said where the broker is.

    """

    def __init__(
        self,
        connection_string: str = "",
        table_name: str = "queue_messages",
        lock_duration: timedelta | None = None,
        max_attempts: int = 10,
        **more: Any,
    ) -> None:
        del more
        broker = _broker(connection_string) or _server(connection_string, "PostgresQueue")
        super().__init__(broker, table_name, lock_duration, max_attempts)


class _NoConnection:
    """Stands for a connection to SQLite. Test-suites empty a new database by it, which is empty here."""

    def execute(self, statement: str, *parameters: Any) -> Self:
        """Do nothing for a `DELETE FROM` a whole table. Raises TypeError: it is any other statement."""
        words = statement.split()
        if [word.upper() for word in words[:2]] != ["DELETE", "FROM"] or len(words) != len(_DELETE_ALL) or parameters:
            raise TypeError(f"{statement!r}: {NO_SQL}")
        return self

    def commit(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _place(url: str) -> tuple[str, str | None]:
    """Return where the workflows of a SQLite database are kept: at which URL, under which keys."""
    if url.startswith(_REDIS):
        return url, None
    settings = Settings.from_env(os.environ)
    file = None if url in _OWN_MEMORY else Path(url.removeprefix("sqlite:///")).resolve()
    if settings.redis_url:
        if settings.namespace != Settings().namespace:
            return settings.redis_url, None
        name = uuid4() if file is None else uuid5(NAMESPACE_URL, file.as_uri())
        namespace = f"sqlite-{name.hex[:12]}"
        logger.info("SqliteWorkflowStore: workflows of %s are kept with STABILIZE_NAMESPACE=%s", file or url, namespace)
        return settings.redis_url, namespace
    if file is None:
        return "memory://", None
    logger.warning(
        "SqliteWorkflowStore: workflows of %s are kept in this process' memory and end with it; set "
        "STABILIZE_REDIS_URL, or make a RedisWorkflowStore('redis://…'), to keep them",
        file,
    )
    return f"memory://{file}", None


def _broker(url: str) -> str | None:
    if url.startswith(_REDIS):
        return url
    settings = Settings.from_env(os.environ)
    return settings.broker_url or settings.redis_url or None


def _server(url: str, name: str) -> str:
    known = url if url.startswith(_REDIS) else Settings.from_env(os.environ).redis_url
    if not known:
        ours = "CeleryQueue" if "Queue" in name else "RedisWorkflowStore"
        raise ConfigurationError(
            f"{name}: there is no PostgreSQL here. Set STABILIZE_REDIS_URL to a Redis that all processes reach, such "
            f"as redis://localhost:6379/0, or make a {ours} with it"
        )
    return known
