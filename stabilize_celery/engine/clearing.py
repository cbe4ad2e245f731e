"""Clearing stages: the threads that are there now are taken away (wcp 1.6, 1.8; PROTOCOL 7.5, 10).

One rule for cancelling a stage, a region, and what a cancelling join no longer needs: started and enabled runs,
arrivals that wait at joins, edges counted in an unfinished cycle. Runs that have ended keep their status. What a join
would have given up before is not there to be taken away, judged or not (wcp 1.5): the whole graph says so, and is read
only where something waits at a join.
"""

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import stage_fields
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.joins import write_place
from stabilize_celery.engine.judging import apply_firings, place_queries, read_places
from stabilize_celery.engine.moves import (
    Frame,
    owe_continuation,
    set_run,
    tell_status,
)
from stabilize_celery.engine.offers import leave_offer
from stabilize_celery.engine.plan import decode_plan, decode_workflow_plan
from stabilize_celery.engine.region import Place, Region, joins_that_held
from stabilize_celery.engine.standing import with_parts
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, Run, WorkflowRecord
from stabilize_celery.engine.steps import (
    Append,
    Decision,
    Event,
    Fields,
    Hash,
    Members,
    Owed,
    Read,
    SetFields,
    Snapshot,
)
from stabilize_celery.models.messages import EvaluateJoin, run_name

__all__ = ["Cleared", "clear_stages", "drop_arrivals", "fire_cancelling"]

