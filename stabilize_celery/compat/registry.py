"""TaskRegistry, whose task types this process finds again: a program may start a workflow before it has a processor."""

from collections.abc import Iterator
from itertools import count
from weakref import WeakValueDictionary

from stabilize_celery.tasks import registry

__all__ = ["TaskRegistry"]

_MADE: WeakValueDictionary[int, "TaskRegistry"] = WeakValueDictionary()
_NUMBERS = count()


class TaskRegistry(registry.TaskRegistry):
    """`stabilize_celery.tasks.registry.TaskRegistry`, known to the process as long as the program keeps it."""

    def __init__(self, *, ready_made: bool = True) -> None:
        super().__init__(ready_made=ready_made)
        _MADE[next(_NUMBERS)] = self

    @staticmethod
    def made() -> Iterator["TaskRegistry"]:
        """Yield those of this process, the newest first."""
        yield from reversed(list(_MADE.values()))
