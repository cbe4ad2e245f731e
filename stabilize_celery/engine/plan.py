"""The plans of a definition: what each stage's handlers need, so that none reads the whole graph.

Made once at submission (engine/compilation.py) and stored in the hash `d`: `meta`, `context`, `joins`, and per stage
`s:<ref>` (its plan) and `x:<ref>` (its context). Handling a message of a stage reads that stage's fields only.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from stabilize_celery.engine.codec import unpack
from stabilize_celery.models.limits import DEFAULT_PRIORITY

__all__ = [
    "Edge",
    "InstancesPlan",
    "StagePlan",
    "TaskPlan",
    "WorkflowPlan",
    "context_or_empty",
    "decode_plan",
    "decode_workflow_plan",
    "plan_or_bare",
    "workflow_plan_or_bare",
]


class TaskPlan(msgspec.Struct, frozen=True, array_like=True):
    """A task of a stage: its id, its name, and the type that a worker's registry knows."""

    id: str
    name: str
    type: str


class Edge(msgspec.Struct, frozen=True, array_like=True):
    """An outgoing edge, or a declared jump. `position`: which requisite of the target this is (-1: a jump).

    `need`: arrivals that may fire the target's join; `bears`: edges that may close before it is hopeless;
    `width`: edges (or threads, for a thread merge) that it has in all.
    `component`: the target's, where someone downstream wants to know what can still come; else empty.
    """

    target: str
    position: int
    is_direct: bool
    need: int
    component: str = ""
    is_alone: bool = True
    """The target is a component of its own."""
    section: str = ""
    """The target belongs to this mutex section."""
    group: str = ""
    """The target is offered in this deferred choice group."""
    choose_after_ms: int = 0
    width: int = 1
    bears: int = 0
    is_milestone: bool = False
    """Someone waits for a status of the target."""


class InstancesPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a stage multiplies (wcp 1.11)."""

    count: int = 0
    count_from: str = ""
    collection_from: str = ""
    is_joined: bool = True
    threshold: int = 0
    cancels_remaining: bool = False
    is_dynamic: bool = False
    condition: str = ""
    max_concurrent: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether the thread may go on before all are done."""
        return bool(self.threshold or self.condition)


class StagePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is fixed about a stage."""

    ref: str
    stage_id: str
    type: str = ""
    name: str = ""
    tasks: list[TaskPlan] = []
    requisites: list[str] = []
    edges: list[Edge] = []
    is_only_end: bool = False
    """No other stage is without a way on: when this one ends, most likely nothing else moves."""
    jumps: list[Edge] = []
    jumped_from: list[str] = []
    component: str = ""
    """Empty if nobody downstream wants to know what can still come."""
    members: list[str] = []
    """All stages of its component, if it is not alone in it."""
    leads_in: list[tuple[str, list[str]]] = []
    """Of the stage that names a loop with a partial join: the components from which that is reached, furthest first."""
    join: str = "AND"
    join_mode: str = "STRUCTURED"
    thread_merge: int | None = None
    is_direct: bool = True
    """No join state: it starts for every arrival."""
    need: int = 1
    split: str = "AND"
    conditions: list[tuple[str, str]] = []
    default_target: str | None = None
    choice_group: str | None = None
    milestone: str | None = None
    milestone_status: str = ""
    milestone_whole: str = ""
    """The top-level stage of which the milestone stage is a part, before or after it."""
    milestone_above: list[tuple[str, list[str]]] = []
    """Where a start depends on whether the milestone stage may still be reached: it, and all from where it can be, by
    component, furthest first."""
    is_milestone: bool = False
    milestones_around: list[str] = []
    """Stages that it is before or after, at any depth, for a status of which someone waits."""
    milestones_inside: list[str] = []
    """Stages before or after this one, at any depth, for a status of which someone waits."""
    cancels_regions: list[str] = []
    upstream: list[str] = []
    """Of a cancelling join: every stage from which it can be reached over requisite edges."""
    thread_split: int = 1
    instances: InstancesPlan | None = None
    reducers: dict[str, str] = {}
    mutex_key: str | None = None
    mutex_scope: str = "GLOBAL"
    mutex_limit: int = 1
    mutex_section: str = ""
    before: list[str] = []
    after: list[str] = []
    owner: str | None = None
    parent: str | None = None
    expiry_ms: int | None = None
    scheduled_ms: int | None = None
    finalizers: list[str] = []
    cleanup_on_failure: bool = False
    jump_targets: list[str] = []
    sub_workflow: str | None = None
    sub_context: dict[str, str] = {}
    terminates_workflow: bool = False
    known: dict[str, Any] = {}
    """What its own expressions look at of the workflow's context."""
    settled: list[str] = []
    """Names of its expressions whose value in the workflow's context is in `known`, or that are not there."""
    carries: list[str] = []
    """Names that expressions of stages ahead look at: small values of theirs travel along."""
    application: str = ""
    workflow_name: str = ""

    @property
    def is_bare(self) -> bool:
        """Whether it stands for one that can't be read (see `plan_or_bare`)."""
        return not self.stage_id


class WorkflowPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is fixed about a workflow as a whole."""

    application: str = ""
    name: str = ""
    initial: list[str] = []
    offers: dict[str, list[tuple[str, str, int]]] = {}
    """Start stages that are offered, by deferred choice group: ref, component, when they choose themselves (ms)."""
    regions: dict[str, list[str]] = {}
    sections: dict[str, str] = {}
    """Mutex section of each stage that belongs to one."""
    components: dict[str, str] = {}
    """Of the start stages that tell."""
    open_edges: dict[str, int] = {}
    """Per component that tells: edges and jumps into it from others."""
    order: list[str] = []
    """All refs: topological, then as defined."""
    max_jumps: int = 100
    max_depth: int = 10
    timeout_ms: int | None = None
    expiry_ms: int | None = None
    starts_ms: int = 0
    """None of its first stages starts before (epoch ms); 0: one may start at once."""
    retention_ms: int = 0
    priority: int = DEFAULT_PRIORITY
    concurrency_lock: str = ""
    concurrency_limit: int = 1
    keep_waiting: bool = False


_PLAN = msgspec.msgpack.Decoder(StagePlan)
_WORKFLOW = msgspec.msgpack.Decoder(WorkflowPlan)


@lru_cache(maxsize=1024)
def decode_plan(data: bytes) -> StagePlan:
    """Return the plan stored under `s:<ref>`. One that names 10,000 others is decoded once, not for each message."""
    return _PLAN.decode(data)


@lru_cache(maxsize=256)
def decode_workflow_plan(data: bytes) -> WorkflowPlan:
    """Return the plan stored under `meta`."""
    return _WORKFLOW.decode(data)


_SPOILT = (KeyError, TypeError, ValueError, msgspec.MsgspecError)
"""What reading a field of the hash `d` raises that is gone, or that a hand in Redis has spoilt."""


def plan_or_bare(fields: Mapping[str, bytes], ref: str) -> StagePlan:
    """Return a stage's plan; where it can't be read, one that names the stage and nothing else.

    For those who end what is there: nothing else would.
    """
    try:
        return decode_plan(fields[f"s:{ref}"])
    except _SPOILT:
        return StagePlan(ref, "")


def context_or_empty(fields: Mapping[str, bytes], ref: str) -> dict[str, Any]:
    """Return a stage's context; where it can't be read, an empty one (see `plan_or_bare`)."""
    try:
        return dict(unpack(fields[f"x:{ref}"]))
    except _SPOILT:
        return {}


def workflow_plan_or_bare(fields: Mapping[str, bytes]) -> WorkflowPlan:
    """Return the plan of a workflow as a whole; where it can't be read, an empty one (see `plan_or_bare`)."""
    try:
        return decode_workflow_plan(fields["meta"])
    except _SPOILT:
        return WorkflowPlan()