_LIVE = Members(places.LIVE)


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a clearing took away: its change of `act`, and how many runs, and joins that held something."""

    moves: int
    threads: int


def clear_stages(
    decision: Decision,
    workflow_id: str,
    record: WorkflowRecord,
    refs: Sequence[str],
    reason: str,
    *,
    spare: Collection[str] = (),
) -> Generator[Read, Snapshot, Cleared]:
    """Take away what is in the stages `refs` now, with all that is part of it, but for `spare` and its parts."""
    live = yield from _live_runs()
    runs = yield from _inside(live, set(refs), spare)
    keys = {thread: places.ledger(run_name(thread, None, run.task_index)) for thread, run in runs.items()}
    touched = {**dict.fromkeys(refs), **dict.fromkeys(run.ref for run in runs.values())}
    boxes = [places.signals(ref) for ref in touched]
    queries = [query for ref in refs for query in place_queries(ref)]
    queries += [stage_fields(ref) for ref in touched if ref not in refs]
    watch = [key for ref in refs for key in (places.arrivals(ref), places.join(ref))]
    snapshot = yield Read((*queries, *map(Hash, keys.values()), *map(Hash, boxes)), (*watch, *keys.values(), *boxes))
    moves = 0
    for thread, run in runs.items():
        frame = _frame(workflow_id, record, snapshot, thread, run)
        moves += end_run(decision, frame, "CANCELED", reason, ENTRY.decode(snapshot.hash(keys[thread])))
        if frame.plan.owner is not None:
            owe_continuation(decision, workflow_id, str(frame.plan.parent), run.parent)
        if run.offer:
            moves += yield from leave_offer(decision, frame)
    _forget_waiters(decision, snapshot, touched, runs)
    found, held = yield from _act_first(read_places(snapshot, refs, {}), live.values())
    for ref in refs:
        drop_arrivals(decision, workflow_id, found[ref], snapshot.now_us, counts=ref in held)
        if found[ref].plan.component:
            decision.owes.append(Owed(EvaluateJoin(workflow_id=workflow_id, ref_id=found[ref].plan.component)))
    return Cleared(moves, len(runs) + len(held))


def fire_cancelling(
    decision: Decision, workflow_id: str, record: WorkflowRecord, region: Region
) -> Generator[Read, Snapshot, int | None]:
    """Fire a cancelling join of a region that can, and take away what leads to it (WCP-29, WCP-32).

    Returns the change of `act`, and the rest of the region is to be judged by another look; None: there is none.
    """
    for ref, before in region.places.items():
        if not before.plan.upstream or not any(before.waiting.values()):
            continue
        # What has arrived is read behind the WATCH of what lives: each thread is there in one of them.
        yield Read((_LIVE,), (places.LIVE,))
        seen = yield Read(place_queries(ref), (places.arrivals(ref), places.join(ref)))
        place = read_places(seen, [ref], {f"r:{ref}": b"%d" % before.runs})[ref]
        if firings := Region({**region.places, ref: place}).judge(ref):
            moves = yield from apply_firings(decision, workflow_id, Region({ref: place}), firings)
            told = f"the join {ref!r} has fired without it"
            cleared = yield from clear_stages(decision, workflow_id, record, place.plan.upstream, told)
            return moves + cleared.moves
    return None


def _live_runs() -> Generator[Read, Snapshot, dict[str, Run]]:
    live = sorted((yield Read((_LIVE,), (places.LIVE,)))[_LIVE])
    keys = {thread: Hash(places.run(thread)) for thread in live}
    found = yield Read(tuple(keys.values()))
    return {thread: RUN.decode(found[key]) for thread, key in keys.items()}


def _inside(
    live: Mapping[str, Run], refs: Collection[str], spare: Collection[str]
) -> Generator[Read, Snapshot, dict[str, Run]]:
    spared = with_parts(live, spare)
    inside = with_parts(live, [t for t, run in live.items() if run.ref in refs and t not in spared])
    keys = {thread: Hash(places.run(thread)) for thread in inside}
    found = yield Read(tuple(keys.values()), tuple(key.key for key in keys.values()))
    return {thread: RUN.decode(found[key]) for thread, key in keys.items()}


def _act_first(
    found: Mapping[str, Place], live: Collection[Run]
) -> Generator[Read, Snapshot, tuple[Mapping[str, Place], set[str]]]:
    """Let the joins do what they have not come to yet. Returns the places, and which of them held something."""
    if not any(place.holds for place in found.values()):
        return found, set()
    meta = Fields(places.DEFINITION, ("meta",))
    order = decode_workflow_plan((yield Read((meta,)))[meta]["meta"]).order
    graph = read_places((yield Read(tuple(query for ref in order for query in place_queries(ref)))), order, {})
    for run in live:
        if run.ref in graph and run.instance is None and not run.passed_on:
            graph[run.ref].runs += 1
    held = joins_that_held(graph)
    return {ref: graph.get(ref, place) for ref, place in found.items()}, held & found.keys()


def _frame(workflow_id: str, record: WorkflowRecord, snapshot: Snapshot, thread: str, run: Run) -> Frame:
    fields = snapshot[stage_fields(run.ref)]
    context = {**unpack(fields[f"x:{run.ref}"]), **run.context}
    return Frame(workflow_id, snapshot.now_us, record, decode_plan(fields[f"s:{run.ref}"]), thread, run, context)


def _forget_waiters(decision: Decision, snapshot: Snapshot, refs: Iterable[str], runs: Mapping[str, Run]) -> None:
    for ref in refs:
        key = places.signals(ref)
        box = SIGNALS.decode(snapshot.hash(key))
        rest = [waiter for waiter in box.waiters if waiter.thread not in runs]
        if len(rest) < len(box.waiters):
            decision.change(SetFields(key, SIGNALS.encode(waiters=rest)))


def drop_arrivals(decision: Decision, workflow_id: str, place: Place, now_us: int, *, counts: bool) -> None:
    """Drop what waits at a join. A cycle that has fired first absorbs what belongs to it, and stays.

    `counts`: something was taken away, which counts as a run that ends now (wcp 1.2).
    """
    if place.has_fired:
        place.absorb()
    place.drop_all()
    if place.counted and not place.has_fired:
        place.new_cycle()
    write_place(decision, workflow_id, place)
    if counts:
        ref = place.plan.ref
        token = thread_id("dropped", ref, sum(place.used.values()))
        set_run(decision, token, ref=ref, status="CANCELED", created_us=now_us, ended_ms=now_us // 1000)
        decision.change(Append(places.bypassed(ref), token))
        decision.events.append(Event("stage.canceled", ref, {"thread": token}))
        tell_status(decision, workflow_id, place.plan)
