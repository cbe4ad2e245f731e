"""Typed records of what is stored: a workflow, a run, a ledger entry, a signal box."""

from typing import Any

import msgspec

from stabilize_celery.engine.codec import RecordCodec
from stabilize_celery.engine.past import Past
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.status import COMPLETED_STATUSES

__all__ = [
    "ENTRY",
    "RUN",
    "SIGNALS",
    "WORKFLOW_RECORD",
    "Entry",
    "KeptSignal",
    "Room",
    "Run",
    "SignalBox",
    "SubOutcome",
    "TaskState",
    "Waiter",
    "WorkflowRecord",
]


_ENDED = frozenset(status.name for status in COMPLETED_STATUSES)
_LIVE = frozenset({"RUNNING", "PAUSED", "BUFFERED"})


class WorkflowRecord(msgspec.Struct, frozen=True):
    """The hash `w`. Times in epoch ms; `status` is a status name, or GONE for what retention left."""

    status: str = ""
    reason: str = ""
    digest: str = ""
    application: str = ""
    name: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    is_settled: bool = False
    """It ended because nothing was left to do; else it was cut short."""
    paused_at_ms: int = 0
    paused_ms: int = 0
    paused_timed_ms: int = 0
    """The part of `paused_ms` that its time-out has taken into account."""
    paused_by: str = ""
    canceled_by: str = ""
    parent_id: str = ""
    parent_thread: str = ""
    parent_ref: str = ""
    depth: int = 0
    priority: int = DEFAULT_PRIORITY
    restarts: int = 0
    key: str = ""
    trace: str = ""
    """The span in which a producer started it, as W3C `traceparent` names it; else, if another workflow called it, the
    outermost one's id."""
    retention_ms: int = 0
    lock: str = ""
    """Name of the concurrency lock of its pipeline; its start and each restart ask for it, numbered by `restarts`."""
    lock_state: str = ""
    """What became of the newest request: requested, held, done."""

    @property
    def exists(self) -> bool:
        """Whether there is a workflow (what retention left does not count)."""
        return self.status not in ("", "GONE")

    @property
    def is_live(self) -> bool:
        """Whether it has not ended. Nor has one whose status only a newer version knows."""
        return self.exists and self.status not in _ENDED

    @property
    def is_of_newer_version(self) -> bool:
        """Whether its status is one that this version does not know: nothing can be decided about it here."""
        return self.is_live and self.status not in _LIVE

    def paused_until_ms(self, now_ms: int) -> int:
        """Return for how long it has been paused in all, the pause that lasts included (ms)."""
        return self.paused_ms + (max(0, now_ms - self.paused_at_ms) if self.status == "PAUSED" else 0)

    @property
    def holds_back(self) -> bool:
        """Whether no work begins in it: it is paused, or waits for a slot of its pipeline."""
        return self.status in ("PAUSED", "BUFFERED")


class TaskState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task of a run. `attempts` counts executions, `polls` answers that it is still running."""

    status: str = "NOT_STARTED"
    started_ms: int = 0
    ended_ms: int = 0
    attempts: int = 0
    polls: int = 0
    retries: int = 0
    error: dict[str, Any] = {}
    hooks: tuple[str, ...] = ()
    """Which of `on_cancel`, `on_timeout` its type has, as the worker said that executed it last."""
    has_deadline: bool = False
    """Its first claim has owed a time-out for all its attempts."""
    queue: str = ""
    """Where its RunTask went, kept if it has such hooks: they go to the workers that know it."""


class SubOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an inner workflow ended."""

    workflow_id: str
    status: str
    outputs: dict[str, Any] = {}
    reason: str = ""
    """Why it did not succeed. Records of earlier versions have none."""


class Room(msgspec.Struct, frozen=True, array_like=True):
    """What a lock covers, by who holds that: the thread of a run or of a section, and a stage that knows the key."""

    thread: str
    ref: str


