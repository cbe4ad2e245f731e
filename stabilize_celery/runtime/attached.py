"""The workflow that a task's stage is attached to: its name at once, its stages only when code looks at them."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

__all__ = ["AttachedWorkflow"]


def _read_when_asked(name: str) -> Any:
    """Return a property for what is read with the rest of the workflow, when code asks for it."""

    def get(workflow: "AttachedWorkflow") -> Any:
        return getattr(workflow._read(), name)  # noqa: SLF001

    def put(workflow: "AttachedWorkflow", value: Any) -> None:
        setattr(workflow._read(), name, value)  # noqa: SLF001

    return property(get, put, doc=f"The workflow's `{name}`.")


class AttachedWorkflow(Workflow):
    """A workflow seen from one of its stages; navigation reads the rest, once, when it is asked for."""

    _stages: list[StageExecution] | None
    _load: Callable[[], Workflow]
    _loaded: Workflow | None

    def __init__(self, workflow_id: str, application: str, name: str, load: Callable[[], Workflow]) -> None:
        # Not as a dataclass makes its own: most tasks look at nothing, and what they look at is made then.
        self.id, self.application, self.name, self.status = workflow_id, application, name, WorkflowStatus.RUNNING
        self._stages, self._load, self._loaded = None, load, None

    def __getattr__(self, name: str) -> Any:
        make = _MADE_ANEW.get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        vars(self)[name] = made = make()
        return made

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
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


_MADE_ANEW: Mapping[str, Callable[[], Any]] = {
    field.name: field.default_factory for field in fields(Workflow) if field.default_factory is not MISSING
}
"""Fields of a workflow that have no default which all share."""
