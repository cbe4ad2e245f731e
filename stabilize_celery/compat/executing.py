"""How tasks of upstream are executed by a `QueueProcessor`: what they rely on, and the engine does otherwise."""

from typing import Any

import msgspec
from typing_extensions import override

from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["FormerExecutor", "OnlyRegistry"]


class FormerExecutor(TaskExecutor):
    """Lets what a jump hands on be seen by all that run again, the stage that jumped among them, as if put out."""

    @override
    def execute(self, *call: Any, **more: Any) -> TaskReturned:
        returned = super().execute(*call, **more)
        if returned.status != "REDIRECT":
            return returned
        return msgspec.structs.replace(returned, outputs={**returned.context, **returned.outputs})


class OnlyRegistry(TaskRegistry):
    """The task types of the only process there is: a task of any other type fails, for no worker will ever know it."""

    def __init__(self, registry: TaskRegistry) -> None:
        vars(self).update(vars(registry))  # what is registered later is known, too

    @override
    def has(self, name: str) -> bool:
        return True

    @override
    def options(self, name: str) -> TaskOptions:
        return super().options(name) if super().has(name) else TaskOptions()
