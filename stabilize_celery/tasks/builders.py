"""Builders of stages by type: which tasks a stage of a type has, and what runs before, after, and on failure."""

from abc import ABC, abstractmethod
from typing import Optional

from typing_extensions import override

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.graph import StageGraphBuilder
from stabilize_celery.models.problems import Suggester
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution

__all__ = [
    "NoOpStageBuilder",
    "StageDefinitionBuilder",
    "StageDefinitionBuilderFactory",
    "UnregisteredStageTypeError",
    "WaitStageBuilder",
]


class UnregisteredStageTypeError(ConfigurationError):
    """No builder is registered for a stage's type."""


class StageDefinitionBuilder(ABC):
    """What a stage of one type consists of; every method but `type` may be left as it is."""

    @property
    @abstractmethod
    def type(self) -> str:
        """The stage type that this builder is for."""

    @property
    def aliases(self) -> list[str]:
        """Other names of the type."""
        return []

    def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:  # noqa: ARG002 -- a hook
        """Return the tasks of the stage, in order."""
        return []

    def before_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:  # noqa: B027 -- a hook
        """Add the stages that run before the tasks to `graph`."""

    def after_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:  # noqa: B027 -- a hook
        """Add the stages that run after the tasks to `graph`."""

    def on_failure_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:  # noqa: B027 -- a hook
        """Add the stages that run when a task has failed to `graph`."""

    def add_context_flags(self, stage: StageExecution) -> None:  # noqa: B027 -- a hook
        """Set context values that go with the type."""


class NoOpStageBuilder(StageDefinitionBuilder):
    """Builds nothing: a stage has the tasks that its definition gives it."""

    @property
    @override
    def type(self) -> str:
        return "noop"


class WaitStageBuilder(StageDefinitionBuilder):
    """A stage that waits `seconds` (or `waitTime`, also seconds)."""

    @property
    @override
    def type(self) -> str:
        return "wait"

    @override
    def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
        return [TaskExecution.create(name="wait", implementing_class="wait", stage_start=True, stage_end=True)]


class StageDefinitionBuilderFactory:
    """The builders that are known, by type and alias.

    Args:
        strict: Refuse a type without a builder; otherwise such a stage is built by `NoOpStageBuilder`.
        shared: Where to look for the builder of a type that is not known here.

    """

    def __init__(self, *, strict: bool = False, shared: Optional["StageDefinitionBuilderFactory"] = None) -> None:
        self._strict, self._shared = strict, shared
        self._builders: dict[str, StageDefinitionBuilder] = {}
        self.register(NoOpStageBuilder())
        self.register(WaitStageBuilder())

    def register(self, builder: StageDefinitionBuilder) -> None:
        """Make a builder known by its type and aliases; a later one replaces an earlier one."""
        for name in (builder.type, *builder.aliases):
            self._builders[name] = builder

    def register_class(self, builder_class: type[StageDefinitionBuilder]) -> None:
        """Make a builder known by its class, which takes no arguments."""
        self.register(builder_class())

    def get(self, stage_type: str) -> StageDefinitionBuilder:
        """Return the builder for a type.

        Raises:
            UnregisteredStageTypeError: there is none, and the factory is strict.

        """
        builder = self._builders.get(stage_type)
        if builder is not None:
            return builder
        if self._shared is not None and self._shared.has(stage_type):
            return self._shared.get(stage_type)
        if self._strict:
            hint = Suggester(self._builders).suggest(stage_type)
            raise UnregisteredStageTypeError(
                f"no builder is registered for the stage type {stage_type!r}{hint}; known are: "
                f"{', '.join(self.list_types())}"
            )
        return self._builders["noop"]

    def has(self, stage_type: str) -> bool:
        """Return whether a builder is registered for a type or alias."""
        return stage_type in self._builders or (self._shared is not None and self._shared.has(stage_type))

    def list_types(self) -> list[str]:
        """Return all types and aliases, sorted."""
        return sorted(self._builders)


SHARED = StageDefinitionBuilderFactory()
"""What all registries of this process know."""
