"""Judging a region: read it, let its joins act, close what can bring nothing any more (PROTOCOL 7.3, 7.4)."""

from collections.abc import Generator, Mapping, Sequence

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import meet, stage_fields
from stabilize_celery.engine.joins import fire, pasts_of, place_of, write_place
from stabilize_celery.engine.plan import StagePlan, decode_plan
from stabilize_celery.engine.region import Firing, Place, Region
from stabilize_celery.engine.routes import (
    close_ways_out,
)
from stabilize_celery.engine.steps import Decision, Hash, Items, Query, Read, Snapshot

__all__ = ["apply_firings", "close_unreachable", "judge_all", "look_along", "place_queries", "read_places"]


def place_queries(ref: str) -> tuple[Query, ...]:
    """Return the queries for a stage as a place of a region."""
    return (
        stage_fields(ref),
        Items(places.arrivals(ref)),
        Hash(places.join(ref)),
        Hash(places.closed(ref)),
    )


def look_along(
    ways: Sequence[tuple[str, Sequence[str]]], watch: Sequence[str] = ()
) -> Generator[Read, Snapshot, dict[str, Place]]:
    """Return the places of stages, given by component, none before one from which it is reached.

    They are not read at one moment. No thread is missed that moves on meanwhile: a place is read after all from which
    it is reached, and its arrivals before its runs; in a loop the count of what is there is read last.
    """
    refs = [ref for _, members in ways for ref in members]
    counters = {name: Hash(places.component(name)) for name, _ in ways}
    queries: list[Query] = []
    for name, members in ways:
        queries += [*(query for ref in members for query in place_queries(ref)), counters[name]]
    snapshot = yield Read(tuple(queries), tuple(watch))
    live = {name: count for counter in counters.values() for name, count in snapshot[counter].items()}
    return read_places(snapshot, refs, live)


def read_places(snapshot: Snapshot, refs: Sequence[str], counters: Mapping[str, bytes]) -> dict[str, Place]:
    """Return the places of stages from a snapshot that has read their `place_queries`."""
    found = {}
    for ref in refs:
        fields, arrivals, consumed, closed = place_queries(ref)
        plan = decode_plan(snapshot[fields][f"s:{ref}"])
        runs = int(counters.get(f"r:{ref}", b"0"))
        found[ref] = place_of(plan, snapshot[arrivals], snapshot[consumed], snapshot[closed], runs)
    return found


def judge_all(region: Region) -> list[Firing]:
    """Let every join of a region act until none can; return all firings in order."""
    firings: list[Firing] = []
    joins = [ref for ref, place in region.places.items() if not place.plan.is_direct]
    while True:
        before = [(place.consumed, place.fired, place.has_fired) for place in region.places.values()]
        for ref in joins:
            firings += region.judge(ref)
        if before == [(place.consumed, place.fired, place.has_fired) for place in region.places.values()]:
            return firings


def apply_firings(
    decision: Decision, workflow_id: str, region: Region, firings: Sequence[Firing]
) -> Generator[Read, Snapshot, int]:
    """Write what the joins did, and enable the runs of their firings. Returns the change of `act`."""
    for place in region.places.values():
        write_place(decision, workflow_id, place)
    if not firings:
        return 0
    pasts, now_us = yield from pasts_of(firings)
    for number, one in enumerate(firings):
        plan = region.places[one.ref].plan
        past = yield from meet([pasts[thread] for _, thread in one.arrivals], plan.reducers)
        fire(decision, workflow_id, plan, one, past, now_us + number)
    return len(firings)


def close_unreachable(
    decision: Decision, workflow_id: str, region: Region, already: Mapping[str, bytes], among: Sequence[StagePlan]
) -> None:
    """Tell of each stage, once, that no run of it can pass a thread on any more."""
    reachable = region.reachable()
    for plan in among:
        if plan.component and plan.ref not in reachable and plan.ref not in already:
            close_ways_out(decision, workflow_id, plan)
