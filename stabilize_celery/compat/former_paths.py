"""Upstream's modules by their paths: `stabilize.queue.messages` is `stabilize_celery.compat.queue.messages`, and so on.

So a program runs when the package's name in its imports is replaced and nothing else is. All of them have all names of
`stabilize_celery.compat`, which is where a program that is maintained imports them from.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["FORMER_PATHS", "provide_former_paths"]

FORMER_PATHS = (
    "assertions",
    "context",
    "dag.graph",
    "dag.readiness",
    "dag.topological",
    "error_codes",
    "errors",
    "events.base",
    "events.bus",
    "events.projections",
    "events.projections.metrics",
    "events.projections.timeline",
    "events.store",
    "exceptions",
    "expressions",
    "hitl",
    "logging",
    "models.multi_instance",
    "models.snapshot",
    "models.stage.enums",
    "models.status",
    "models.task",
    "models.workflow",
    "persistence.factory",
    "persistence.postgres",
    "persistence.sqlite",
    "persistence.store",
    "queue.interface",
    "queue.messages",
    "queue.postgres",
    "queue.processor.config",
    "queue.processor.processor",
    "queue.sqlite",
    "reducers",
    "resilience.cancellation",
    "resilience.config",
    "stages.builder",
    "stages.loop_builder",
    "stages.multi_instance_builder",
    "streaming",
    "tasks.docker",
    "tasks.highway",
    "tasks.http",
    "tasks.interface",
    "tasks.python",
    "tasks.registry",
    "tasks.result",
    "tasks.shell",
    "tasks.ssh",
    "tasks.sub_workflow",
    "tracing",
    "validation",
    "verification",
)
"""Paths behind `stabilize.` that are no modules of `compat` by themselves; what is above them is one, too."""


class _FormerModule(ModuleType):
    """One of upstream's modules: its names are those of `compat`."""

    def __init__(self, path: str, package: str) -> None:
        super().__init__(f"{package}.{path}", f"Stands for `stabilize.{path}`.")
        self.__path__: list[str] = []
        self._package = package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(self._package), name)


def provide_former_paths(package: str) -> None:
    """Make the modules importable below `package`."""
    for path in FORMER_PATHS:
        steps = path.split(".")
        for length in range(1, len(steps) + 1):
            part = ".".join(steps[:length])
            sys.modules.setdefault(f"{package}.{part}", _FormerModule(part, package))
