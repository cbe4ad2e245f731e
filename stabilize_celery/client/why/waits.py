"""Who can't go on before whom: the waits-for graph, as far as it is reached from where one asks.

A lock waits for one of its holders, a holder for its run; a run for the lock that it asks for, for its before, after
or on-failure stages, its instances, the inner workflow that it calls; a section for its runs and for who is to join
them; a workflow for its runs.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from stabilize_celery.client.why.locks import read_states
from stabilize_celery.client.why.seen import Seen, see_workflows
from stabilize_celery.engine.endings import (
    lock_name,
)
from stabilize_celery.engine.locks import Owner, owner_of_workflow
from stabilize_celery.engine.moves import SYNTHETIC_PHASES
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import Run
from stabilize_celery.store.contract import LockState, Store

__all__ = ["MOST_FOLLOWED", "Node", "Wait", "WaitsFor", "explore"]

MOST_FOLLOWED = 100
"""So many locks, and so many workflows, are followed from one question (count)."""


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """Something that may wait: a `lock`, a `holder` of one, a `run`, a `workflow`, a `stage` that has no run yet.

    `name`: the lock's full name, the holder's `<thread>#<request>`, the run's thread, the stage's ref_id.
    """

    kind: str
    workflow_id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a node waits for: all of `on`, unless `one_is_enough`. It goes on by itself if that is nothing."""

    on: tuple[Node, ...] = ()
    one_is_enough: bool = False


_GOES_ON = Wait()


@dataclass(slots=True)
class WaitsFor:
    """The graph. `is_cut`: there was more than is read for one question; what was left out counts as going on."""

    locks: dict[str, LockState] = field(default_factory=dict)
    workflows: dict[str, Seen] = field(default_factory=dict)
    waits: dict[Node, Wait] = field(default_factory=dict)
    asks: dict[Node, tuple[str, Owner]] = field(default_factory=dict)
    """Runs and workflows that ask for a lock: its full name, and as whom."""
    is_cut: bool = False

    def stuck(self) -> set[Node]:
        """Return the nodes that can't go on before another one of them does."""
        stuck = {node for node, wait in self.waits.items() if wait.on}
        while free := {node for node in stuck if not self._is_stuck(node, stuck)}:
            stuck -= free
        return stuck

    def _is_stuck(self, node: Node, stuck: Collection[Node]) -> bool:
        wait = self.waits[node]
        return (all if wait.one_is_enough else any)(other in stuck for other in wait.on)


def explore(
    store: Store, starts: Iterable[Node], known: Mapping[str, Seen] | None = None, most: int = MOST_FOLLOWED
) -> WaitsFor:
    """Read the graph from some nodes on: up to five round trips for each lock on the longest way.

    Args:
        store: Where the workflows and locks are.
        starts: Where to begin.
        known: Workflows that were read already.
        most: How many locks, and how many workflows, are read at most (count).

    """
    graph = WaitsFor(workflows=dict(known or {}))
    frontier = list(dict.fromkeys(starts))
    while frontier:
        _read(store, graph, frontier, most)
        graph.waits |= {node: _wait_of(graph, node) for node in frontier}
        reached = dict.fromkeys(other for node in frontier for other in graph.waits[node].on)
        frontier = [node for node in reached if node not in graph.waits]
    for node, (lock, owner) in graph.asks.items():
        if lock in graph.locks and str(owner) in graph.locks[lock].holders:
            graph.waits[node] = _GOES_ON  # granted, and about to be told so
    return graph


def _read(store: Store, graph: WaitsFor, frontier: Iterable[Node], most: int) -> None:
    names = [node.name for node in frontier if node.kind == "lock" and node.name not in graph.locks]
    room = max(0, most - len(graph.locks))
    graph.locks |= {state.name: state for state in read_states(store, names[:room])}
    threads: dict[str, set[str]] = {}
    for node in frontier:
        if node.kind != "lock":
            threads.setdefault(node.workflow_id, set()).update(_threads_of(node))
    fresh = [workflow_id for workflow_id in threads if workflow_id not in graph.workflows]
    left_out = set(fresh[max(0, most - len(graph.workflows)) :])
    wanted = {workflow_id: found for workflow_id, found in threads.items() if workflow_id not in left_out}
    see_workflows(store, graph.workflows, wanted)
    graph.is_cut |= bool(names[room:] or left_out) or any(seen.is_cut for seen in graph.workflows.values())


