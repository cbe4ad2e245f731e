"""All messages of upstream by their names: those that programs push, and those that are the engine's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, NoReturn

from typing_extensions import override

from stabilize_celery.compat import control
from stabilize_celery.compat.control import ControlMessage, StageLevel, TaskLevel, WorkflowLevel
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.models.stage import SyntheticStageOwner
from stabilize_celery.models.status import WorkflowStatus

__all__ = [
    "MESSAGE_TYPES",
    "CompleteStage",
    "CompleteTask",
    "CompleteWorkflow",
    "ContinueParentStage",
    "EngineMessage",
    "InvalidStageId",
    "InvalidTaskId",
    "InvalidTaskType",
    "InvalidWorkflowId",
    "JumpToStage",
    "MessageContractError",
    "PauseTask",
    "RunTask",
    "StartStage",
    "StartTask",
    "StartWaitingWorkflows",
    "create_message_from_dict",
    "get_message_type_name",
]

_INSTEAD: Mapping[str, str] = {
    "StartStage": "orchestrator.start(workflow), or restart(workflow, stage_id)",
    "StartTask": "orchestrator.restart(workflow, stage_id)",
    "RunTask": "orchestrator.restart(workflow, stage_id)",
    "JumpToStage": "TaskResult.jump_to(ref_id) in the task",
    "PauseTask": "store.pause(workflow_id)",
    "CompleteStage": "SkipStage, which lets the stage's thread go on",
    "CompleteWorkflow": "orchestrator.cancel(workflow)",
}


@dataclass(kw_only=True)
class EngineMessage(ControlMessage):
    """What only the engine sends: a program may make one, and pushing it is refused."""

    @override
    def apply(self, store: RedisWorkflowStore) -> NoReturn:
        """Refuse. Raises TypeError: always; the text says what to do in its place."""
        name = type(self).__name__
        instead = f"; use {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise TypeError(f"{name} can't be pushed: the engine sends it itself, with the state that it is about{instead}")


@dataclass(kw_only=True)
class CompleteWorkflow(EngineMessage, WorkflowLevel):
    """A workflow may have ended."""


@dataclass(kw_only=True)
class StartWaitingWorkflows(EngineMessage):
    """Workflows that waited for others of their pipeline may start."""

    pipeline_config_id: str = ""
    purge_queue: bool = False


@dataclass(kw_only=True)
class StartStage(EngineMessage, StageLevel):
    """A stage may start."""

    triggering_upstream_ref_id: str = ""


@dataclass(kw_only=True)
class CompleteStage(EngineMessage, StageLevel):
    """A stage may have ended."""


@dataclass(kw_only=True)
class ContinueParentStage(EngineMessage, StageLevel):
    """Before or after stages of a stage may have ended."""

    phase: SyntheticStageOwner = SyntheticStageOwner.STAGE_AFTER


@dataclass(kw_only=True)
class JumpToStage(EngineMessage, StageLevel):
    """A task wants to go on elsewhere."""

    target_stage_ref_id: str = ""
    jump_context: dict[str, Any] = field(default_factory=dict)
    jump_outputs: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class StartTask(EngineMessage, TaskLevel):
    """A task may start."""


@dataclass(kw_only=True)
class RunTask(EngineMessage, TaskLevel):
    """A task is executed."""

    task_type: str = ""


@dataclass(kw_only=True)
class CompleteTask(EngineMessage, TaskLevel):
    """A task has ended."""

    status: WorkflowStatus = WorkflowStatus.SUCCEEDED
    original_status: WorkflowStatus | None = None


@dataclass(kw_only=True)
class PauseTask(EngineMessage, TaskLevel):
    """A task is held."""


@dataclass(kw_only=True)
class InvalidWorkflowId(EngineMessage, WorkflowLevel):
    """There is no such workflow."""


@dataclass(kw_only=True)
class InvalidStageId(EngineMessage, StageLevel):
    """There is no such stage."""


@dataclass(kw_only=True)
class InvalidTaskId(EngineMessage, TaskLevel):
    """There is no such task."""


@dataclass(kw_only=True)
class InvalidTaskType(EngineMessage, TaskLevel):
    """No task is registered under the name."""

    task_type_name: str = ""


_OF_PROGRAMS: tuple[type[ControlMessage], ...] = (
    control.StartWorkflow,
    control.CancelWorkflow,
    control.SkipStage,
    control.CancelStage,
    control.RestartStage,
    control.ResumeStage,
    control.SignalStage,
    control.CancelRegion,
    control.AddMultiInstance,
)
_OF_THE_ENGINE: tuple[type[ControlMessage], ...] = (
    CompleteWorkflow,
    StartWaitingWorkflows,
    StartStage,
    CompleteStage,
    ContinueParentStage,
    JumpToStage,
    StartTask,
    RunTask,
    CompleteTask,
    PauseTask,
    InvalidWorkflowId,
    InvalidStageId,
    InvalidTaskId,
    InvalidTaskType,
)
MESSAGE_TYPES: Mapping[str, type[ControlMessage]] = {one.__name__: one for one in (*_OF_PROGRAMS, *_OF_THE_ENGINE)}
"""Each message's class by its name."""


class MessageContractError(ValueError):
    """A message has a field whose value is none of those it may have."""


def get_message_type_name(message: ControlMessage) -> str:
    """Return the name that a message has in `MESSAGE_TYPES`."""
    return type(message).__name__


def create_message_from_dict(type_name: str, data: Mapping[str, Any]) -> ControlMessage:
    """Return a message of its fields; the names of statuses and phases are read, what it does not have is left out.

    Raises:
        ValueError: there is no such message.
        MessageContractError: it has a status or phase that does not exist.

    """
    if type_name not in MESSAGE_TYPES:
        raise ValueError(f"unknown message type {type_name!r}; there are {', '.join(MESSAGE_TYPES)}")
    kind = MESSAGE_TYPES[type_name]
    own = {one.name for one in fields(kind)}
    return kind(**{name: _read(type_name, name, value) for name, value in data.items() if name in own})


_ENUMS: Mapping[str, type[Enum]] = {
    "status": WorkflowStatus,
    "original_status": WorkflowStatus,
    "phase": SyntheticStageOwner,
}


def _read(type_name: str, name: str, value: Any) -> Any:
    kind = _ENUMS.get(name)
    if kind is None or not isinstance(value, str):
        return value
    if value not in kind.__members__:
        raise MessageContractError(
            f"{type_name}.{name}: there is no {value!r}; there are {', '.join(kind.__members__)}"
        )
    return kind[value]