class Run(msgspec.Struct, frozen=True):
    """The hash `r:<thread>`: one run of a stage. Times in epoch ms unless named `_us`."""

    ref: str = ""
    status: str = ""
    created_us: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    past: Past = Past()
    past_out: Past = Past()
    """What those after it see; written when the run ends and its thread goes on to a join."""
    context: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    wrote_us: int = 0
    """When its outputs count as written: at its end, and later than all that it saw (engine/past.py)."""
    tasks: list[TaskState] = []
    task_index: int = 0
    phase: str = ""
    """Empty, then before, tasks, after, failure: which part of its work is under way."""
    outcome: str = ""
    """Status that a failure or a task's own choice gives the run when it completes."""
    borne: str = ""
    """Which of its before stages failed and was borne, and why: the run ends FAILED_CONTINUE at best."""
    reason: str = ""
    jump: str = ""
    jump_context: dict[str, Any] = {}
    parent: str = ""
    """Thread of the run that this one is a before or after stage of."""
    lock: str = ""
    """Empty, requested, held, done."""
    request: int = 0
    token: int = 0
    """Fencing token of the innermost lock that it executes under."""
    rooms: list[Room] = []
    """Whose locks cover it, besides its own: its section's, and those of the run that it is part of."""
    att: int = 0
    """Attempt number that the task's entry comes back with after a wait."""
    code_runs: bool = False
    """Ended, or failed, while its task code may still run under a lock (PROTOCOL 4.3)."""
    waits: str = ""
    """Name of the signal that the suspended task waits for."""
    wait_deadline_ms: int = 0
    """When the wait was to end, before any pause; 0: never."""
    wait_paused_ms: int = 0
    """The workflow's paused time when the wait began."""
    signal: str | None = None
    payload: Any = None
    child: str = ""
    """Id of the inner workflow that it waits for."""
    child_call: dict[str, Any] = {}
    sub: SubOutcome | None = None
    paused_ms: int = 0
    """The workflow's paused time when the run's deadline was set."""
    offer: str = ""
    """Name of the deferred choice that it is offered in; empty once it is chosen."""
    held_for: str = ""
    """The milestone stage that it waits for; it does not count in `act`."""
    instance: int | None = None
    """Index of this instance of the run `parent`; its thread is `<parent>.<instance>`."""
    late: str = ""
    """Why none of its tasks begins any more: its time is over, and only the task at work still answers for that."""
    held: dict[str, Any] = {}
    """`context`, `outputs` of a last task that are still to be verified, and how many `checks` there were."""
    passed_on: bool = False
    """The thread has gone on; instances still run loose."""
    planned: dict[str, Any] = {}
    """What the stage builders added: tasks, before, after, failure."""

    @property
    def is_ended(self) -> bool:
        """Whether the run has a final status (or does not exist)."""
        return self.status not in ("NOT_STARTED", "BUFFERED", "RUNNING", "SUSPENDED")

    def waits_until_ms(self, workflow: WorkflowRecord, now_ms: int) -> int:
        """Return when its wait ends without a signal, later by all pauses since (epoch ms); 0: never."""
        if not self.wait_deadline_ms:
            return 0
        return self.wait_deadline_ms + workflow.paused_until_ms(now_ms) - self.wait_paused_ms

    @property
    def is_at_after_stages(self) -> bool:
        """Whether its after stages run though its outcome stands already: what its instances came to."""
        return self.phase == "after" and self.outcome in ("SUCCEEDED", "FAILED_CONTINUE")

    @property
    def has_started(self) -> bool:
        """Whether its work has begun."""
        return self.started_ms > 0


class Entry(msgspec.Struct, frozen=True):
    """The hash `m:<name>`: an owed message. `nb`, `pub`: epoch ms; field names are short, there are many entries.

    `pub` is when it was published first since it became due.
    """

    t: str = ""
    v: int = 1
    a: bytes = b""
    nb: int = 0
    pub: int = 0
    q: str = ""
    tries: int = 0
    own: str = ""
    att: int = 0
    lost: int = 0
    died: str = ""
    """What ended the process that was lost last, where its main process knows."""
    spared: int = 0
    """Until when a keeper that had been cut off has let its claim be, though its lease had run out (epoch ms)."""
    cx: bool = False
    to: str = ""
    """Why the task's time is over: whoever claims it next asks its `on_timeout` instead of executing it."""
    paused_ms: int | None = None
    """Of a deadline: the workflow's paused time that it takes into account; None: what its run says."""
    resent: int = 0
    """When it was published again, as it was lost (epoch ms); it counts if it is later than `pub`."""
    parked: str = ""
    rests: int = 0
    """How often a worker too old for it has let it rest."""
    error: str = ""

    @property
    def sent(self) -> int:
        """When it was published last (epoch ms); 0: never since it became due."""
        return self.pub and max(self.pub, self.resent)

    @property
    def exists(self) -> bool:
        """Whether the message is owed."""
        return bool(self.t)


class KeptSignal(msgspec.Struct, frozen=True, array_like=True):
    """A persistent signal that nobody has used yet."""

    name: str
    payload: Any = None
    instance: int | None = None
    """Only this instance may use it; None: any."""


class Waiter(msgspec.Struct, frozen=True, array_like=True):
    """A suspended task: its thread, instance and the entry that comes back. An empty name takes any signal."""

    name: str
    thread: str
    instance: int | None
    task_index: int
    task_type: str
    since_ms: int
    order: int = 0
    queue: str = ""
    """Where the task's message went: who wakes it may not know the worker's routes."""


class SignalBox(msgspec.Struct, frozen=True):
    """The hash `g:<ref>`."""

    kept: list[KeptSignal] = []
    waiters: list[Waiter] = []


WORKFLOW_RECORD = RecordCodec(WorkflowRecord)
RUN = RecordCodec(Run)
ENTRY = RecordCodec(Entry)
SIGNALS = RecordCodec(SignalBox)
