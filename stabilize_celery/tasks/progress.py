"""Telling how far a task is, while it runs: whoever follows the workflow's events sees it at once."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias

from stabilize_celery.models.json_values import copy_json
from stabilize_celery.models.problems import Problem
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.binding import Binding

__all__ = ["PROGRESS", "bind_teller", "emit_progress"]

PROGRESS = "custom.progress"
"""Kind of the events that say so."""

Teller: TypeAlias = Callable[[Mapping[str, Any]], None]
_TELLER: ContextVar[Teller | None] = ContextVar("stabilize_celery_progress", default=None)


def bind_teller(teller: Teller) -> Binding[Teller | None]:
    """Let `emit_progress` tell it this inside the block; the runtime does so around the body."""
    return Binding(_TELLER, teller)


def emit_progress(stage: StageExecution, message: str = "", *, recorder: Any = None, **data: Any) -> None:
    """Add to the workflow's events how far a running task is; `data` is JSON, such as `percent=42`.

    Each is kept as long as the workflow's history is. Outside of a task's body, as in its unit tests, nothing happens.

    Raises:
        TypeError: `data` is no JSON; the text names the key.
        UnreachableError: Redis is away.

    """
    del recorder
    teller = _TELLER.get()
    if teller is None:
        return
    problems: list[Problem] = []
    told = copy_json({"message": message, "stage_ref_id": stage.ref_id, **data}, "progress", problems)
    if problems:
        raise TypeError("; ".join(map(str, problems[:10])))
    teller(told)
