"""What there is to know about an unfinished workflow: its runs, what is owed, locks, the fleet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.client.why.branches import Reach, evaluation_name
from stabilize_celery.client.why.deadlocks import Deadlocks, find_deadlocks, workflow_node
from stabilize_celery.client.why.locks import LockFacts, read_locks
from stabilize_celery.client.why.seen import Seen
from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.endings import (
    lock_name,
)
from stabilize_celery.engine.instances import Crowd
from stabilize_celery.engine.state import ENTRY, Entry, Run
from stabilize_celery.engine.steps import Fields, Hash, Look, Query, workflow_slot
from stabilize_celery.models.messages import run_name, timer_name
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.runtime.reading import StageView, WorkflowView
from stabilize_celery.store.contract import Store

__all__ = ["Facts", "gather"]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a reason may be made of."""

    view: WorkflowView
    fleet: Fleet
    reach: Reach
    """What can still arrive at its joins."""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """What is owed to the workflow, by ledger name."""
    due: Mapping[str, int] = field(default_factory=dict)
    """When that is looked at next, by ledger name (epoch ms)."""
    crowds: Mapping[str, Crowd] = field(default_factory=dict)
    """The instances of its live runs that have some, by thread."""
    locks: Mapping[str, LockFacts] = field(default_factory=dict)
    """The locks that its runs, or itself, ask for, by full name."""
    contexts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What its runs that wait for a signal until a deadline see of their own context, by thread."""
    deadlocks: Deadlocks = field(default_factory=Deadlocks)
    """Those that it waits for, or is part of."""

    @property
    def now_ms(self) -> int:
        """The server's time."""
        return self.view.now_ms

    def entry(self, name: str) -> Entry | None:
        """Return what is owed under a ledger name, or None."""
        found = self.entries.get(name)
        return found if found is not None and found.exists else None

    def is_dead(self, name: str) -> bool:
        """Return whether it is owed, but nobody will look at it any more: a dead letter."""
        return self.entry(name) is not None and name not in self.due and name not in self.view.parked


def gather(store: Store, view: WorkflowView) -> Facts:
    """Read the facts about a workflow that has not ended: two round trips, three more where it waits for locks.

    Where it waits for locks or inner workflows that wait themselves, about five for each lock on the way.
    """
    names = list(_names(view))
    hashes = {name: Hash(places.ledger(name)) for name in names}
    crowds = {thread: _crowd_queries(thread) for thread in _threads_with_instances(view)}
    contexts = dict(_context_queries(view))
    look = Look(tuple(names))
    queries: list[Query] = [look, *hashes.values()]
    queries += [query for pair in crowds.values() for query in pair]
    queries += [query for pair in contexts.values() for query in pair]
    snapshot = store.look(workflow_slot(view.id), queries)
    return Facts(
        view,
        Fleet(store.fleet(), view.now_ms),
        Reach(view),
        {name: ENTRY.decode(snapshot[key]) for name, key in hashes.items()},
        snapshot[look],
        {thread: Crowd.of(snapshot[totals], snapshot[counts]) for thread, (totals, counts) in crowds.items()},
        read_locks(store, _wanted_locks(view)),
        {thread: _context(snapshot[of_stage], snapshot[own]) for thread, (of_stage, own) in contexts.items()},
        find_deadlocks(store, [workflow_node(view.id)], {view.id: Seen.of(view)}),
    )


def _crowd_queries(thread: str) -> tuple[Hash, Hash]:
    return Hash(places.instances(thread)), Hash(places.instance_counts(thread))


def _context_queries(view: WorkflowView) -> Iterator[tuple[str, tuple[Fields, Fields]]]:
    """Yield where the contexts of runs with a deadline are: large ones may have been left out of the view."""
    for ref, stage in view.stages.items():
        of_stage = Fields(places.DEFINITION, (f"x:{ref}",))
        for thread, run in stage.runs:
            if run.wait_deadline_ms and run.status == "SUSPENDED":
                yield thread, (of_stage, Fields(places.run(thread), ("context",)))


def _context(of_stage: Mapping[str, bytes], own: Mapping[str, bytes]) -> dict[str, Any]:
    return {name: value for packed in (*of_stage.values(), *own.values()) for name, value in unpack(packed).items()}


def _threads_with_instances(view: WorkflowView) -> list[str]:
    runs = [item for stage in view.stages.values() for item in stage.runs]
    return [thread for thread, run in runs if run.phase == "instances" and not run.is_ended]


def _names(view: WorkflowView) -> Iterator[str]:
    yield from ("Begin", "Settle", "Clear", "Unpark")
    for stage in view.stages.values():
        if not stage.plan.is_direct:
            yield evaluation_name(stage.plan)
        for thread, run in stage.runs:
            if not run.is_ended:
                yield from _names_of_run(thread, run)


def _names_of_run(thread: str, run: Run) -> Sequence[str]:
    task = run_name(thread, None, run.task_index)
    plain = (f"{kind}:{thread}" for kind in ("Start", "Done", "Continue", "Child", "ChildDone", "Inst", "Choose"))
    return (*plain, f"Lock:{thread}#{run.request}", task, timer_name("task", thread, None, run.task_index))


def _wanted_locks(view: WorkflowView) -> list[str]:
    wanted = [view.record.lock] if view.record.status == "BUFFERED" and view.record.lock else []
    wanted += [
        lock_name(stage.plan, view.id)
        for stage in view.stages.values()
        if any(run.status == "BUFFERED" and _wants_lock(stage, run) for _, run in stage.runs)
    ]
    return list(dict.fromkeys(wanted))


def _wants_lock(stage: StageView, run: Run) -> bool:
    return run.lock == "requested" or (bool(stage.plan.mutex_section) and not run.offer and not run.held_for)
