"""TaskRegistry, whose task types this process finds again: a program may start a workflow before it has a processor."""

from collections.abc import Iterator

from typing_extensions import override

from stabilize_celery.compat.former_tasks import ApprovalTask, WaitTask
from stabilize_celery.compat.made import Made
from stabilize_celery.errors import TaskNotFoundError
from stabilize_celery.tasks import registry
from stabilize_celery.tasks.variants import NoOpTask

__all__ = ["TaskRegistry"]

_MADE: Made["TaskRegistry"] = Made()


class TaskRegistry(registry.TaskRegistry):
    """`stabilize_celery.tasks.registry.TaskRegistry`, known to the process as long as the program keeps it.

    Its ready-made tasks are those of `compat`.
    """

    def __init__(self, *, ready_made: bool = True) -> None:
        super().__init__(ready_made=ready_made)
        if ready_made:
            self.register("approval", ApprovalTask)
            self.register("wait", WaitTask, ["WaitTask"])
            self.register("noop", NoOpTask, ["NoOpTask"])
        _MADE.add(self)

    @override
    def _not_found(self, name: str) -> TaskNotFoundError:
        error = super()._not_found(name)
        vars(error)["task_type"] = name
        return error

    def has_verifier(self, name: str) -> bool:
        """Return whether a verifier is known as `name`."""
        return self.verifiers.has(name)

    def list_verifiers(self) -> list[str]:
        """Return the names of all verifiers."""
        return list(self.verifiers.names())

    @staticmethod
    def made() -> Iterator["TaskRegistry"]:
        """Yield those of this process, the newest first."""
        yield from reversed(_MADE)
