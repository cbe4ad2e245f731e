"""What test-suites call between tests to forget state of the process. Here that is next to nothing.

`SingletonMeta.reset(ConnectionManager)` gives the stores that are made afterwards an empty memory.
"""

from stabilize_celery.compat.store import forget_memory

__all__ = [
    "ConnectionManager",
    "SingletonMeta",
    "get_connection_manager",
    "reset_deduplicator",
    "reset_event_recorder",
]


class ConnectionManager:
    """Stands for upstream's; each store has its own connections here."""

    def close_all(self) -> None:
        """Forget what the stores in this process' memory have."""
        forget_memory()


class SingletonMeta(type):
    """Stands for upstream's."""

    @staticmethod
    def reset(kind: type) -> None:
        """Forget what the stores in this process' memory have; `kind` is as upstream's."""
        del kind
        forget_memory()


def get_connection_manager() -> ConnectionManager:
    """Return a connection manager."""
    return ConnectionManager()


def reset_event_recorder() -> None:
    """Do nothing: the engine itself records every event."""


def reset_deduplicator() -> None:
    """Do nothing: what was handled stands beside the workflow."""
