"""Messages that programs push by hand, with the fields that they are used to."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.client.outcomes import Outcome
from stabilize_celery.compat.store import RedisWorkflowStore, stage_of

__all__ = [
    "AddMultiInstance",
    "CancelRegion",
    "CancelStage",
    "CancelWorkflow",
    "ControlMessage",
    "RestartStage",
    "ResumeStage",
    "SignalStage",
    "SkipStage",
    "StageLevel",
    "StartWorkflow",
    "TaskLevel",
    "WorkflowLevel",
]


@dataclass(kw_only=True)
class ControlMessage(ABC):
    """Something that the outside wants of a workflow. `stage_id`: a stage's id or `ref_id`.

    Ids, counts and errors of deliveries are as upstream's, and without an effect: a message is applied at once.
    """

    message_id: str | None = field(default=None, repr=False)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC), repr=False)
    attempts: int = field(default=0, repr=False)
    max_attempts: int = field(default=10, repr=False)
    last_error: str | None = field(default=None, repr=False)
    last_error_type: str | None = field(default=None, repr=False)
    execution_type: str = "PIPELINE"
    execution_id: str = ""
    stage_id: str = ""
    retry_count: int = 0

    @abstractmethod
    def apply(self, store: RedisWorkflowStore) -> Outcome | WorkflowHandle:
        """Do it. Raises WorkflowNotFoundError; KeyError: there is no such stage."""

    def copy_with_attempts(self, attempts: int) -> Self:
        """Return a copy that was delivered so often (count)."""
        return replace(self, attempts=attempts)

    def set_error_context(self, error: BaseException) -> None:
        """Note why a delivery failed."""
        self.last_error, self.last_error_type = str(error), type(error).__name__

    def _ref(self, store: RedisWorkflowStore) -> str:
        return stage_of(store.retrieve(self.execution_id), self.stage_id).ref_id


@dataclass(kw_only=True)
class WorkflowLevel(ControlMessage):
    """What is about a workflow."""


@dataclass(kw_only=True)
class StageLevel(WorkflowLevel):
    """What is about a stage."""

    @classmethod
    def from_execution_level(cls, msg: ControlMessage, stage_id: str) -> Self:
        """Return a message about a stage of the workflow that another one is about."""
        return cls(execution_type=msg.execution_type, execution_id=msg.execution_id, stage_id=stage_id)


@dataclass(kw_only=True)
class TaskLevel(StageLevel):
    """What is about a task."""

    task_id: str = ""

    @classmethod
    def from_stage_level(cls, msg: ControlMessage, task_id: str) -> Self:
        """Return a message about a task of the stage that another one is about."""
        made = cls.from_execution_level(msg, msg.stage_id)
        made.task_id = task_id
        return made


@dataclass(kw_only=True)
class StartWorkflow(WorkflowLevel):
    """Start a stored workflow."""

    def apply(self, store: RedisWorkflowStore) -> WorkflowHandle:
        """Do it. Raises WorkflowNotFoundError."""
        return store.start(self.execution_id)


@dataclass(kw_only=True)
class CancelWorkflow(WorkflowLevel):
    """End a workflow CANCELED."""

    user: str = ""
    reason: str = ""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError."""
        return store.cancel(self.execution_id, self.user, self.reason)


@dataclass(kw_only=True)
class CancelStage(StageLevel):
    """Take the thread out of a stage."""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        return store.handle(self.execution_id).cancel_stage(self._ref(store))


@dataclass(kw_only=True)
class SkipStage(StageLevel):
    """Let the thread in a stage go on without the rest of its work."""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        return store.handle(self.execution_id).skip_stage(self._ref(store))


@dataclass(kw_only=True)
class RestartStage(StageLevel):
    """Run a stage of an ended workflow, and what follows it, again."""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        return store.handle(self.execution_id).restart(self._ref(store))


@dataclass(kw_only=True)
class ResumeStage(StageLevel):
    """Let a paused workflow go on; pausing is by workflow here."""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError."""
        return store.resume(self.execution_id)


@dataclass(kw_only=True)
class SignalStage(StageLevel):
    """Wake a task that waits for a signal. Transient unless `persistent`."""

    signal_name: str = ""
    signal_data: dict[str, Any] = field(default_factory=dict)
    persistent: bool = False
    user: str = ""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        handle = store.handle(self.execution_id)
        return handle.signal(self._ref(store), self.signal_name, self.signal_data, transient=not self.persistent)


@dataclass(kw_only=True)
class CancelRegion(WorkflowLevel):
    """Take away the threads in the stages of a region."""

    region: str = ""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError."""
        return store.handle(self.execution_id).cancel_region(self.region)


@dataclass(kw_only=True)
class AddMultiInstance(StageLevel):
    """Add one instance to a stage that allows it."""

    instance_context: dict[str, Any] = field(default_factory=dict)

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        return store.handle(self.execution_id).add_instances(self._ref(store), 1, self.instance_context)
