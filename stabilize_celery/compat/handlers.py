"""Handlers of messages under upstream's names: there is nothing in them, because the engine's own ones are no objects.

A program that makes them and registers them with its `QueueProcessor` runs; one that puts code of its own into a
subclass is refused when it registers it, since that code would never be called.
"""

from typing import Any, ClassVar

from stabilize_celery.compat.celery_queue import CeleryQueue
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = [
    "AddMultiInstanceHandler",
    "CancelRegionHandler",
    "CancelStageHandler",
    "CancelWorkflowHandler",
    "CompleteStageHandler",
    "CompleteTaskHandler",
    "CompleteWorkflowHandler",
    "ContinueParentStageHandler",
    "JumpToStageHandler",
    "PauseTaskHandler",
    "RestartStageHandler",
    "ResumeStageHandler",
    "RunTaskHandler",
    "SignalStageHandler",
    "SkipStageHandler",
    "StabilizeHandler",
    "StartStageHandler",
    "StartTaskHandler",
    "StartWaitingWorkflowsHandler",
    "StartWorkflowHandler",
]


class StabilizeHandler:
    """Stands for the engine's handling of one type of message.

    Args:
        queue: As upstream's; the processor has its own.
        repository: As upstream's; the processor has its own.
        args: Those of upstream's; a `TaskRegistry` among them is the processor's if it was given none.
        more: As `args`.

    """

    message_name: ClassVar[str] = ""
    """The type of message it stands for."""

    def __init__(
        self, queue: CeleryQueue | None = None, repository: RedisWorkflowStore | None = None, *args: Any, **more: Any
    ) -> None:
        self.queue, self.repository = queue, repository
        registries = (one for one in (*args, *more.values()) if isinstance(one, TaskRegistry))
        self.task_registry: TaskRegistry | None = next(registries, None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.message_name} is handled by the engine>"


class StartWorkflowHandler(StabilizeHandler):
    """Stands for what starts a workflow."""

    message_name = "StartWorkflow"


class StartWaitingWorkflowsHandler(StabilizeHandler):
    """Stands for what starts workflows that waited for others of their pipeline."""

    message_name = "StartWaitingWorkflows"


class StartStageHandler(StabilizeHandler):
    """Stands for what starts a stage."""

    message_name = "StartStage"


class SkipStageHandler(StabilizeHandler):
    """Stands for what skips a stage."""

    message_name = "SkipStage"


class CancelStageHandler(StabilizeHandler):
    """Stands for what cancels a stage."""

    message_name = "CancelStage"


class ContinueParentStageHandler(StabilizeHandler):
    """Stands for what goes on with a stage whose before or after stages have ended."""

    message_name = "ContinueParentStage"


class JumpToStageHandler(StabilizeHandler):
    """Stands for what jumps to another stage."""

    message_name = "JumpToStage"


class SignalStageHandler(StabilizeHandler):
    """Stands for what wakes who waits for a signal."""

    message_name = "SignalStage"


class CancelRegionHandler(StabilizeHandler):
    """Stands for what cancels a region of stages."""

    message_name = "CancelRegion"


class AddMultiInstanceHandler(StabilizeHandler):
    """Stands for what adds an instance."""

    message_name = "AddMultiInstance"


class StartTaskHandler(StabilizeHandler):
    """Stands for what starts a task."""

    message_name = "StartTask"


class RunTaskHandler(StabilizeHandler):
    """Stands for what runs a task."""

    message_name = "RunTask"
    _executing_tasks: ClassVar[set[str]] = set()
    """Test-suites clear it between tests; which task runs is known by its claim."""


class CompleteTaskHandler(StabilizeHandler):
    """Stands for what ends a task."""

    message_name = "CompleteTask"


class CompleteStageHandler(StabilizeHandler):
    """Stands for what ends a stage."""

    message_name = "CompleteStage"


class CompleteWorkflowHandler(StabilizeHandler):
    """Stands for what ends a workflow."""

    message_name = "CompleteWorkflow"


class CancelWorkflowHandler(StabilizeHandler):
    """Stands for what cancels a workflow."""

    message_name = "CancelWorkflow"


class RestartStageHandler(StabilizeHandler):
    """Stands for what runs a stage again."""

    message_name = "RestartStage"


class ResumeStageHandler(StabilizeHandler):
    """Stands for what goes on with a paused stage."""

    message_name = "ResumeStage"


class PauseTaskHandler(StabilizeHandler):
    """Stands for what pauses a task."""

    message_name = "PauseTask"
