"""What upstream's programs make by a URL, or have one of for a whole process."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from stabilize_celery.compat.celery_queue import CeleryQueue
from stabilize_celery.compat.former import PostgresQueue, PostgresWorkflowStore, SqliteQueue, SqliteWorkflowStore
from stabilize_celery.compat.registry import TaskRegistry
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.tasks.task import Task

__all__ = [
    "create_queue",
    "create_repository",
    "detect_backend",
    "get_default_registry",
    "get_task",
    "register_task",
    "task",
]

_POSTGRESQL = "postgres"
_REGISTRY = TaskRegistry()


def detect_backend(connection_string: str) -> str:
    """Return what upstream takes a URL for: `sqlite`, or `postgresql`."""
    return "sqlite" if connection_string.startswith("sqlite") else "postgresql"


def create_repository(connection_string: str, create_tables: bool = False) -> RedisWorkflowStore:
    """Return a store by its URL: of SQLite, PostgreSQL or Redis. Raises ConfigurationError."""
    kind = PostgresWorkflowStore if connection_string.startswith(_POSTGRESQL) else SqliteWorkflowStore
    return kind(connection_string, create_tables)


def create_queue(
    connection_string: str,
    table_name: str = "queue_messages",
    lock_duration: timedelta | None = None,
    max_attempts: int = 10,
    **more: Any,
) -> CeleryQueue:
    """Return a queue by its URL; `more` is accepted. Raises ConfigurationError."""
    del more
    kind = PostgresQueue if connection_string.startswith(_POSTGRESQL) else SqliteQueue
    return kind(connection_string, table_name, lock_duration, max_attempts)


def get_default_registry() -> TaskRegistry:
    """Return the task types of this process; a `QueueProcessor` knows them if it is given them."""
    return _REGISTRY


def register_task(name: str, task: Any, aliases: list[str] | None = None) -> None:
    """Make a task type known to this process."""
    _REGISTRY.register(name, task, aliases)


def get_task(name: str) -> Task:
    """Return a task of this process. Raises TaskNotFoundError."""
    return _REGISTRY.get(name)


def task(name: str, aliases: list[str] | None = None) -> Callable[[Any], Any]:
    """Return a decorator that makes a task type known to this process."""
    return _REGISTRY.task(name, aliases)
