"""WorkflowLauncher: workflows from dictionaries, with the keys that pipeline configurations have (`refId`, …)."""

from collections.abc import Iterable, Mapping
from typing import Any

from stabilize_celery.compat.orchestrator import Orchestrator
from stabilize_celery.compat.stage_builders import get_default_factory
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.builders import StageDefinitionBuilderFactory
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["WorkflowLauncher", "create_simple_pipeline", "create_stage_config"]

_ABOUT_THE_STAGE = frozenset(
    {"id", "refId", "type", "name", "requisiteStageRefIds", "parentStageId", "syntheticStageOwner"}
)
"""Keys of a stage that say what it is; all others are its context."""


class WorkflowLauncher:
    """Makes workflows of configurations, and starts them.

    Args:
        repository: Where they are stored.
        runner: What starts them.
        stage_builder_factory: Which tasks a stage of a type has; default: what `register_builder` has made known.
        task_registry: As upstream's; the processor has its own.

    """

    def __init__(
        self,
        repository: RedisWorkflowStore,
        runner: Orchestrator,
        stage_builder_factory: StageDefinitionBuilderFactory | None = None,
        task_registry: TaskRegistry | None = None,
    ) -> None:
        self.repository, self.runner, self.task_registry = repository, runner, task_registry
        self.stage_builder_factory = stage_builder_factory or get_default_factory()

    def start(self, pipeline_config: Mapping[str, Any], trigger: Mapping[str, Any] | None = None) -> Workflow:
        """Start a workflow. Raises InvalidWorkflowError."""
        return self._launch(self.parse_execution(pipeline_config, trigger))

    def create_orchestration(self, application: str, name: str, stages: Iterable[Mapping[str, Any]]) -> Workflow:
        """Start a workflow that belongs to no pipeline. Raises InvalidWorkflowError."""
        return self._launch(Workflow.create_orchestration(application, name, [self._stage(one) for one in stages]))

    def parse_execution(self, config: Mapping[str, Any], trigger_config: Mapping[str, Any] | None = None) -> Workflow:
        """Return the workflow of a configuration. Raises InvalidWorkflowError."""
        workflow = Workflow.create(
            application=config.get("application", "unknown"),
            name=config.get("name", "Unnamed Pipeline"),
            stages=[self._stage(one) for one in config.get("stages", ())],
            trigger=Trigger.from_dict(dict(trigger_config or {})),
            pipeline_config_id=config.get("id"),
        )
        # Without an id it has no effect there, and is refused here.
        workflow.is_limit_concurrent = bool(config.get("id")) and config.get("limitConcurrent", False)
        workflow.max_concurrent_executions = config.get("maxConcurrentExecutions", 0)
        workflow.keep_waiting_pipelines = config.get("keepWaitingPipelines", False)
        return workflow

    def _launch(self, workflow: Workflow) -> Workflow:
        self.repository.store(workflow)
        self.runner.start(workflow)
        return workflow

    def _stage(self, config: Mapping[str, Any]) -> StageExecution:
        kind = config.get("type", "unknown")
        stage = StageExecution.create(
            type=kind,
            name=config.get("name", kind),
            ref_id=config.get("refId", config.get("id", "")),
            context={key: value for key, value in config.items() if key not in _ABOUT_THE_STAGE},
            requisite_stage_ref_ids=set(config.get("requisiteStageRefIds", ())),
        )
        stage.tasks = self.stage_builder_factory.get(kind).build_tasks(stage)
        stage.attach_tasks()
        return stage


def create_simple_pipeline(name: str, application: str, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the configuration of a pipeline."""
    return {"name": name, "application": application, "stages": stages}


def create_stage_config(
    ref_id: str, stage_type: str, name: str, requisites: list[str] | None = None, **context: Any
) -> dict[str, Any]:
    """Return the configuration of a stage."""
    required = {"requisiteStageRefIds": requisites} if requisites else {}
    return {"refId": ref_id, "type": stage_type, "name": name, **required, **context}
