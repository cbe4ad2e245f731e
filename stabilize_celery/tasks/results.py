"""The result of a ready-made task that failed, with what it found out kept."""

from collections.abc import Mapping
from typing import Any

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus

__all__ = ["failed"]


def failed(error: str, outputs: Mapping[str, Any], *, go_on: bool) -> TaskResult:
    """Return a TERMINAL result, or FAILED_CONTINUE where the pipeline shall go on."""
    if go_on:
        return TaskResult.failed_continue(error, outputs=outputs)
    # In the outputs and not in the context: a restarted stage must find its inputs as they were.
    return TaskResult(WorkflowStatus.TERMINAL, {"error": error}, dict(outputs))
