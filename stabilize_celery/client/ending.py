"""What an ended workflow came to: its result, or an error that says why there is none."""

from collections.abc import Callable, Sequence
from typing import Any

from stabilize_celery.errors import WorkflowFailedError
from stabilize_celery.models.canvas import TRIGGER, result_of
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.transport.canvas_values import as_given

__all__ = ["result_or_failure"]


def result_or_failure(workflow: Workflow, why: Callable[[], Sequence[str]]) -> Any:
    """Return the result of a workflow that has ended.

    Raises:
        WorkflowFailedError: it did not succeed; the text has the reasons that `why` gives.
        ValueError: a task of a canvas returned a type that was registered with kombu, and is not in this process.

    """
    if workflow.status is WorkflowStatus.SUCCEEDED:
        found = result_of(workflow)
        return as_given(found) if workflow.trigger.type == TRIGGER else found
    reasons = "; ".join(why()) or workflow.cancellation_reason or "no reason was given"
    raise WorkflowFailedError(
        f"workflow {workflow.id} ended {workflow.status.name}: {reasons}", execution_id=workflow.id
    )