def _threads_of(node: Node) -> list[str]:
    if node.kind == "holder":
        return [thread] if (thread := node.name.rpartition("#")[0]) else []
    return [node.name] if node.kind == "run" else []


def _wait_of(graph: WaitsFor, node: Node) -> Wait:
    if node.kind == "lock":
        return _of_lock(graph.locks.get(node.name))
    seen = graph.workflows.get(node.workflow_id)
    if seen is None or not seen.record.exists:
        return _GOES_ON
    if node.kind == "holder":
        return _of_holder(seen, Owner.parse(f"{node.workflow_id}/{node.name}"))
    if node.kind == "workflow":
        return _of_workflow(graph, node, seen)
    if node.kind == "stage":
        return _of_stage(seen, node)
    return _of_run(graph, node, seen)


def _of_lock(state: LockState | None) -> Wait:
    if state is None or len(state.holders) < state.limit:
        return _GOES_ON
    return Wait(tuple(Node("holder", *owner.split("/", 1)) for owner in state.holders), one_is_enough=True)


def _of_holder(seen: Seen, owner: Owner) -> Wait:
    """Return what a holder waits for; one whose run is over has let go, or will be dropped by who waits."""
    if not owner.thread:
        return Wait((Node("workflow", owner.workflow_id),))
    run = seen.runs.get(owner.thread, Run())
    if run.lock in ("", "done") or run.request != owner.request:
        return _GOES_ON
    section = seen.section_of(owner.thread)
    return Wait(tuple(_in_section(seen, section)) if section else (Node("run", owner.workflow_id, owner.thread),))


def _in_section(seen: Seen, section: str) -> Iterator[Node]:
    for thread, run in seen.live:
        if run.instance is None and seen.plans[run.ref].mutex_section == section:
            yield Node("run", seen.id, thread)
    for ref_id in seen.joins_in(section):
        yield Node("stage", seen.id, ref_id)


def _of_workflow(graph: WaitsFor, node: Node, seen: Seen) -> Wait:
    if seen.record.status == "BUFFERED":
        return _asks(graph, node, seen.record.lock, owner_of_workflow(seen.id, seen.record))
    if not seen.record.is_live:
        return _GOES_ON
    runs = (thread for thread, run in seen.live if run.instance is None and not run.parent and _may_wait(run))
    return _runs(seen, runs)


def _may_wait(run: Run) -> bool:
    return run.status == "BUFFERED" or run.phase in SYNTHETIC_PHASES or run.phase == "instances" or _calls(run)


def _calls(run: Run) -> bool:
    return bool(run.child) and run.sub is None


def _of_run(graph: WaitsFor, node: Node, seen: Seen) -> Wait:
    run = seen.live_run(node.name)
    if run is None or run.offer or run.held_for:
        return _GOES_ON
    plan = seen.plans[run.ref]
    if run.status == "BUFFERED":
        thread = section_thread(plan.mutex_section) if plan.mutex_section else node.name
        asking = seen.runs.get(thread, Run())
        if asking.lock != "requested":
            return _GOES_ON
        return _asks(graph, node, lock_name(plan, seen.id), Owner(seen.id, thread, asking.request))
    if run.phase == "instances":
        is_partial = plan.instances is not None and bool(plan.instances.threshold)
        return _runs(seen, seen.children(node.name, instances=True), one_is_enough=is_partial)
    if run.phase in SYNTHETIC_PHASES:
        return _runs(seen, seen.children(node.name, instances=False))
    return Wait((Node("workflow", run.child),)) if _calls(run) else _GOES_ON


def _runs(seen: Seen, threads: Iterable[str], *, one_is_enough: bool = False) -> Wait:
    return Wait(tuple(Node("run", seen.id, thread) for thread in threads), one_is_enough)


def _asks(graph: WaitsFor, node: Node, lock: str, owner: Owner) -> Wait:
    graph.asks[node] = (lock, owner)
    return Wait((Node("lock", "", lock),))


def _of_stage(seen: Seen, node: Node) -> Wait:
    """Return what a stage waits for that a join needs: its runs, or where it has none yet, those before it."""
    runs = [thread for thread, run in seen.live if run.ref == node.name and run.instance is None]
    if runs:
        return _runs(seen, runs, one_is_enough=True)
    before, needs_all = seen.missing_before(node.name)
    return Wait(tuple(Node("stage", seen.id, ref_id) for ref_id in before), one_is_enough=not needs_all)
