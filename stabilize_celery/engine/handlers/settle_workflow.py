"""SettleWorkflow: judge a workflow in which no thread moves: let joins act, break knots, else end it.

Source: wcp 1.6, 1.10; PROTOCOL 7.4. Pure, level-triggered, and the second line behind the joins' own messages.
Looks at every join, once per standstill; at the whole graph only where arrivals are left.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.handler import Rules, guard, opening, workflow_of
from stabilize_celery.engine.judging import apply_firings, judge_all, place_queries, read_places
from stabilize_celery.engine.moves import count_moves, finish_workflow
from stabilize_celery.engine.plan import decode_workflow_plan
from stabilize_celery.engine.region import Firing, Region
from stabilize_celery.engine.steps import Decision, Fields, Handling, Hash, Read, Snapshot
from stabilize_celery.models.messages import SettleWorkflow

__all__ = ["handle"]

_GRAPH = Fields(places.DEFINITION, ("joins", "meta"))
_COUNTERS = Hash(places.COUNTERS)
_FAILURES = Hash(places.FAILURES)


def handle(message: SettleWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide what a standstill means."""
    snapshot = yield opening(message, _COUNTERS, _GRAPH, _FAILURES, watch=[places.COUNTERS, places.FAILURES])
    if (early := guard(message, snapshot)) is not None:
        return early
    if int(snapshot[_COUNTERS].get("act", b"0")) > 0:
        return Decision(note="threads still move")
    decision = Decision()
    joins: list[str] = unpack(snapshot[_GRAPH].get("joins", b"\x90"))
    order = decode_workflow_plan(snapshot[_GRAPH]["meta"]).order
    waiting = yield from _read(joins)
    if any(any(place.waiting.values()) for place in waiting.places.values()):
        region = yield from _read(order)
        firings = _fire_something(region)
        if firings:
            moves = yield from apply_firings(decision, message.workflow_id, region, firings)
            count_moves(decision, message.workflow_id, moves)
            decision.forgets.clear()
            decision.keeps_entry = True
            decision.nudges.append(message)
            return decision
    _end(decision, message, snapshot)
    return decision


def _read(refs: list[str]) -> Generator[Read, Snapshot, Region]:
    queries = tuple(query for ref in refs for query in place_queries(ref))
    watch = [key for ref in refs for key in (places.arrivals(ref), places.join(ref))]
    snapshot = yield Read(queries, tuple(watch))
    return Region(read_places(snapshot, refs, {}))


def _fire_something(region: Region) -> list[Firing]:
    """Return the firings that end the standstill: those by the rules, else of the first OR-join that waits."""
    for place in region.places.values():
        place.runs = 0
    firings = judge_all(region)
    if firings:
        return firings
    for ref, place in region.places.items():
        if place.plan.join == "OR" and not place.plan.is_direct and any(place.waiting.values()):
            return region.force(ref)
    return []


def _end(decision: Decision, message: SettleWorkflow, snapshot: Snapshot) -> None:
    failures: dict[str, bytes] = snapshot[_FAILURES]
    reason = next((text.decode() for text in failures.values()), "")
    finish_workflow(
        decision,
        message.workflow_id,
        workflow_of(snapshot),
        "TERMINAL" if failures else "SUCCEEDED",
        snapshot.now_ms,
        reason=reason,
        is_empty=True,
    )
