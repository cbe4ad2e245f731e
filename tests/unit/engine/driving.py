"""Driving a handler by hand: what it reads comes from plain values, what it decides is looked at."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import RecordCodec, pack
from stabilize_celery.engine.ledger import arguments_of
from stabilize_celery.engine.plan import StagePlan, TaskPlan, WorkflowPlan
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD
from stabilize_celery.engine.steps import (
    Commit,
    Count,
    Decision,
    Fields,
    Handling,
    Hash,
    Items,
    Look,
    Members,
    Plan,
    Position,
    Query,
    Ranked,
    Read,
    Slot,
    Snapshot,
    drive,
    workflow_slot,
)
from stabilize_celery.models.messages import LEDGER_VERSION, Message

W = "w1"
"""The workflow that handlers are about, unless a test says otherwise."""
NOW_MS = 1_767_225_600_000

Stored = dict[str, Any]


def as_stored(fields: Mapping[str, Any]) -> dict[str, bytes]:
    """Hash fields as a store gives them back."""
    return {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}


@dataclass
class World:
    """Keys of some slots. Hashes are dicts, sets are sets, lists are lists, sorted sets are lists of pairs."""

    now_ms: int = NOW_MS
    slots: dict[Slot, Stored] = field(default_factory=dict)
    commits: list[tuple[Slot, Decision]] = field(default_factory=list)
    watched: set[tuple[Slot, str]] = field(default_factory=set)
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, key: str, value: Any, slot: Slot | None = None) -> "World":
        self.slots.setdefault(slot or workflow_slot(W), {})[key] = value
        return self

    def record(self, key: str, codec: RecordCodec[Any], values: Mapping[str, Any], slot: Slot | None = None) -> "World":
        return self.put(key, as_stored(codec.encode(**values)), slot)

    def workflow(self, status: str = "RUNNING", workflow_id: str = W, **more: Any) -> "World":
        values = {"status": status, "retention_ms": 1000, **more}
        return self.record(places.WORKFLOW, WORKFLOW_RECORD, values, workflow_slot(workflow_id))

    def stage(self, plan: StagePlan, **context: Any) -> "World":
        fields = self.slots.setdefault(workflow_slot(W), {}).setdefault(places.DEFINITION, {})
        fields |= {f"s:{plan.ref}": pack(plan), f"x:{plan.ref}": pack(context)}
        return self

    def meta(self, **values: Any) -> "World":
        fields = self.slots.setdefault(workflow_slot(W), {}).setdefault(places.DEFINITION, {})
        fields |= {"meta": pack(WorkflowPlan(**values)), "context": pack({})}
        return self

    def run(self, thread: str = "t", workflow_id: str = W, **values: Any) -> "World":
        return self.record(places.run(thread), RUN, {"ref": "a", **values}, workflow_slot(workflow_id))

    def owed(self, message: Message, **more: Any) -> "World":
        values = {"t": type(message).__name__, "v": LEDGER_VERSION, "a": arguments_of(message), **more}
        return self.record(places.ledger(message.name), ENTRY, values, workflow_slot(message.workflow_id))

    def answer(self, read: Read) -> Snapshot:
        slot = read.slot or workflow_slot(W)
        self.watched |= {(slot, key) for key in read.watch}
        self.now_ms += 1
        keys = self.slots.get(slot, {})
        return Snapshot({query: _answer(keys, query) for query in read.queries}, self.now_ms * 1000)

    def decide(self, handling: Handling | Generator[Any, Any, Decision]) -> Decision:
        """Run a handler to its decision; what it commits on its way is kept in `commits`, and not applied."""
        return drive(handling, self._step)

    def _step(self, step: Read | Commit | Plan) -> Any:
        if isinstance(step, Read):
            return self.answer(step)
        if isinstance(step, Commit):
            self.commits.append((step.slot, step.decision))
            return None
        assert isinstance(step, Plan)
        return self.plans.get(step.phase, {})


def _answer(keys: Stored, query: Query) -> Any:
    match query:
        case Hash(key):
            return dict(keys.get(key, {}))
        case Fields(key, names):
            found = keys.get(key, {})
            return {name: found[name] for name in names if name in found}
        case Members(key):
            return set(keys.get(key, set()))
        case Items(key):
            return list(keys.get(key, []))
        case Position(key, item):
            return keys[key].index(item) if item in keys.get(key, []) else None
        case Count(key):
            return len(keys.get(key, ()))
        case Ranked(key, limit):
            return list(keys.get(key, []))[: limit or None]
        case Look(names):
            return dict.fromkeys(names, 0)


def plan_of(ref: str = "a", *tasks: str, **more: Any) -> StagePlan:
    """A stage's plan; `tasks`: types."""
    listed = [TaskPlan(f"{ref}-{at}", kind, kind) for at, kind in enumerate(tasks)]
    return StagePlan(ref=ref, stage_id=f"id-{ref}", tasks=listed, **more)


def owed_names(decision: Decision) -> list[str]:
    """Ledger names that a decision owes, in order."""
    return [owed.message.name for owed in decision.owes]


def kinds(decision: Decision) -> list[str]:
    """Kinds of the events that a decision tells."""
    return [event.kind for event in decision.events]
