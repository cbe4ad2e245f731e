"""What test-suites call between tests to forget state of the process. Here that is next to nothing.

`SingletonMeta.reset(ConnectionManager)` gives the stores that are made afterwards an empty memory.
"""

from typing import Any, ClassVar

from stabilize_celery.compat.store import forget_memory

__all__ = [
    "ConnectionManager",
    "SingletonMeta",
    "get_connection_manager",
    "reset_deduplicator",
    "reset_event_recorder",
]


class SingletonMeta(type):
    """Stands for upstream's: of a class with it there is one object, until it is reset."""

    _made: ClassVar[dict[type, Any]] = {}

    def __call__(cls, *args: Any, **more: Any) -> Any:
        """Return the one object of a class."""
        if cls not in SingletonMeta._made:
            SingletonMeta._made[cls] = super().__call__(*args, **more)
        return SingletonMeta._made[cls]

    @staticmethod
    def reset(kind: type) -> None:
        """Let the class have another object, and forget what the stores in this process' memory have."""
        SingletonMeta._made.pop(kind, None)
        forget_memory()


class ConnectionManager(metaclass=SingletonMeta):
    """Stands for upstream's; each store has its own connections here."""

    def close_all(self) -> None:
        """Forget what the stores in this process' memory have."""
        forget_memory()


def get_connection_manager() -> ConnectionManager:
    """Return the connection manager of this process."""
    manager: ConnectionManager = ConnectionManager()
    return manager


def reset_event_recorder() -> None:
    """Do nothing: the engine itself records every event."""


def reset_deduplicator() -> None:
    """Do nothing: what was handled stands beside the workflow."""
