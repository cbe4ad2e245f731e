"""Deadlocks: who holds a lock and can't go on before another one ends who, in turn, waits for that.

Locks and workflows are read one after the other. A deadlock is told only if a second reading finds the same: a request
is used once, so what both readings saw was so all the time between them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stabilize_celery.client.why.cycle import Deadlock, Link
from stabilize_celery.client.why.locks import LockFacts, Party, granted_ms
from stabilize_celery.client.why.seen import Seen
from stabilize_celery.client.why.waits import MOST_FOLLOWED, Node, WaitsFor, explore
from stabilize_celery.engine.components import components
from stabilize_celery.engine.locks import Owner
from stabilize_celery.engine.state import Run
from stabilize_celery.store.contract import Store

__all__ = ["Deadlocks", "deadlocks_among", "find_deadlocks", "lock_node", "workflow_node"]

_RELATIONS = {"STAGE_BEFORE": "before stage", "STAGE_AFTER": "after stage"}


@dataclass(frozen=True, slots=True)
class Deadlocks:
    """What was found. `locks`: full names of those that nobody can get before a deadlock is broken.

    `is_cut`: there was more to read than one question may.
    """

    found: Sequence[Deadlock] = ()
    locks: frozenset[str] = frozenset()
    is_cut: bool = False

    def mark(self, lock: str) -> str:
        """Return what a deadlock makes of a lock, by its full name: `deadlock`, `behind a deadlock`, or nothing."""
        if any(lock in (link.holds, link.wants) for one in self.found for link in one.links):
            return "deadlock"
        return "behind a deadlock" if lock in self.locks else ""


def lock_node(name: str) -> Node:
    """Return where to begin with a lock, by its full name."""
    return Node("lock", "", name)


def workflow_node(workflow_id: str) -> Node:
    """Return where to begin with a workflow."""
    return Node("workflow", workflow_id)


def deadlocks_among(store: Store, found: Iterable[LockFacts], most: int) -> Deadlocks:
    """Return the deadlocks among these locks and those that their holders wait for; `most`: as of `find_deadlocks`."""
    # A lock that nobody waits for, or that has room, keeps nobody.
    starts = [lock_node(lock.name) for lock in found if lock.waiters and len(lock.holders) >= lock.limit]
    return find_deadlocks(store, starts, most=most) if starts else Deadlocks()


def find_deadlocks(
    store: Store, starts: Iterable[Node], known: Mapping[str, Seen] | None = None, most: int = MOST_FOLLOWED
) -> Deadlocks:
    """Return the deadlocks that what is asked about waits for, or is part of.

    Args:
        store: Where the workflows and locks are.
        starts: What is asked about.
        known: Workflows that were read already.
        most: How many locks, and how many workflows, are read at most (count).

    """
    starts = list(starts)
    first = explore(store, starts, known, most)
    stuck = first.stuck()
    if not stuck:
        return Deadlocks(is_cut=first.is_cut)
    before = {link.identity for deadlock in _deadlocks(first, stuck) for link in deadlock.links}
    second = explore(store, starts, most=most)
    stuck = second.stuck()
    found = [one for one in _deadlocks(second, stuck) if {link.identity for link in one.links} <= before]
    locks = frozenset(node.name for node in stuck if node.kind == "lock") if found else frozenset()
    return Deadlocks(found, locks, first.is_cut or second.is_cut)


def _deadlocks(graph: WaitsFor, stuck: Collection[Node]) -> list[Deadlock]:
    """Return each group of nodes that wait for one another."""
    order = sorted(stuck)
    index = {node: str(at) for at, node in enumerate(order)}
    targets = {node: [other for other in graph.waits[node].on if other in stuck] for node in order}
    names = components({index[node]: [index[other] for other in targets[node]] for node in order})
    groups: dict[str, set[Node]] = {}
    for node in order:
        groups.setdefault(names[index[node]], set()).add(node)
    # Every cycle leads through a lock and a holder, so that one node alone is none.
    return [_told(graph, group) for group in groups.values() if len(group) > 1]


def _told(graph: WaitsFor, group: Collection[Node]) -> Deadlock:
    links = [link for node in sorted(group) if node.kind == "lock" for link in _links(graph, node, group)]
    ids = {node.workflow_id for node in group if node.workflow_id}
    return Deadlock(_in_order(links), frozenset(ids))


def _links(graph: WaitsFor, lock: Node, group: Collection[Node]) -> Iterator[Link]:
    """Return, for each holder of a lock, what keeps it: the shortest way to each lock that it waits for."""
    for holder in graph.waits[lock].on:
        if holder not in group:
            continue
        ways: list[list[Node]] = [[holder]]
        reached = {holder}
        for way in ways:
            for node in graph.waits[way[-1]].on:
                if node.kind == "lock" and node in group:
                    yield _link(graph, lock, way, node)
                elif node in group and node not in reached:
                    reached.add(node)
                    ways.append([*way, node])


def _link(graph: WaitsFor, lock: Node, way: Sequence[Node], wanted: Node) -> Link:
    holder, asking = way[0], way[-1]
    owner = Owner.parse(f"{holder.workflow_id}/{holder.name}")
    _, asked_as = graph.asks[asking]
    return Link(
        holder=_holder(graph, lock.name, owner),
        holds=lock.name,
        waiter=_waiter(graph, wanted.name, asking, asked_as),
        wants=wanted.name,
        relation=_relation(graph, way),
        identity=(str(owner), lock.name, str(asked_as), wanted.name),
    )


def _holder(graph: WaitsFor, lock: str, owner: Owner) -> Party:
    seen = graph.workflows[owner.workflow_id]
    run = seen.runs.get(owner.thread, Run())
    token = graph.locks[lock].holders.get(str(owner), 0)
    since_ms = run.started_ms or granted_ms(token)
    section = seen.section_of(owner.thread)
    return Party(owner.workflow_id, seen.record.name, run.ref, owner.thread, since_ms, token, section=section)


def _waiter(graph: WaitsFor, lock: str, asking: Node, owner: Owner) -> Party:
    seen = graph.workflows[asking.workflow_id]
    run = seen.runs.get(asking.name, Run())
    in_line = dict(graph.locks[lock].waiters)
    since_ms = in_line.get(str(owner), run.created_us // 1000)
    return Party(asking.workflow_id, seen.record.name, run.ref, asking.name, since_ms)


def _relation(graph: WaitsFor, way: Sequence[Node]) -> str:
    holder, asking = way[0], way[-1]
    if asking.workflow_id != holder.workflow_id:
        return "inner workflow"
    if any(node.kind == "stage" for node in way):
        return "join"
    seen = graph.workflows[asking.workflow_id]
    run = seen.runs[asking.name]
    if seen.runs.get(run.parent, Run()).phase == "failure":
        return "on-failure stage"
    return _RELATIONS.get(seen.plans[run.ref].owner or "", "stage")


def _in_order(links: Sequence[Link]) -> tuple[Link, ...]:
    """Return links so that each holds what the one before wants, as far as that goes."""
    left, ordered = list(links), list[Link]()
    while left:
        wanted = ordered[-1].wants if ordered else ""
        following = next((link for link in left if link.holds == wanted), left[0])
        left.remove(following)
        ordered.append(following)
    return tuple(ordered)
