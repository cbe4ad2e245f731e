"""Joins: what is stored of them, and what a judgement of them writes (wcp 1.6; PROTOCOL 7.3).

Arrivals are an append-only list that upstreams write and nobody WATCHes; what the join has used is the join's own
hash. So ten thousand branches arrive without one retry, and a join fires once for what it uses.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.moves import (
    Zone,
    enable,
)
from stabilize_celery.engine.past import Past
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.region import Firing, Place
from stabilize_celery.engine.rooms import arrive_in
from stabilize_celery.engine.routes import keep_page
from stabilize_celery.engine.state import RUN
from stabilize_celery.engine.steps import Decision, Event, Fields, Increment, Read, SetFields, Snapshot, Value

__all__ = ["fire", "pasts_of", "place_of", "write_place"]


def place_of(
    plan: StagePlan,
    arrivals: Sequence[str],
    consumed: Mapping[str, bytes],
    closed: Iterable[str] = (),
    runs: int = 0,
) -> Place:
    """Return a stage as stored: its list of arrivals, its join's hash, its closed edges, its live runs."""
    waiting: dict[int, list[str]] = {}
    for item in arrivals:
        edge, _, thread = item.partition(":")
        waiting.setdefault(int(edge), []).append(thread)
    used = {int(name[1:]): int(count) for name, count in consumed.items() if name[0] == "u"}
    for position, count in used.items():
        if position in waiting:
            del waiting[position][:count]
    return Place(
        plan,
        runs=runs,
        waiting=waiting,
        used=used,
        counted={int(edge): thread for edge, thread in unpack(consumed.get("counted", b"\x80")).items()},
        has_fired=consumed.get("cycle") == b"1",
        fired=int(consumed.get("fired", b"0")),
        closed=frozenset(closed),
    )


def pasts_of(firings: Iterable[Firing]) -> Generator[Read, Snapshot, tuple[dict[str, Past], int]]:
    """Return what each consumed branch has seen (ended runs, which do not change any more), and the time (us)."""
    queries = {thread: Fields(places.run(thread), ("past_out",)) for one in firings for _, thread in one.arrivals}
    snapshot = yield Read(tuple(queries.values()))
    return {thread: RUN.decode(snapshot[query]).past_out for thread, query in queries.items()}, snapshot.now_us


def write_place(decision: Decision, workflow_id: str, place: Place) -> None:
    """Write what a judgement changed at a join."""
    plan = place.plan
    if not place.is_changed:
        return
    fields: dict[str, Value] = {f"u{edge}": count for edge, count in place.used.items()}
    fields |= {"fired": place.fired, "cycle": int(place.has_fired)}
    fields["counted"] = pack({str(edge): thread for edge, thread in place.counted.items()})
    decision.change(SetFields(places.join(plan.ref), fields))
    if plan.join in ("DISCRIMINATOR", "N_OF_M"):
        decision.change(SetFields(places.waiting(plan.ref), {"f": int(place.has_fired)}))
    if place.emptied:
        decision.change(Increment(places.waiting(plan.ref), "n", -place.emptied))
    arrive_in(decision, workflow_id, plan.mutex_section, plan.ref, place.threads - place.found)
    if place.consumed and plan.component:
        decision.change(Increment(places.component(plan.component), "live", -place.consumed))


def fire(decision: Decision, workflow_id: str, plan: StagePlan, firing: Firing, past: Past, now_us: int) -> int:
    """Enable the run of a firing, which sees `past`. Returns the change of `act`: +1."""
    token = thread_id(plan.ref, firing.number)
    past = keep_page(decision, past, f"join:{token}")
    enable(decision, workflow_id, plan.ref, token, now_us, past, zone=Zone.of(plan))
    told = {"branches": len(firing.arrivals), "firing": firing.number}
    decision.events.append(Event("join.fired", plan.ref, told))
    decision.forgets.append("Settle")
    return 1
