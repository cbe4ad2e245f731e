"""TaskExecution: the smallest unit of work; a stage runs its tasks one after another."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ulid import ULID

from stabilize_celery.models.snapshot import TaskStateSnapshot, freeze
from stabilize_celery.models.status import WorkflowStatus

if TYPE_CHECKING:
    from stabilize_celery.models.stage.stage import StageExecution

__all__ = ["TaskExecution", "mark_ends"]


def _generate_task_id() -> str:
    return str(ULID())


@dataclass
class TaskExecution:
    """One task of a stage: what runs (`implementing_class`, a name in the registry) and how far it is.

    Attributes:
        start_time: When it started (epoch milliseconds); `end_time` likewise.
        stage_start: It is the stage's first task; `stage_end`: the last. The stage sets both when nobody did.
        loop_start: It begins a loop inside the stage; `loop_end` ends it.
        task_exception_details: What went wrong, with the traceback.

    """

    id: str = field(default_factory=_generate_task_id)
    name: str = ""
    implementing_class: str = ""
    status: WorkflowStatus = WorkflowStatus.NOT_STARTED
    start_time: int | None = None
    end_time: int | None = None
    stage_start: bool = False
    stage_end: bool = False
    loop_start: bool = False
    loop_end: bool = False
    task_exception_details: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    _stage: weakref.ReferenceType[StageExecution] | StageExecution | None = field(
        default=None, repr=False, compare=False
    )
    _marked_by_stage: bool = field(default=False, init=False, repr=False, compare=False)

    @property
    def stage(self) -> StageExecution | None:
        """The stage that it belongs to; None when unattached or gone."""
        return self._stage() if isinstance(self._stage, weakref.ReferenceType) else self._stage

    @stage.setter
    def stage(self, value: StageExecution) -> None:
        self._stage = weakref.ref(value)

    def set_stage_strong(self, value: StageExecution) -> None:
        """Attach to a stage and keep it alive."""
        self._stage = value

    def has_stage(self) -> bool:
        """Return whether it is attached to a stage that still exists."""
        return self.stage is not None

    @property
    def is_stage_start(self) -> bool:
        """It is marked as the stage's first task."""
        return self.stage_start

    @property
    def is_stage_end(self) -> bool:
        """It is marked as the stage's last task."""
        return self.stage_end

    @property
    def is_loop_start(self) -> bool:
        """It begins a loop."""
        return self.loop_start

    @property
    def is_loop_end(self) -> bool:
        """It ends a loop."""
        return self.loop_end

    @property
    def ends_stage_early(self) -> bool:
        """Its author marked it as the last task; a mark that the stage made itself does not count."""
        return self.stage_end and not self._marked_by_stage

    def cleanup(self) -> None:
        """Forget the stage."""
        self._stage = None

    def set_exception_details(self, exception: dict[str, Any]) -> None:
        """Keep what went wrong."""
        self.task_exception_details["exception"] = exception

    @property
    def phase_version(self) -> tuple[str, int]:
        """The status' name and the version, to compare with a later state."""
        return (self.status.name, self.version)

    def state_snapshot(self) -> TaskStateSnapshot:
        """Return a frozen copy of the state."""
        return TaskStateSnapshot(
            id=self.id,
            name=self.name,
            status=self.status,
            version=self.version,
            implementing_class=self.implementing_class,
            start_time=self.start_time,
            end_time=self.end_time,
            exception_details=freeze(self.task_exception_details),
        )

    @classmethod
    def create(
        cls, name: str, implementing_class: str, stage_start: bool = False, stage_end: bool = False
    ) -> TaskExecution:
        """Return a new task; without marks, the stage that it is attached to marks its first and last task."""
        return cls(name=name, implementing_class=implementing_class, stage_start=stage_start, stage_end=stage_end)


def mark_ends(tasks: Sequence[TaskExecution]) -> None:
    """Mark the first and the last task, unless some author's mark stands on one; may be repeated after changes."""
    for task in tasks:
        if task._marked_by_stage:  # noqa: SLF001 - the mark is this module's
            task.stage_start = task.stage_end = task._marked_by_stage = False  # noqa: SLF001
    if not tasks or any(task.stage_start or task.stage_end for task in tasks):
        return
    for task in {id(one): one for one in (tasks[0], tasks[-1])}.values():
        task.stage_start = task is tasks[0]
        task.stage_end = task is tasks[-1]
        task._marked_by_stage = True  # noqa: SLF001
