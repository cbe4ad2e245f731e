"""Orchestration messages: the glossary of the engine.

A message is only a nudge (PROTOCOL section 0): what must be done stands in the ledger under the message's `name`,
and a delivery may be lost, doubled or late. Names are derived from the thread that causes the message, so deciding
twice owes the same thing once. Fields are ids only, and readable: they are the kwargs that Flower shows.
"""

from typing import ClassVar

import msgspec

__all__ = [
    "LEDGER_VERSION",
    "MESSAGE_TYPES",
    "AcquireLock",
    "CancelSubWorkflow",
    "CancelTask",
    "CheckMilestone",
    "ChooseStage",
    "ClearWorkflow",
    "CompleteStage",
    "CompleteSubWorkflow",
    "ContinueStage",
    "EvaluateJoin",
    "ExpireWorkflow",
    "FinalizeStage",
    "JudgeInstances",
    "LeaveLock",
    "Message",
    "NotifyParent",
    "ReleaseLock",
    "ResumeParked",
    "RunTask",
    "SettleWorkflow",
    "StartStage",
    "StartSubWorkflow",
    "StartWorkflow",
    "TimeOut",
]

LEDGER_VERSION = 1


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something owed to a workflow; every subclass is one Celery task `stabilize.<class name>`."""

    is_merge: ClassVar[bool] = False
    """Level-triggered: owed again by everyone who might have made it necessary, under one name."""
    works_after_end: ClassVar[bool] = False
    """Handled whatever the workflow's status is (the cleaners)."""
    outlives_workflow: ClassVar[bool] = False
    """A cleaner of what a workflow has left in another slot: handled even when the workflow is gone."""
    begins_work: ClassVar[bool] = False
    """Parked while the workflow is paused, or waits for a slot of its pipeline."""
    ends_work: ClassVar[bool] = False
    """Goes before what begins work: others wait for the end, the join, the lock or the slot that it brings."""

    workflow_id: str

    @property
    def name(self) -> str:
        """The ledger name: unique within the workflow, stable however often it is decided."""
        raise AssertionError(type(self).__name__)


class StartWorkflow(Message, frozen=True, kw_only=True):
    """Begin a workflow that waits for a concurrency slot of its pipeline, for the first time or after a restart."""

    @property
    def name(self) -> str:
        """`Begin`."""
        return "Begin"


class StartStage(Message, frozen=True, kw_only=True):
    """Start the enabled run `thread` of stage `ref_id`."""

    begins_work: ClassVar[bool] = True
    ref_id: str
    thread: str

    @property
    def name(self) -> str:
        """`Start:<thread>`."""
        return f"Start:{self.thread}"


class RunTask(Message, frozen=True, kw_only=True):
    """Execute task number `task_index` of a run; owed for as long as the task is not ended."""

    begins_work: ClassVar[bool] = True
    ref_id: str
    thread: str
    task_index: int
    task_type: str
    instance: int | None = None

    @property
    def name(self) -> str:
        """`Run:<thread>.<instance>.<task index>`."""
        return run_name(self.thread, self.instance, self.task_index)


class CompleteStage(Message, frozen=True, kw_only=True):
    """End a run whose work is done and move its thread on."""

    ends_work: ClassVar[bool] = True
    ref_id: str
    thread: str

    @property
    def name(self) -> str:
        """`Done:<thread>`."""
        return f"Done:{self.thread}"


class ContinueStage(Message, frozen=True, kw_only=True):
    """Look at the before or after stages of a run: start those that can, go on when all are done."""

    is_merge: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True
    ref_id: str
    thread: str

    @property
    def name(self) -> str:
        """`Continue:<thread>`."""
        return f"Continue:{self.thread}"


class JudgeInstances(Message, frozen=True, kw_only=True):
    """Judge by how many instances of a run have ended whether its thread goes on, and the run ends."""

    is_merge: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True
    ref_id: str
    thread: str

    @property
    def name(self) -> str:
        """`Inst:<thread>`."""
        return f"Inst:{self.thread}"


class ChooseStage(Message, frozen=True, kw_only=True):
    """Choose an offered stage whose time has come, if nobody has chosen before."""

    begins_work: ClassVar[bool] = True
    ref_id: str
    thread: str

    @property
    def name(self) -> str:
        """`Choose:<thread>`."""
        return f"Choose:{self.thread}"


class CheckMilestone(Message, frozen=True, kw_only=True):
    """Look again at who waits for a status of stage `ref_id`: it has changed, or will not any more."""

    is_merge: ClassVar[bool] = True
    ref_id: str

    @property
    def name(self) -> str:
        """`Mile:<ref_id>`."""
        return f"Mile:{self.ref_id}"


class EvaluateJoin(Message, frozen=True, kw_only=True):
    """Judge the arrivals at the join of stage `ref_id`."""

    is_merge: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True
    ref_id: str

    @property
    def name(self) -> str:
        """`Eval:<ref_id>`."""
        return f"Eval:{self.ref_id}"


