"""The tasks of a simulation: what a test gives, made a registry, with what can't be a task told at once."""

from collections.abc import Mapping
from typing import TypeAlias

from stabilize_celery.tasks.registry import TaskImplementation, TaskRegistry

__all__ = ["Tasks", "registry_of"]

Tasks: TypeAlias = Mapping[str, TaskImplementation] | TaskRegistry
"""Task type -> a function of the stage, a `Task` class or instance; or a registry, as an app has it."""


def registry_of(tasks: Tasks | None) -> TaskRegistry:
    """Return the registry that a simulation's workers have; a registry that is given is used itself.

    Raises:
        TypeError: `tasks` is neither, a key is no text, or a value is nothing that can be a task.

    """
    if isinstance(tasks, TaskRegistry):
        return tasks
    if tasks is not None and not isinstance(tasks, Mapping):
        raise TypeError(
            f"tasks= must be a mapping {{task type: function}} or a TaskRegistry, not {type(tasks).__name__}; "
            "the task type is what a TaskExecution has as implementing_class"
        )
    registry = TaskRegistry()
    for name, task in (tasks or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"tasks= has the key {name!r}: task types are texts, as in implementing_class")
        registry.register(name, task)
    return registry
