"""SettleWorkflow: judge a workflow in which no thread moves: let joins act, break knots, else end it.

Source: wcp 1.6, 1.10; PROTOCOL 7.4. Pure, level-triggered, and the second line behind the joins' own messages.
Looks at every join, once per standstill; at the whole graph only where arrivals are left.
"""

from collections.abc import Generator, Mapping

from stabilize_celery.engine import places
from stabilize_celery.engine.clearing import fire_cancelling
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.endings import (
    finish_workflow,
)
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields, workflow_of, zone_fields
from stabilize_celery.engine.judging import apply_firings, judge_all, place_queries, read_places
from stabilize_celery.engine.milestones import HOLDS, WAITS, milestone_verdict, wake, whole_of_milestone, withdraw
from stabilize_celery.engine.moves import (
    Frame,
    count_moves,
    owe_continuation,
)
from stabilize_celery.engine.plan import decode_workflow_plan
from stabilize_celery.engine.region import Region
from stabilize_celery.engine.sections import close_sections
from stabilize_celery.engine.state import RUN, Run, WorkflowRecord
from stabilize_celery.engine.steps import Decision, Fields, Handling, Hash, Members, Read, Snapshot
from stabilize_celery.models.messages import SettleWorkflow

__all__ = ["handle", "reads"]

_GRAPH = Fields(places.DEFINITION, ("joins", "meta"))
_COUNTERS = Hash(places.COUNTERS)
_FAILURES = Hash(places.FAILURES)
_LIVE = Members(places.LIVE)


def reads(message: SettleWorkflow) -> Read:
    """Return what the look at a standstill begins with."""
    watch = [places.COUNTERS, places.FAILURES, places.LIVE]
    return opening(message, _COUNTERS, _GRAPH, _FAILURES, _LIVE, watch=watch)


def handle(message: SettleWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide what a standstill means."""
    snapshot = yield reads(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    if int(snapshot[_COUNTERS].get("act", b"0")) > 0:
        return Decision(note="threads still move")
    decision = Decision()
    joins: list[str] = unpack(snapshot[_GRAPH].get("joins", b"\x90"))
    order = decode_workflow_plan(snapshot[_GRAPH]["meta"]).order
    waiting = yield from _read(joins)
    runs = yield from _live_runs(snapshot)
    live: dict[str, Run] = {thread: runs.record(places.run(thread), RUN.decode) for thread in sorted(snapshot[_LIVE])}
    if left := {run.parent for run in live.values() if run.instance is None} - {"", *live}:
        return (yield from _end_parts_first(message, sorted(left)))
    held = yield from _held(message, runs, order, live)
    if not held and not any(any(place.waiting.values()) for place in waiting.places.values()):
        _end(decision, message, snapshot)
        return decision
    moves = yield from _untie(decision, message, workflow_of(snapshot), order, held)
    if moves is None:
        _end(decision, message, snapshot)
        return decision
    count_moves(decision, message.workflow_id, moves)
    decision.forgets = [name for name in decision.forgets if name != message.name]
    decision.owes = [owed for owed in decision.owes if owed.message.name != message.name]
    decision.keeps_entry = True
    decision.nudges.append(message)
    return decision


def _live_runs(snapshot: Snapshot) -> Generator[Read, Snapshot, Snapshot]:
    keys = [places.run(thread) for thread in sorted(snapshot[_LIVE])]
    return snapshot.merged((yield Read(tuple(map(Hash, keys)), tuple(keys)))) if keys else snapshot


def _end_parts_first(message: SettleWorkflow, wholes: list[str]) -> Handling:
    """Owe the end of what is left of runs that have ended; who takes it away owes another look."""
    keys = [Hash(places.run(thread)) for thread in wholes]
    found = yield Read(tuple(keys))
    decision = Decision(note="before or after stages of a run that has ended are still there")
    for thread, key in zip(wholes, keys, strict=True):
        owe_continuation(decision, message.workflow_id, RUN.decode(found[key]).ref, thread)
    return decision


def _held(
    message: SettleWorkflow, snapshot: Snapshot, order: list[str], live: Mapping[str, Run]
) -> Generator[Read, Snapshot, list[Frame]]:
    """Return the runs that wait for a milestone, in the order of the graph; a part of a run stands where that does."""
    held = {thread: run for thread, run in live.items() if run.held_for}
    if not held:
        return []
    fields = [query for run in held.values() for query in (stage_fields(run.ref), zone_fields(run.ref))]
    seen = snapshot.merged((yield Read(tuple(fields))))
    frames = [frame_of(message, seen, run.ref, thread) for thread, run in held.items()]
    return sorted(frames, key=lambda frame: (order.index(_whole(live, frame.run).ref), frame.run.created_us))


def _whole(live: Mapping[str, Run], run: Run) -> Run:
    while run.parent:
        run = live[run.parent]
    return run


def _untie(
    decision: Decision, message: SettleWorkflow, record: WorkflowRecord, order: list[str], held: list[Frame]
) -> Generator[Read, Snapshot, int | None]:
    """Let one thing happen, in this order (wcp 1.6): joins by the rules, milestones, an OR-join, a withdrawal.

    Returns the change of `act`; None if nothing is left that could.
    """
    region = yield from _read(order)
    for ref, place in region.places.items():
        place.runs = sum(frame.plan.ref == ref for frame in held)
    cleared = yield from fire_cancelling(decision, message.workflow_id, record, region)
    if cleared is not None:
        return cleared
    firings = judge_all(region)
    # What a join gives up may be what a milestone waits for: that is seen when it is written.
    if firings or (held and any(place.is_changed for place in region.places.values())):
        return (yield from apply_firings(decision, message.workflow_id, region, firings))
    # That nothing can reach a milestone any more may not have been told yet: the whole graph says so.
    unreachable = region.places.keys() - region.reachable()
    for frame in held:
        verdict = yield from milestone_verdict(frame.plan)
        if verdict != WAITS or whole_of_milestone(frame.plan) in unreachable:
            return wake(decision, frame) if verdict == HOLDS else withdraw(decision, frame)
    for ref, place in region.places.items():
        if place.plan.join == "OR" and not place.plan.is_direct and any(place.waiting.values()):
            return (yield from apply_firings(decision, message.workflow_id, region, region.force(ref)))
    return withdraw(decision, held[0]) if held else None


def _read(refs: list[str]) -> Generator[Read, Snapshot, Region]:
    if not refs:
        return Region({})
    queries = tuple(query for ref in refs for query in place_queries(ref))
    watch = [key for ref in refs for key in (places.arrivals(ref), places.join(ref))]
    snapshot = yield Read(queries, tuple(watch))
    return Region(read_places(snapshot, refs, {}))


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
        kept=int(snapshot[_COUNTERS].get("kept", b"0")),
    )
    close_sections(decision, message.workflow_id, decode_workflow_plan(snapshot[_GRAPH]["meta"]))
