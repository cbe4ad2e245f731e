"""TaskRegistry, whose task types this process finds again: a program may start a workflow before it has a processor."""

from collections.abc import Iterator

from stabilize_celery.compat.made import Made
from stabilize_celery.tasks import registry

__all__ = ["TaskRegistry"]

_MADE: Made["TaskRegistry"] = Made()


class TaskRegistry(registry.TaskRegistry):
    """`stabilize_celery.tasks.registry.TaskRegistry`, known to the process as long as the program keeps it."""

    def __init__(self, *, ready_made: bool = True) -> None:
        super().__init__(ready_made=ready_made)
        _MADE.add(self)

    @staticmethod
    def made() -> Iterator["TaskRegistry"]:
        """Yield those of this process, the newest first."""
        yield from reversed(_MADE)