class SettleWorkflow(Message, frozen=True, kw_only=True):
    """Judge a workflow in which no thread moves any more: break a knot, or end it."""

    is_merge: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`Settle`."""
        return "Settle"


class AcquireLock(Message, frozen=True, kw_only=True):
    """Ask for the mutex of a run or a section, or look again at who holds it."""

    begins_work: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True
    ref_id: str
    thread: str
    request: int

    @property
    def name(self) -> str:
        """`Lock:<thread>#<request>`."""
        return f"Lock:{self.thread}#{self.request}"


class LeaveLock(Message, frozen=True, kw_only=True):
    """Give the mutex of a section, or of an ended run, back if nobody is at work under it any more."""

    is_merge: ClassVar[bool] = True
    works_after_end: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True
    ref_id: str
    thread: str

    @property
    def name(self) -> str:
        """`Leave:<thread>`."""
        return f"Leave:{self.thread}"


class ReleaseLock(Message, frozen=True, kw_only=True):
    """Give a mutex back and hand it over to who waits first."""

    works_after_end: ClassVar[bool] = True
    outlives_workflow: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True
    ref_id: str
    thread: str
    request: int
    lock: str

    @property
    def name(self) -> str:
        """`Unlock:<thread>#<request>`."""
        return f"Unlock:{self.thread}#{self.request}"


class TimeOut(Message, frozen=True, kw_only=True):
    """End what is still at work at its deadline: `scope` is workflow, stage, task, or wait."""

    scope: str
    ref_id: str = ""
    thread: str = ""
    task_index: int = 0
    instance: int | None = None

    @property
    def name(self) -> str:
        """`TO:workflow`, `TO:stage:<thread>`, or `TO:<scope>:<thread>.<instance>.<task index>`."""
        return timer_name(self.scope, self.thread, self.instance, self.task_index)


class ClearWorkflow(Message, frozen=True, kw_only=True):
    """Take away what still lives in a workflow that has ended."""

    is_merge: ClassVar[bool] = True
    works_after_end: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`Clear`."""
        return "Clear"


class ExpireWorkflow(Message, frozen=True, kw_only=True):
    """Delete an ended workflow whose retention is over."""

    is_merge: ClassVar[bool] = True
    works_after_end: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`Expire`."""
        return "Expire"


class ResumeParked(Message, frozen=True, kw_only=True):
    """Bring back what was parked while the workflow was paused."""

    is_merge: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`Unpark`."""
        return "Unpark"


class StartSubWorkflow(Message, frozen=True, kw_only=True):
    """Create the inner workflow that a run calls."""

    begins_work: ClassVar[bool] = True
    ref_id: str
    thread: str
    child_id: str

    @property
    def name(self) -> str:
        """`Child:<thread>`."""
        return f"Child:{self.thread}"


class CancelSubWorkflow(Message, frozen=True, kw_only=True):
    """Cancel the inner workflow of a run that ended early; leaves a tombstone if it was not created yet."""

    works_after_end: ClassVar[bool] = True
    outlives_workflow: ClassVar[bool] = True
    thread: str
    child_id: str

    @property
    def name(self) -> str:
        """`Kill:<thread>`."""
        return f"Kill:{self.thread}"


class NotifyParent(Message, frozen=True, kw_only=True):
    """Tell the calling run that its inner workflow has ended."""

    works_after_end: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`Notify`."""
        return "Notify"


class CompleteSubWorkflow(Message, frozen=True, kw_only=True):
    """Take the result of an ended inner workflow."""

    is_merge: ClassVar[bool] = True
    ends_work: ClassVar[bool] = True
    ref_id: str
    thread: str
    child_id: str

    @property
    def name(self) -> str:
        """`ChildDone:<thread>`."""
        return f"ChildDone:{self.thread}"


class CancelTask(Message, frozen=True, kw_only=True):
    """Tell a task that was executed and has not ended, by its `on_cancel`, that its run was taken away."""

    works_after_end: ClassVar[bool] = True
    ref_id: str
    thread: str
    task_index: int
    task_type: str

    @property
    def name(self) -> str:
        """`Cancel:<thread>.<task index>`."""
        return f"Cancel:{self.thread}.{self.task_index}"


class FinalizeStage(Message, frozen=True, kw_only=True):
    """Run the finalizers and clean-up hooks of an ended run."""

    works_after_end: ClassVar[bool] = True
    ref_id: str
    thread: str

    @property
    def name(self) -> str:
        """`Finalize:<thread>`."""
        return f"Finalize:{self.thread}"


def run_name(thread: str, instance: int | None, task_index: int) -> str:
    """Return the ledger name of a task of a run."""
    return f"Run:{thread}.{'' if instance is None else instance}.{task_index}"


def timer_name(scope: str, thread: str, instance: int | None = None, task_index: int = 0) -> str:
    """Return the ledger name of a deadline."""
    if scope == "workflow":
        return "TO:workflow"
    if scope == "stage":
        return f"TO:stage:{thread}"
    return f"TO:{scope}:{thread}.{'' if instance is None else instance}.{task_index}"


MESSAGE_TYPES: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        StartWorkflow,
        StartStage,
        RunTask,
        CompleteStage,
        ContinueStage,
        ChooseStage,
        CheckMilestone,
        EvaluateJoin,
        JudgeInstances,
        SettleWorkflow,
        AcquireLock,
        LeaveLock,
        ReleaseLock,
        TimeOut,
        ClearWorkflow,
        ExpireWorkflow,
        ResumeParked,
        StartSubWorkflow,
        CancelSubWorkflow,
        NotifyParent,
        CompleteSubWorkflow,
        CancelTask,
        FinalizeStage,
    )
}
