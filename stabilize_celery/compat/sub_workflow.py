"""SubWorkflowTask as upstream's programs know it: what it runs stands in `_sub_workflow_config`."""

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from stabilize_celery.compat.jumps import declare_jumps
from stabilize_celery.compat.list_outputs import join_list_outputs
from stabilize_celery.compat.registry import TaskRegistry
from stabilize_celery.compat.watching import WatchingTask
from stabilize_celery.models.definition import to_definition
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks import sub_workflow
from stabilize_celery.tasks.call import SubWorkflowOutcome, bound_call
from stabilize_celery.tasks.task import SubWorkflowCall

__all__ = ["SubWorkflowTask"]

_CONFIG = "_sub_workflow_config"


class SubWorkflowTask(sub_workflow.SubWorkflowTask, WatchingTask):
    """`stabilize_celery.tasks.sub_workflow.SubWorkflowTask`, which also runs what `_sub_workflow_config` describes.

    That has `application`, `name`, `context` and `stages`: as JSON has them, or objects where a subclass builds it when
    it is executed. Then its outputs are `sub_workflow_id`, `sub_workflow_status` and `sub_workflow_outputs`.
    """

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        if "workflow" in stage.context:
            return super().execute(stage)
        call = bound_call()
        if call is not None and call.sub_workflow is not None:
            return _result(call.sub_workflow)
        return TaskResult.suspend() if stage.context.get(_CONFIG) else TaskResult.terminal(f"No {_CONFIG} in context")

    @override
    def calls_workflow(self, stage: StageExecution) -> SubWorkflowCall | None:
        config = stage.context.get(_CONFIG)
        return SubWorkflowCall(definition=_definition(config)) if config else super().calls_workflow(stage)


def _definition(config: Mapping[str, Any]) -> Mapping[str, Any]:
    stages = config.get("stages", [])
    if not all(isinstance(stage, StageExecution) for stage in stages):
        return config
    application, name = config.get("application", "stabilize"), config.get("name", "sub-workflow")
    inner = Workflow.create(application, name, stages, context=config.get("context"))
    declare_jumps(inner, TaskRegistry.made())
    join_list_outputs(inner)
    return to_definition(inner)


def _result(outcome: SubWorkflowOutcome) -> TaskResult:
    told = {"sub_workflow_id": outcome.workflow_id, "sub_workflow_status": outcome.status}
    if outcome.status == WorkflowStatus.SUCCEEDED.name:
        return TaskResult.success(outputs={**told, "sub_workflow_outputs": outcome.outputs})
    return TaskResult.terminal(f"Child workflow failed with status {outcome.status}", context=told)
