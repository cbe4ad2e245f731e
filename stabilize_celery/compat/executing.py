"""How tasks of upstream are executed by a `QueueProcessor`: what they rely on, and the engine does otherwise."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from typing_extensions import override

from stabilize_celery.compat.finalizers import get_finalizer_registry
from stabilize_celery.compat.handler_config import HandlerConfig
from stabilize_celery.compat.jumps import jumps_behind, jumps_with
from stabilize_celery.compat.text_keys import with_text_keys
from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.tasks.task import Task

__all__ = ["FormerExecutor", "OnlyRegistry"]


_USUAL = TaskOptions()


@dataclass(frozen=True)
class FormerExecutor(TaskExecutor):
    """Lets what a jump hands on be seen by all that run again, the stage that jumped among them, as if put out.

    A task that has called a workflow finds its id in the context (`_sub_workflow_id`), as those do that build it first.
    Its `on_cleanup` is called however its stage ends, with the context as its last execution left it.

    `config`: the pauses between tries, of tasks that were not registered with others.
    """

    config: HandlerConfig = field(default_factory=HandlerConfig)

    @override
    def execute(
        self, claimed: ClaimedTask, task: Task, options: TaskOptions, stage: StageExecution, *more: Any, **named: Any
    ) -> TaskReturned:
        if (called := claimed.frame.run.sub) is not None:
            stage.context["_sub_workflow_id"] = called.workflow_id
        if type(task).on_cleanup is not Task.on_cleanup:
            name = f"on_cleanup of {claimed.task_name} in {claimed.message.thread}"
            get_finalizer_registry().put(stage.id, name, lambda: task.on_cleanup(stage))
        before = deepcopy(jumps_behind(stage.context, stage.ref_id))
        returned = super().execute(claimed, task, self._with_pauses(options), stage, *more, **named)
        if returned.status != "REDIRECT" or returned.target is None:
            return msgspec.structs.replace(returned, context={**before, **returned.context}) if before else returned
        jumps = jumps_with(stage.context, stage.ref_id, returned.target, returned.context, returned.outputs)
        return msgspec.structs.replace(returned, outputs={**returned.context, **jumps, **returned.outputs})

    def _with_pauses(self, options: TaskOptions) -> TaskOptions:
        if (options.backoff_s, options.backoff_max_s) != (_USUAL.backoff_s, _USUAL.backoff_max_s):
            return options
        first_ms, longest_ms = self.config.task_backoff_min_delay_ms, self.config.task_backoff_max_delay_ms
        return replace(options, backoff_s=first_ms / 1000, backoff_max_s=longest_ms / 1000)

    @override
    def _returned(self, claimed: ClaimedTask, task: Task, stage: StageExecution, result: Any) -> TaskReturned:
        if isinstance(result, TaskResult):
            told = with_text_keys(result.context), with_text_keys(result.outputs)
            result = replace(result, context=told[0], outputs=told[1])
        return super()._returned(claimed, task, stage, result)


class OnlyRegistry(TaskRegistry):
    """The task types of the only process there is: a task of any other type fails, for no worker will ever know it."""

    def __init__(self, registry: TaskRegistry) -> None:
        vars(self).update(vars(registry))  # what is registered later is known, too

    @override
    def has(self, name: str) -> bool:
        return True

    @override
    def options(self, name: str) -> TaskOptions:
        return super().options(name) if super().has(name) else TaskOptions()
