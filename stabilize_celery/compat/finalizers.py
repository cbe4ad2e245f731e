"""Clean-up of one stage by its id, under upstream's names: callables, so they are known to one process only.

A `QueueProcessor` calls them when the stage has ended, however that was. What must be called after a crash, too, is
named in a stage's `finalizer_names` and registered on the workers: `registry.finalizers.register`.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.models.workflow import Workflow

__all__ = [
    "FinalizerRegistry",
    "FinalizerResult",
    "RegisteredFinalizer",
    "get_finalizer_registry",
    "reset_finalizer_registry",
    "set_finalizer_registry",
]

logger = logging.getLogger("stabilize_celery")


@dataclass
class FinalizerResult:
    """What came of one callable. `error`: why it failed; `duration_ms`: how long it took."""

    name: str
    success: bool
    error: str | None = None
    duration_ms: float = 0


@dataclass
class RegisteredFinalizer:
    """A callable, and when it was registered (s since 1970)."""

    name: str
    callback: Callable[[], Any]
    registered_at: float = field(default_factory=time.time)


class FinalizerRegistry:
    """Callables to be called once when a stage has ended, in the order in which they were registered."""

    def __init__(self) -> None:
        self._of: dict[str, list[RegisteredFinalizer]] = {}
        self._lock = threading.Lock()

    def register(self, stage_id: str, finalizer_name: str, callback: Callable[[], Any]) -> None:
        """Have `callback` called when that stage has ended."""
        with self._lock:
            self._of.setdefault(stage_id, []).append(RegisteredFinalizer(finalizer_name, callback))

    def put(self, stage_id: str, finalizer_name: str, callback: Callable[[], Any]) -> None:
        """Have `callback` called then, in place of what was registered under the same name."""
        with self._lock:
            others = [one for one in self._of.get(stage_id, []) if one.name != finalizer_name]
            self._of[stage_id] = [*others, RegisteredFinalizer(finalizer_name, callback)]

    def execute(self, stage_id: str, timeout: float = 30.0) -> list[FinalizerResult]:
        """Call all of a stage, each for at most `timeout` (s), and forget them; the results say what they raise."""
        with self._lock:
            found = self._of.pop(stage_id, [])
        return [_call(one, stage_id, timeout) for one in found]

    def execute_all_pending(self, timeout: float = 30.0) -> dict[str, list[FinalizerResult]]:
        """Call all of all stages; return the results by stage id."""
        return {stage_id: self.execute(stage_id, timeout) for stage_id in self.pending()}

    def execute_ended(self, workflow: Workflow) -> None:
        """Call those of a workflow's stages that have ended."""
        for stage in workflow.stages:
            if stage.status.is_complete:
                self.execute(stage.id)

    def pending(self) -> list[str]:
        """Return the ids of stages that have some."""
        with self._lock:
            return list(self._of)

    def pending_count(self) -> int:
        """Return how many there are, of all stages."""
        with self._lock:
            return sum(len(found) for found in self._of.values())

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._of.clear()


def _call(one: RegisteredFinalizer, stage_id: str, timeout: float) -> FinalizerResult:
    began = time.monotonic()
    pool = ThreadPoolExecutor(1, f"finalizer-{one.name}")
    error: str | None = None
    try:
        pool.submit(one.callback).result(timeout)
    except TimeoutError:
        error = f"Timeout: it still runs after {timeout} s"
        logger.warning("finalizer %r of stage %s: it still runs after %s s", one.name, stage_id, timeout)
    except Exception as raised:
        error = str(raised) or type(raised).__name__
        logger.exception("finalizer %r of stage %s failed", one.name, stage_id)
    finally:
        pool.shutdown(wait=False)
    return FinalizerResult(one.name, error is None, error, (time.monotonic() - began) * 1000)


_REGISTRY = [FinalizerRegistry()]


def get_finalizer_registry() -> FinalizerRegistry:
    """Return the registry of this process."""
    return _REGISTRY[0]


def set_finalizer_registry(registry: FinalizerRegistry) -> None:
    """Make another one the registry of this process."""
    _REGISTRY[0] = registry


def reset_finalizer_registry() -> None:
    """Make an empty one the registry of this process."""
    set_finalizer_registry(FinalizerRegistry())
