"""What the API takes and gives, as types: the OpenAPI document is made from them. Times in epoch ms; 0: not yet."""

from typing import Annotated, Any

import msgspec

from stabilize_celery.models.limits import DEFAULT_PRIORITY, MAX_INSTANCE, MAX_INSTANCES

__all__ = [
    "AddInstances",
    "Cancel",
    "CancelRegion",
    "DeadLetterLine",
    "DeadLetters",
    "DeadlockLine",
    "DeadlockPartyLine",
    "Definition",
    "EventLine",
    "EventPage",
    "FleetState",
    "InstanceCounts",
    "InstanceLine",
    "LockLine",
    "Locks",
    "Nothing",
    "Outcome",
    "PartitionLine",
    "PartyLine",
    "Problem",
    "ProblemLine",
    "QueueLine",
    "ReasonLine",
    "Reasons",
    "RunLine",
    "ServerLine",
    "Service",
    "SignIn",
    "Signal",
    "StageDetail",
    "StageLine",
    "Start",
    "Started",
    "TaskLine",
    "WorkerLine",
    "WorkflowLine",
    "WorkflowPage",
    "WorkflowState",
]

Count = Annotated[int, msgspec.Meta(ge=0)]


# -- taken -------------------------------------------------------------------------------------------------------------


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No argument is needed."""


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """The token, once: the browser gets a cookie that stands for it."""

    token: str


class Start(msgspec.Struct, forbid_unknown_fields=True):
    """A workflow to start. The definition's schema is docs/workflow.schema.json."""

    definition: dict[str, Any]
    idempotency_key: str | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] | None = None
    """0 goes first, 9 last; null: that of the definition."""


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """Why a workflow is cancelled; shown with it."""

    reason: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class CancelRegion(msgspec.Struct, forbid_unknown_fields=True):
    """Which region is cancelled."""

    region: str


class Signal(msgspec.Struct, forbid_unknown_fields=True):
    """A signal for a stage; kept if nobody waits for it yet, unless it is transient."""

    name: str
    payload: Any = None
    transient: bool = False
    instance: Annotated[int, msgspec.Meta(ge=0, le=MAX_INSTANCE)] | None = None


class AddInstances(msgspec.Struct, forbid_unknown_fields=True):
    """How many instances to add, and more names that they see."""

    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_INSTANCES)] = 1
    context: dict[str, Any] = {}


# -- given -------------------------------------------------------------------------------------------------------------


class ProblemLine(msgspec.Struct):
    """One thing that is wrong with what was sent, and where."""

    path: str
    message: str
    code: str = "invalid"


class Problem(msgspec.Struct, omit_defaults=True):
    """An error (RFC 9457): `title` is its kind, `detail` says which thing, what is wrong and what to do."""

    title: str
    status: int
    detail: str = ""
    code: int = 0
    """The number of the typed error (`errors.tree`), if it is one."""
    problems: list[ProblemLine] = []
    type: str = "about:blank"


class Service(msgspec.Struct):
    """Which service this is, and what may be done with it by who asks."""

    version: str
    namespace: str
    user: str
    read_only: bool
    asks_for_token: bool
    """Whether there is a token to sign in with (and a session to sign out of)."""
    now_ms: int


class WorkflowLine(msgspec.Struct):
    """A line of a listing."""

    id: str
    application: str
    name: str
    status: str
    started_ms: int
    ended_ms: int | None = None
    priority: int = DEFAULT_PRIORITY
    """0 goes first, 9 last."""
    dead_letters: list[str] = []
    """Names of its messages that nobody handles any more."""


class WorkflowPage(msgspec.Struct):
    """One page of a listing, newest first; `cursor` asks for the next one, null: this is the last."""

    items: list[WorkflowLine]
    cursor: str | None
    looked_at: int
    """How many workflows were looked through for this page: a search stops after some thousands, with a cursor."""
    now_ms: int


class InstanceCounts(msgspec.Struct):
    """The instances of a stage's newest run, counted."""

    total: Count
    begun: Count
    done: Count
    failed: Count


class StageLine(msgspec.Struct, omit_defaults=True):
    """A stage as the graph shows it; what has its default is left out."""

    ref_id: str
    status: str
    name: str = ""
    type: str = ""
    requisites: list[str] = []
    parent: str = ""
    """The stage that this one is a before or after stage of."""
    owner: str = ""
    tasks: list[str] = []
    """Task types, in order."""
    join: str = "AND"
    split: str = "AND"
    jumps: list[str] = []
    """Stages that it may jump back to."""
    mutex_key: str = ""
    can_multiply: bool = False
    """It runs in several instances."""
    is_dynamic: bool = False
    """Instances may be added while it runs."""
    region: list[str] = []
    started_ms: int = 0
    ended_ms: int = 0
    waiting_since_ms: int = 0
    """When it began to wait for its mutex."""
    runs: int = 0
    """How many runs there are: loops, merges and restarts make more than one."""
    attempts: int = 0
    is_idle: bool = False
    """It is RUNNING, and no worker is at its next task: none is free or knows it, or it is to be tried again later."""
    waits: str = ""
    """The signal that it waits for."""
    offer: str = ""
    """The deferred choice that it is offered in."""
    child: str = ""
    """The inner workflow that it waits for."""
    instances: InstanceCounts | None = None
    told: str = ""
    """Why it failed or was cancelled, on one line."""


