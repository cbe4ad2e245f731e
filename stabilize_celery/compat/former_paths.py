"""Upstream's modules by their paths: `stabilize.queue.messages` is `stabilize_celery.compat.queue.messages`, and so on.

So a program runs when the package's name in its imports is replaced and nothing else is. All of them have all names of
`stabilize_celery.compat`, which is where a program that is maintained imports them from.
"""

import sys
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from stabilize_celery.compat.gone import GONE_MODULES, refuse

__all__ = ["FORMER_PATHS", "provide_former_paths"]

FORMER_PATHS = (
    "assertions",
    "context",
    "context.stage_context",
    "dag.graph",
    "dag.readiness",
    "dag.topological",
    "error_codes",
    "errors",
    "errors.base",
    "errors.permanent",
    "errors.task",
    "errors.transient",
    "errors.utils",
    "errors.verification",
    "errors.workflow",
    "events.base",
    "events.bus",
    "events.projections",
    "events.projections.base",
    "events.projections.metrics",
    "events.projections.timeline",
    "events.replay",
    "events.store",
    "events.store.interface",
    "events.store.postgres",
    "events.store.postgres.store",
    "events.store.sqlite",
    "events.store.sqlite.store",
    "exceptions",
    "expressions",
    "finalizers",
    "handlers.add_multi_instance",
    "handlers.base",
    "handlers.cancel_region",
    "handlers.cancel_stage",
    "handlers.complete_stage",
    "handlers.complete_stage.handler",
    "handlers.complete_task",
    "handlers.complete_workflow",
    "handlers.continue_parent_stage",
    "handlers.jump_to_stage",
    "handlers.jump_to_stage.handler",
    "handlers.run_task",
    "handlers.run_task.handler",
    "handlers.signal_stage",
    "handlers.skip_stage",
    "handlers.start_stage",
    "handlers.start_stage.handler",
    "handlers.start_task",
    "handlers.start_waiting_workflows",
    "handlers.start_workflow",
    "handlers.workflow_control",
    "hitl",
    "logging",
    "models.multi_instance",
    "models.snapshot",
    "models.stage.engine_keys",
    "models.stage.enums",
    "models.stage.navigation",
    "models.stage.stage",
    "models.status",
    "models.task",
    "models.workflow",
    "persistence.connection",
    "persistence.factory",
    "persistence.postgres",
    "persistence.postgres.store",
    "persistence.sqlite",
    "persistence.sqlite.store",
    "persistence.sqlite.store.store",
    "persistence.store",
    "persistence.store.criteria",
    "persistence.store.interface",
    "persistence.store.noop_transaction",
    "persistence.store.transaction",
    "queue.interface",
    "queue.messages",
    "queue.postgres",
    "queue.processor.config",
    "queue.processor.handler_base",
    "queue.processor.processor",
    "queue.processor.synchronous",
    "queue.sqlite",
    "queue.sqlite.queue",
    "reducers",
    "resilience.cancellation",
    "resilience.config",
    "stages.builder",
    "stages.loop_builder",
    "stages.multi_instance_builder",
    "streaming",
    "tasks.docker",
    "tasks.highway",
    "tasks.highway.config",
    "tasks.highway.task",
    "tasks.http",
    "tasks.http.task",
    "tasks.interface",
    "tasks.loop",
    "tasks.python",
    "tasks.registry",
    "tasks.result",
    "tasks.shell",
    "tasks.ssh",
    "tasks.sub_workflow",
    "tracing",
    "validation",
    "validation.errors",
    "validation.helpers",
    "validation.schemas",
    "validation.validator",
    "verification",
)
"""Paths behind `stabilize.` that are no modules of `compat` by themselves; what is above them is one, too."""


_OWN_MODULES = ("conditions", "finalizers", "handlers", "launcher", "lifecycle", "orchestrator", "recovery")
"""Paths behind `stabilize.` that are modules of `compat` by themselves."""


class _FormerModule(ModuleType):
    """One of upstream's modules: its names are those of `compat`, and others say what to use instead."""

    def __init__(self, path: str, package: str) -> None:
        super().__init__(f"{package}.{path}", f"Stands for `stabilize.{path}`.")
        self.__path__: list[str] = []
        self._path, self._package = path, package

    def __getattr__(self, name: str) -> Any:
        return _found(name, self._path, self._package)


def _found(name: str, path: str, package: str) -> Any:
    """Return a name of a module, which is one of `compat`. Raises ImportError, AttributeError: there is none."""
    if name.startswith("__"):
        raise AttributeError(name)
    known = vars(import_module(package)).get(name)
    if known is None or isinstance(known, _FormerModule):
        refuse(name, path, package)
    return known


def provide_former_paths(package: str) -> None:
    """Make the modules importable below `package`, and each an attribute of the one above it.

    Modules that are there by themselves have the names of all others, too.
    """
    for path in _OWN_MODULES:
        module = import_module(f"{package}.{path}")
        vars(module).setdefault("__getattr__", partial(_found, path=path, package=package))
    for path in (*FORMER_PATHS, *GONE_MODULES):
        above = sys.modules[package]
        steps = path.split(".")
        for length, step in enumerate(steps, 1):
            part = ".".join(steps[:length])
            module = sys.modules.setdefault(f"{package}.{part}", _FormerModule(part, package))
            vars(above).setdefault(step, module)
            above = module
