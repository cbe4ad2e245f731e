"""The workflow that a task's stage is attached to: its name at once, its stages only when code looks at them."""

from collections.abc import Callable
from typing import Any

from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

__all__ = ["AttachedWorkflow"]


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

    @property
    def context(self) -> dict[str, Any]:
        """The workflow's own context."""
        return self._read().context if self._load is not None else {}

    @context.setter
    def context(self, value: dict[str, Any]) -> None:
        if self._load is not None:
            self._read().context = value

    def _read(self) -> Workflow:
        if self._loaded is None and self._load is not None:
            self._loaded = self._load()
        return self._loaded or self
