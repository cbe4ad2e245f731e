"""The workflow that a task's stage is attached to: its name at once, its stages only when code looks at them."""

from collections.abc import Callable
from typing import Any

from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

__all__ = ["AttachedWorkflow"]


def _read_when_asked(name: str) -> Any:
    """Return a property for what is read with the rest of the workflow, when code asks for it."""

    def get(workflow: "AttachedWorkflow") -> Any:
        return vars(workflow)[name] if workflow._load is None else getattr(workflow._read(), name)  # noqa: SLF001

    def put(workflow: "AttachedWorkflow", value: Any) -> None:
        if workflow._load is None:  # noqa: SLF001
            vars(workflow)[name] = value
        else:
            setattr(workflow._read(), name, value)  # noqa: SLF001

    return property(get, put, doc=f"The workflow's `{name}`.")


class AttachedWorkflow(Workflow):
    """A workflow seen from one of its stages; navigation reads the rest, once, when it is asked for."""

    def __init__(self, workflow_id: str, application: str, name: str, load: Callable[[], Workflow]) -> None:
        self._stages: list[StageExecution] | None = []
        self._load: Callable[[], Workflow] | None = None
        super().__init__(id=workflow_id, application=application, name=name, status=WorkflowStatus.RUNNING)
        self._stages = None
        self._load = load
        self._loaded: Workflow | None = None

    @property
    def stages(self) -> list[StageExecution]:
        """All stages, as read now."""
        if self._stages is None:
            for stage in (workflow := self._read()).stages:
                stage.set_execution_strong(self)
            self._stages = workflow.stages
        return self._stages

    @stages.setter
    def stages(self, value: list[StageExecution]) -> None:
        self._stages = value

    context = _read_when_asked("context")
    trigger = _read_when_asked("trigger")
    pipeline_config_id = _read_when_asked("pipeline_config_id")
    start_time = _read_when_asked("start_time")

    def _read(self) -> Workflow:
        if self._loaded is None and self._load is not None:
            self._loaded = self._load()
        return self._loaded or self