class WorkflowState(msgspec.Struct):
    """A workflow with all its stages, in the order of definition."""

    id: str
    application: str
    name: str
    status: str
    reason: str
    started_ms: int
    ended_ms: int | None
    paused_by: str
    canceled_by: str
    parent_id: str
    regions: list[str]
    restarts: int
    priority: int
    now_ms: int
    position: str
    """Where the live stream goes on: its `from`."""
    stages: list[StageLine]


class TaskLine(msgspec.Struct):
    """A task of a run."""

    name: str
    implementing_class: str
    status: str
    started_ms: int
    ended_ms: int
    attempts: int
    polls: int
    retries: int
    error: dict[str, Any]
    """Empty, or type, message and traceback of what it failed with."""


class InstanceLine(msgspec.Struct):
    """An instance of a multi-instance stage."""

    index: int
    status: str
    started_ms: int
    ended_ms: int
    attempts: int
    reason: str


class RunLine(msgspec.Struct):
    """One run of a stage: loops, merges and restarts make more than one."""

    thread: str
    status: str
    created_ms: int
    started_ms: int
    ended_ms: int
    reason: str
    context: dict[str, Any]
    outputs: dict[str, Any]
    tasks: list[TaskLine]
    token: int
    waits: str
    wait_deadline_ms: int
    child: str
    instances: list[InstanceLine]
    """Those at work and those that failed first, at most a few hundred."""


class StageDetail(msgspec.Struct):
    """All there is to know about a stage; runs newest first."""

    stage: StageLine
    context: dict[str, Any]
    """Its own context, as defined."""
    runs: list[RunLine]
    runs_in_all: int
    now_ms: int


class Definition(msgspec.Struct):
    """The definition that a workflow was started with, as JSON."""

    definition: dict[str, Any]


class EventLine(msgspec.Struct):
    """One thing that happened; `told` says it in words."""

    id: str
    kind: str
    ref_id: str
    at_ms: int
    told: str
    data: dict[str, Any]


class EventPage(msgspec.Struct):
    """Events, oldest first; `position` asks for those behind them, null: there are none yet."""

    items: list[EventLine]
    position: str | None


class ReasonLine(msgspec.Struct, omit_defaults=True):
    """Why a stage does not go on, or failed; `ref_id` is empty where it is about the whole workflow."""

    kind: str
    text: str
    ref_id: str = ""
    detail: str = ""
    advice: str = ""
    traceback: str = ""


class Reasons(msgspec.Struct):
    """All reasons of a workflow."""

    items: list[ReasonLine]


class Outcome(msgspec.Struct):
    """Whether an act had an effect, and in words what happened, or why nothing did."""

    took_effect: bool
    told: str


class Started(msgspec.Struct):
    """The workflow that was started, or found under its key."""

    id: str


class PartyLine(msgspec.Struct):
    """Who holds a lock, or waits for it."""

    workflow_id: str
    workflow_name: str
    ref_id: str
    section: str
    since_ms: int
    token: int
    worker: str


class LockLine(msgspec.Struct):
    """A lock; waiters stand in the order in which they get it."""

    name: str
    key: str
    scope: str
    within: str
    limit: int
    holders: list[PartyLine]
    waiters: list[PartyLine]
    waiting: int
    """How many wait in all; `waiters` has the first ones."""
    mark: str = ""
    """`deadlock`: it is part of one; `behind a deadlock`: nobody gets it before one is broken."""


class DeadlockPartyLine(msgspec.Struct):
    """`holder` holds the lock `holds` and can't end before `waiter` gets the lock `wants` (full names)."""

    holder: PartyLine
    holds: str
    waiter: PartyLine
    wants: str
    relation: str
    """What the waiter is to the holder, such as `before stage` or `inner workflow`."""


class DeadlockLine(msgspec.Struct):
    """Parties of which none can go on before another one ends."""

    parties: list[DeadlockPartyLine]
    commands: list[str]
    """Command lines, each of which would break it."""


class Locks(msgspec.Struct):
    """All locks that are held or waited for."""

    items: list[LockLine]
    deadlocks: list[DeadlockLine]
    is_cut: bool
    """There was more to follow than one look may: there may be more deadlocks."""
    now_ms: int


class WorkerLine(msgspec.Struct):
    """A worker; `answers`: it was heard of within the last 15 s."""

    id: str
    node: str
    version: str
    silent_ms: int
    answers: bool
    queues: list[str]
    types: list[str]


class QueueLine(msgspec.Struct):
    """A queue of the broker. `length` -1: the broker does not say."""

    name: str
    length: int
    workers: int


class PartitionLine(msgspec.Struct):
    """A partition. `due`: messages whose time has come (at most 1,000 are counted); `late_ms`: of the oldest one."""

    number: int
    due: int
    late_ms: int


class ServerLine(msgspec.Struct):
    """The state server, as `doctor` sees it."""

    url: str
    version: str
    ping_ms: str
    appendonly: str
    maxmemory_policy: str


class FleetState(msgspec.Struct):
    """Workers, queues, partitions, the state server."""

    workers: list[WorkerLine]
    queues: list[QueueLine]
    partitions: list[PartitionLine]
    server: ServerLine
    broker_error: str
    """Why the broker does not say how long its queues are; empty if it does."""
    now_ms: int


class DeadLetterLine(msgspec.Struct):
    """A message that nobody handles any more; `name` is unique within its workflow."""

    workflow_id: str
    name: str
    kind: str
    ref_id: str
    tries: int
    error: str
    at_ms: int
    is_unknown: bool


class DeadLetters(msgspec.Struct):
    """All dead letters, and messages of types that this version does not know."""

    items: list[DeadLetterLine]
