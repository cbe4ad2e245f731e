"""Named finalizers: clean-up that workers know by name, run when a stage has ended, after a crash too.

A stage names them in `finalizer_names`; names and not callables, since another worker may run them.
"""

from collections.abc import Callable
from typing import TypeAlias

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.problems import Suggester
from stabilize_celery.models.stage import StageExecution

__all__ = ["Finalizer", "FinalizerRegistry"]

Finalizer: TypeAlias = Callable[[StageExecution], object]
"""Takes the stage that ended; what it returns is not looked at. May be called more than once for one stage."""


class FinalizerRegistry:
    """The finalizers that a worker knows."""

    def __init__(self) -> None:
        self._callbacks: dict[str, Finalizer] = {}

    def register(self, name: str, callback: Finalizer) -> None:
        """Make `callback` known as `name`; a later registration replaces an earlier one."""
        self._callbacks[name] = callback

    def has(self, name: str) -> bool:
        """Return whether a finalizer is known as `name`."""
        return name in self._callbacks

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._callbacks))

    def run(self, name: str, stage: StageExecution) -> None:
        """Run one finalizer on the stage that ended.

        Raises:
            ConfigurationError: no finalizer of this name is known here.
            Exception: whatever the finalizer raises.

        """
        callback = self._callbacks.get(name)
        if callback is None:
            hint = Suggester(self._callbacks).suggest(name)
            raise ConfigurationError(
                f"stage {stage.ref_id!r}: no finalizer {name!r} is registered on this worker{hint}; register it "
                "where the worker registers its tasks, as registry.finalizers.register(name, callback)"
            )
        callback(stage)
