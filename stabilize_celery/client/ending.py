"""What an ended workflow came to: its result, or an error that says why there is none."""

from collections.abc import Callable, Sequence
from typing import Any

from stabilize_celery.errors import WorkflowFailedError
from stabilize_celery.models.canvas import result_of
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

__all__ = ["result_or_failure"]


def result_or_failure(workflow: Workflow, why: Callable[[], Sequence[str]]) -> Any:
    """Return the result of a workflow that has ended. Raises WorkflowFailedError with the reasons that `why` gives."""
    if workflow.status is WorkflowStatus.SUCCEEDED:
        return result_of(workflow)
    reasons = "; ".join(why()) or workflow.cancellation_reason or "no reason was given"
    raise WorkflowFailedError(
        f"workflow {workflow.id} ended {workflow.status.name}: {reasons}", execution_id=workflow.id
    )
