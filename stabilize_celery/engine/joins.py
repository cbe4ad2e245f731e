"""Joins: which arrivals a join uses when, and what its firing does (wcp 1.6; PROTOCOL 7.3).

Arrivals are an append-only list that upstreams write and nobody WATCHes; what the join has used is the join's own
hash. So ten thousand branches arrive without one retry, and a join fires once for what it uses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stabilize_celery.engine import places
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.moves import enable
from stabilize_celery.engine.past import Past, merged
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.state import RUN
from stabilize_celery.engine.steps import Decision, Event, Fields, Increment, SetFields, Snapshot

__all__ = ["JoinState", "fire", "join_state", "past_queries", "ready"]


@dataclass(frozen=True, slots=True)
class JoinState:
    """Arrivals per edge in order (threads), and how many of each the join has used."""

    arrived: Mapping[int, Sequence[str]]
    used: Mapping[int, int]
    fired: int

    def waiting(self, edge: int) -> Sequence[str]:
        """Return the arrivals on an edge that are not used."""
        return self.arrived.get(edge, ())[self.used.get(edge, 0) :]

    @property
    def left(self) -> int:
        """How many arrivals are not used."""
        return sum(len(self.waiting(edge)) for edge in self.arrived)


def join_state(arrivals: Sequence[str], consumed: Mapping[str, bytes]) -> JoinState:
    """Return the state of a join from its list of arrivals and its hash."""
    arrived: dict[int, list[str]] = {}
    for item in arrivals:
        edge, _, thread = item.partition(":")
        arrived.setdefault(int(edge), []).append(thread)
    used = {int(name[1:]): int(count) for name, count in consumed.items() if name[0] == "u"}
    return JoinState(arrived, used, int(consumed.get("fired", b"0")))


def ready(plan: StagePlan, state: JoinState) -> list[tuple[int, str]] | None:
    """Return the arrivals (edge, thread) that the join consumes if it fires now, or None. AND: WCP-3, WCP-33."""
    edges = range(len(plan.requisites))
    if not all(state.waiting(edge) for edge in edges):
        return None
    return [(edge, state.waiting(edge)[0]) for edge in edges]


def past_queries(consumed: Sequence[tuple[int, str]]) -> list[Fields]:
    """Return the queries for what each consumed branch has seen; ended runs, which do not change any more."""
    return [Fields(places.run(thread), ("past_out",)) for _, thread in consumed]


def fire(
    decision: Decision,
    workflow_id: str,
    plan: StagePlan,
    state: JoinState,
    consumed: Sequence[tuple[int, str]],
    pasts: Snapshot,
) -> int:
    """Use the consumed arrivals and enable a run. Returns the change of `act`: +1."""
    fired = state.fired + 1
    counts = {f"u{edge}": state.used.get(edge, 0) + 1 for edge, _ in consumed}
    decision.change(SetFields(places.join(plan.ref), {**counts, "fired": fired}))
    decision.change(Increment(places.waiting(plan.ref), "n", -len(consumed)))
    seen: list[Past] = [RUN.decode(pasts[query]).past_out for query in past_queries(consumed)]
    token = thread_id(plan.ref, fired)
    enable(decision, workflow_id, plan.ref, token, pasts.now_us, merged(seen, plan.reducers))
    decision.events.append(Event("join.fired", plan.ref, {"branches": len(consumed), "firing": fired}))
    decision.forgets.append("Settle")
    return 1
