"""The ready-made `sub_workflow`: runs another workflow inside a stage and waits for its end."""

from collections.abc import Mapping

from typing_extensions import override

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.tasks.call import SubWorkflowOutcome, current_call
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.task import SubWorkflowCall, Task

__all__ = ["SubWorkflowTask"]


class SubWorkflowTask(Task):
    """Runs `workflow`, a definition or the name of one, with `context`, and waits without holding a worker.

    SUCCEEDED: its outputs become the stage's, with `workflow_id`. CANCELED: so is the task. Anything else fails the
    task. The engine starts the inner workflow, and cancels it when the stage is canceled.

    Raises:
        ContextError: `workflow` is missing, or neither a name nor a definition.

    """

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        _call(stage)
        outcome = current_call().sub_workflow
        return TaskResult.suspend() if outcome is None else _result(outcome)

    @override
    def calls_workflow(self, stage: StageExecution) -> SubWorkflowCall | None:
        return _call(stage)


def _call(stage: StageExecution) -> SubWorkflowCall:
    inputs = InputReader(stage, "sub_workflow")
    workflow = inputs.context.get("workflow")
    context = inputs.mapping("context")
    if isinstance(workflow, str) and workflow:
        return SubWorkflowCall(name=workflow, context=context)
    if isinstance(workflow, Mapping) and workflow:
        return SubWorkflowCall(definition=workflow, context=context)
    raise inputs.wrong("workflow", "the name of a workflow, or a definition")


def _result(outcome: SubWorkflowOutcome) -> TaskResult:
    outputs = {**outcome.outputs, "workflow_id": outcome.workflow_id}
    if outcome.status == WorkflowStatus.SUCCEEDED.name:
        return TaskResult.success(outputs=outputs)
    reason = f": {outcome.reason}" if outcome.reason else ""
    error = f"the inner workflow {outcome.workflow_id} ended {outcome.status}{reason}"
    canceled = outcome.status == WorkflowStatus.CANCELED.name
    return TaskResult(
        WorkflowStatus.CANCELED if canceled else WorkflowStatus.TERMINAL,
        {"error": error},
        {"workflow_id": outcome.workflow_id},
    )
