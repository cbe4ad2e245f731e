"""Clearing stages: the threads that are there now are taken away (wcp 1.6, 1.8; PROTOCOL 7.5, 10).

One rule for cancelling a stage, a region, and what a cancelling join no longer needs: started and enabled runs,
arrivals that wait at joins, edges counted in an unfinished cycle. Runs that have ended keep their status.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
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
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.region import Place, Region
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, Run, WorkflowRecord
from stabilize_celery.engine.steps import Append, Decision, Event, Hash, Members, Owed, Read, SetFields, Snapshot
from stabilize_celery.models.messages import EvaluateJoin, run_name

__all__ = ["Cleared", "clear_stages", "drop_arrivals", "fire_cancelling"]

_LIVE = Members(places.LIVE)


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a clearing took away: its change of `act`, and how many threads and arrivals."""

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
    """Take away what is in the stages `refs` now, but for the threads in `spare` and their instances."""
    runs = yield from _live_runs(set(refs), spare)
    keys = {thread: places.ledger(run_name(thread, None, run.task_index)) for thread, run in runs.items()}
    boxes = [places.signals(ref) for ref in refs]
    queries = [query for ref in refs for query in place_queries(ref)]
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
    _forget_waiters(decision, snapshot, refs, runs)
    dropped = 0
    for ref, place in read_places(snapshot, refs, {}).items():
        dropped += drop_arrivals(decision, workflow_id, ref, place, snapshot.now_us)
        if place.plan.component:
            decision.owes.append(Owed(EvaluateJoin(workflow_id=workflow_id, ref_id=place.plan.component)))
    return Cleared(moves, len(runs) + dropped)


def fire_cancelling(
    decision: Decision, workflow_id: str, record: WorkflowRecord, region: Region
) -> Generator[Read, Snapshot, int | None]:
    """Fire a cancelling join of a region that can, and take away what leads to it (WCP-29, WCP-32).

    Returns the change of `act`, and the rest of the region is to be judged by another look; None: there is none.
    """
    for ref, place in region.places.items():
        if place.plan.upstream and (firings := region.judge(ref)):
            moves = yield from apply_firings(decision, workflow_id, Region({ref: place}), firings)
            told = f"the join {ref!r} has fired without it"
            cleared = yield from clear_stages(decision, workflow_id, record, place.plan.upstream, told)
            return moves + cleared.moves
    return None


def _live_runs(refs: Collection[str], spare: Collection[str]) -> Generator[Read, Snapshot, dict[str, Run]]:
    live = sorted((yield Read((_LIVE,), (places.LIVE,)))[_LIVE])
    keys = {thread: Hash(places.run(thread)) for thread in live if thread not in spare}
    found = yield Read(tuple(keys.values()))
    runs = {thread: RUN.decode(found[key]) for thread, key in keys.items()}
    inside = {thread: keys[thread] for thread, run in runs.items() if run.ref in refs and run.parent not in spare}
    again = yield Read(tuple(inside.values()), tuple(key.key for key in inside.values()))
    return {thread: RUN.decode(again[key]) for thread, key in inside.items()}


def _frame(workflow_id: str, record: WorkflowRecord, snapshot: Snapshot, thread: str, run: Run) -> Frame:
    fields = snapshot[stage_fields(run.ref)]
    context = {**unpack(fields[f"x:{run.ref}"]), **run.context}
    return Frame(workflow_id, snapshot.now_us, record, decode_plan(fields[f"s:{run.ref}"]), thread, run, context)


def _forget_waiters(decision: Decision, snapshot: Snapshot, refs: Sequence[str], runs: Mapping[str, Run]) -> None:
    for ref in refs:
        key = places.signals(ref)
        box = SIGNALS.decode(snapshot.hash(key))
        rest = [waiter for waiter in box.waiters if waiter.thread not in runs]
        if len(rest) < len(box.waiters):
            decision.change(SetFields(key, SIGNALS.encode(waiters=rest)))


def drop_arrivals(
    decision: Decision, workflow_id: str, ref: str, place: Place, now_us: int, *, counts: bool = True
) -> int:
    """Drop what waits at a join. A cycle that has fired first absorbs what belongs to it, and stays.

    Returns how much that was. All of it `counts` as one run, which ends now (wcp 1.2).
    """
    if place.has_fired:
        place.absorb()
    dropped = sum(map(len, place.waiting.values())) + (0 if place.has_fired else len(place.counted))
    place.drop_all()
    if place.counted and not place.has_fired:
        place.new_cycle()
    write_place(decision, workflow_id, place)
    if dropped and counts:
        token = thread_id("dropped", ref, sum(place.used.values()))
        set_run(decision, token, ref=ref, status="CANCELED", created_us=now_us, ended_ms=now_us // 1000)
        decision.change(Append(places.bypassed(ref), token))
        decision.events.append(Event("stage.canceled", ref, {"thread": token}))
        tell_status(decision, workflow_id, place.plan)
    return dropped
