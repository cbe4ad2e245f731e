"""Messages that programs push by hand, with the fields that they are used to."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

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
    "StartWorkflow",
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

    def _ref(self, store: RedisWorkflowStore) -> str:
        return stage_of(store.retrieve(self.execution_id), self.stage_id).ref_id


@dataclass(kw_only=True)
class StartWorkflow(ControlMessage):
    """Start a stored workflow."""

    def apply(self, store: RedisWorkflowStore) -> WorkflowHandle:
        """Do it. Raises WorkflowNotFoundError."""
        return store.start(self.execution_id)


@dataclass(kw_only=True)
class CancelWorkflow(ControlMessage):
    """End a workflow CANCELED."""

    user: str = ""
    reason: str = ""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError."""
        return store.cancel(self.execution_id, self.user, self.reason)


@dataclass(kw_only=True)
class CancelStage(ControlMessage):
    """Take the thread out of a stage."""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        return store.handle(self.execution_id).cancel_stage(self._ref(store))


@dataclass(kw_only=True)
class SkipStage(ControlMessage):
    """Let the thread in a stage go on without the rest of its work."""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        return store.handle(self.execution_id).skip_stage(self._ref(store))


@dataclass(kw_only=True)
class RestartStage(ControlMessage):
    """Run a stage of an ended workflow, and what follows it, again."""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        return store.handle(self.execution_id).restart(self._ref(store))


@dataclass(kw_only=True)
class ResumeStage(ControlMessage):
    """Let a paused workflow go on; pausing is by workflow here."""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError."""
        return store.resume(self.execution_id)


@dataclass(kw_only=True)
class SignalStage(ControlMessage):
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
class CancelRegion(ControlMessage):
    """Take away the threads in the stages of a region."""

    region: str = ""

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError."""
        return store.handle(self.execution_id).cancel_region(self.region)


@dataclass(kw_only=True)
class AddMultiInstance(ControlMessage):
    """Add one instance to a stage that allows it."""

    instance_context: dict[str, Any] = field(default_factory=dict)

    def apply(self, store: RedisWorkflowStore) -> Outcome:
        """Do it. Raises WorkflowNotFoundError, KeyError."""
        return store.handle(self.execution_id).add_instances(self._ref(store), 1, self.instance_context)
