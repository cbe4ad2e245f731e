"""Outside events about what runs in a stage now: cancel it, skip it, add to its instances, end them early (wcp 4.4)."""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.answers import EVENT_IDS, RECORD, Asking, accept, known, refuse
from stabilize_celery.engine.clearing import clear_stages
from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.engine.completion import complete_run, end_work
from stabilize_celery.engine.handler import stage_fields, workflow_of, zone_fields
from stabilize_celery.engine.instances import Crowd, begin_waiting, outputs_after, read_instances, withdraw_instances
from stabilize_celery.engine.moves import (
    Frame,
    count_moves,
    owe_settle,
    set_run,
)
from stabilize_celery.engine.offers import choose_member, close_offer
from stabilize_celery.engine.partial_joins import as_found_by_addition
from stabilize_celery.engine.plan import decode_plan, decode_workflow_plan
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, Entry, Run
from stabilize_celery.engine.steps import (
    Decision,
    Fields,
    Hash,
    Increment,
    Items,
    Members,
    Read,
    SetFields,
    Snapshot,
)
from stabilize_celery.engine.waiters import forget_waiters
from stabilize_celery.models.limits import MAX_INSTANCES
from stabilize_celery.models.messages import run_name

__all__ = ["add_instances", "cancel_region", "cancel_stage", "choose", "complete_instances", "skip_stage"]


def cancel_stage(workflow_id: str, event_id: str, ref_id: str) -> Asking:
    """WCP-19. Takes away the threads that are in a stage now; a stage without one is not affected."""
    snapshot = yield Read((RECORD, EVENT_IDS, stage_fields(ref_id)), (places.WORKFLOW, places.OUTSIDE_EVENTS))
    if (before := known(snapshot, event_id)) is not None:
        return before
    if not snapshot[stage_fields(ref_id)]:
        return refuse(f"the workflow has no stage {ref_id!r}")
    told = f"cancelled stage {ref_id!r}"
    return (yield from _clear(workflow_id, event_id, snapshot, [ref_id], told))


def cancel_region(workflow_id: str, event_id: str, region: str) -> Asking:
    """WCP-25. Clears the stages of a region of the threads that are there now."""
    meta = Fields(places.DEFINITION, ("meta",))
    snapshot = yield Read((RECORD, EVENT_IDS, meta), (places.WORKFLOW, places.OUTSIDE_EVENTS))
    if (before := known(snapshot, event_id)) is not None:
        return before
    refs = decode_workflow_plan(snapshot[meta]["meta"]).regions.get(region)
    if not refs:
        return refuse(f"no stage of the workflow is in a region {region!r}")
    return (yield from _clear(workflow_id, event_id, snapshot, refs, f"cancelled region {region!r}"))


def _clear(workflow_id: str, event_id: str, snapshot: Snapshot, refs: list[str], told: str) -> Asking:
    record = workflow_of(snapshot)
    if not record.is_live:
        return refuse(f"the workflow has ended {record.status}")
    decision = Decision()
    cleared = yield from clear_stages(decision, workflow_id, record, refs, f"{told} from outside")
    if not cleared.threads:
        return refuse(f"no thread is in {', '.join(map(repr, refs))} now")
    if cleared.moves:
        count_moves(decision, workflow_id, cleared.moves)
    else:
        owe_settle(decision, workflow_id, decision.change(Increment(places.COUNTERS, "act", 0)))
    return accept(decision, snapshot, event_id, told)


def choose(workflow_id: str, event_id: str, ref_id: str) -> Asking:
    """WCP-16. Chooses an offered stage; refused if it is not offered (any more)."""
    snapshot = yield Read((RECORD, EVENT_IDS, stage_fields(ref_id)), (places.WORKFLOW, places.OUTSIDE_EVENTS))
    if (before := known(snapshot, event_id)) is not None:
        return before
    record, fields = workflow_of(snapshot), snapshot[stage_fields(ref_id)]
    if not record.is_live or not fields:
        return refuse(f"the workflow has {'ended' if fields else f'no stage {ref_id!r}'}")
    group = decode_plan(fields[f"s:{ref_id}"]).choice_group
    decision = Decision()
    if group is None or not (yield from choose_member(decision, workflow_id, record, group, ref_id)):
        return refuse(f"stage {ref_id!r} is not offered now")
    return accept(decision, snapshot, event_id, f"chose {ref_id!r}")


def skip_stage(workflow_id: str, event_id: str, ref_id: str) -> Asking:
    """Lets the thread go on without (the rest of) the work: the stage is bypassed (wcp 1.2)."""
    told = f"skipped stage {ref_id!r}"
    return (yield from _on_live_runs(workflow_id, event_id, ref_id, told, _skip_run, lambda _: True))


def complete_instances(workflow_id: str, event_id: str, ref_id: str) -> Asking:
    """WCP-27. Ends a multi-instance stage early: open instances are withdrawn, the thread goes on."""
    told = f"completed {ref_id!r} early"
    return (yield from _on_live_runs(workflow_id, event_id, ref_id, told, _complete_run, _has_instances_at_work))


def add_instances(
    workflow_id: str,
    event_id: str,
    ref_id: str,
    count: int,
    context: dict[str, Any] | None = None,
    *,
    run: int | None = None,
) -> Asking:
    """WCP-15. Adds instances while the thread has not gone on and one is unfinished; `context`: names they see.

    To the first run that takes more, or to the one of that number only: an instance that asks means its own.
    """
    snapshot, frame, crowd = yield from _run_with_instances(workflow_id, ref_id, run)
    if (before := known(snapshot, event_id)) is not None:
        return before
    config = frame.plan.instances if frame else None
    if frame is None or config is None or not config.is_dynamic:
        return refuse(f"stage {ref_id!r} has no run at work that takes more instances")
    if not 1 <= count <= MAX_INSTANCES:
        return refuse(f"{count} instances can't be added; add 1 to {MAX_INSTANCES} at once")
    total = crowd.total
    if not total:
        return refuse(f"the instances of {ref_id!r} have not begun yet; ask again when they have")
    if not crowd.is_open:
        return refuse(f"the instances of {ref_id!r} are closed: {crowd.ended} of {total} have ended")
    decision = Decision()
    extras = {index: context or {} for index in range(total, total + count)}
    seen = {f"x:{index}": pack(extra) for index, extra in extras.items() if extra}
    decision.change(SetFields(places.instances(frame.thread), {"total": total + count, "judged": crowd.judged, **seen}))
    begin_waiting(decision, frame, replace(crowd, total=total + count, extras={**crowd.extras, **extras}))
    return accept(decision, snapshot, event_id, f"added {count} to {total} instances")


def _run_with_instances(
    workflow_id: str, ref_id: str, number: int | None
) -> Generator[Read, Snapshot, tuple[Snapshot, Frame | None, Crowd]]:
    """Return the first run at work that takes more instances, else the first at work, with what is known of them."""
    live, started = Members(places.LIVE), Items(places.started(ref_id))
    snapshot = yield Read(
        (RECORD, EVENT_IDS, live, started, stage_fields(ref_id)),
        (places.WORKFLOW, places.OUTSIDE_EVENTS, places.LIVE),
    )
    if not workflow_of(snapshot).is_live or not snapshot[stage_fields(ref_id)]:
        return snapshot, None, Crowd()
    numbered = enumerate(snapshot[started], 1)
    threads = [thread for at, thread in numbered if thread in snapshot[live] and number in (None, at)]
    totals, counts = (
        {thread: Hash(place(thread)) for thread in threads} for place in (places.instances, places.instance_counts)
    )
    runs = {thread: Hash(places.run(thread)) for thread in threads}
    queries = (*runs.values(), *totals.values(), *counts.values())
    found = yield Read(queries, tuple(query.key for query in queries))
    at_work: list[tuple[Frame, Crowd]] = []
    for thread in threads:
        frame = _frame(workflow_id, snapshot, ref_id, thread, RUN.decode(found[runs[thread]]))
        crowd = yield from as_found_by_addition(frame, Crowd.of(found[totals[thread]], found[counts[thread]]))
        at_work.append((frame, crowd))
        if crowd.is_open:
            return snapshot, frame, crowd
    return (snapshot, *at_work[0]) if at_work else (snapshot, None, Crowd())


def _has_instances_at_work(run: Run) -> bool:
    return run.phase == "instances"


def _complete_run(frame: Frame, entry: Entry) -> Asking:
    if not _has_instances_at_work(frame.run):
        return refuse(f"no instance of stage {frame.plan.ref!r} is at work")
    totals = Hash(places.instances(frame.thread))
    total = Crowd.of((yield Read((totals,), (totals.key,)))[totals], {}).total
    instances = yield from read_instances(frame, range(total))
    ended = {thread: item for thread, item in instances.items() if item[0].is_ended}
    frame.run = msgspec.structs.replace(frame.run, outputs=outputs_after(frame, ended))
    decision = yield from end_work(frame, "SUCCEEDED", "completed from outside", entry)
    set_run(decision, frame.thread, outputs=frame.run.outputs)
    return decision


def _skip_run(frame: Frame, entry: Entry) -> Asking:
    """Bypass a run; of an offer that is a choice: there is one thread for all its members."""
    offer, group = frame.run.offer, frame.plan.choice_group
    if not offer or group is None:
        return (yield from complete_run(frame, "SKIPPED", "skipped from outside", entry))
    frame.run = msgspec.structs.replace(frame.run, offer="")
    decision = yield from complete_run(frame, "SKIPPED", "skipped from outside", entry)
    set_run(decision, frame.thread, offer="")
    yield from close_offer(decision, frame.workflow_id, frame.workflow, group, frame.plan.ref, offer)
    return decision


def _on_live_runs(
    workflow_id: str,
    event_id: str,
    ref_id: str,
    told: str,
    end: Callable[[Frame, Entry], Asking],
    suits: Callable[[Run], bool],
) -> Asking:
    """Apply `end` to the oldest live run of a stage, of those that suit if any does. More than one run, more events."""
    live, box_key = Members(places.LIVE), places.signals(ref_id)
    snapshot = yield Read(
        (RECORD, EVENT_IDS, live, Hash(box_key), stage_fields(ref_id), zone_fields(ref_id)),
        (places.WORKFLOW, places.OUTSIDE_EVENTS, places.LIVE, box_key),
    )
    if (before := known(snapshot, event_id)) is not None:
        return before
    record = workflow_of(snapshot)
    if not record.is_live:
        return refuse(f"the workflow has ended {record.status}")
    if not snapshot[stage_fields(ref_id)]:
        return refuse(f"the workflow has no stage {ref_id!r}")
    found = yield from _oldest_run(sorted(snapshot[live]), ref_id, suits)
    if found is None:
        return refuse(f"no run of stage {ref_id!r} is enabled or at work")
    thread, run, entry = found
    frame = _frame(workflow_id, snapshot, ref_id, thread, run)
    decision = yield from end(frame, entry)
    if decision.call is not None:
        return decision
    yield from withdraw_instances(decision, frame, told)
    forget_waiters(decision, ref_id, SIGNALS.decode(snapshot.hash(box_key)), thread)
    return accept(decision, snapshot, event_id, told)


def _frame(workflow_id: str, snapshot: Snapshot, ref_id: str, thread: str, run: Run) -> Frame:
    fields = snapshot[stage_fields(ref_id)]
    context = {**unpack(fields[f"x:{ref_id}"]), **run.context}
    zone = {name: int(count) for name, count in snapshot.get(zone_fields(ref_id), {}).items()}
    plan = decode_plan(fields[f"s:{ref_id}"])
    return Frame(workflow_id, snapshot.now_us, workflow_of(snapshot), plan, thread, run, context, zone)


def _entry_key(thread: str, run: Run) -> str:
    return places.ledger(run_name(thread, None, run.task_index))


def _oldest_run(
    live: list[str], ref_id: str, suits: Callable[[Run], bool]
) -> Generator[Read, Snapshot, tuple[str, Run, Entry] | None]:
    keys = {thread: Hash(places.run(thread)) for thread in live}
    snapshot = yield Read(tuple(keys.values()))
    runs = {thread: RUN.decode(snapshot[key]) for thread, key in keys.items()}
    of_stage = [thread for thread, run in runs.items() if run.ref == ref_id and run.instance is None]
    if not of_stage:
        return None
    thread = min(of_stage, key=lambda thread: (not suits(runs[thread]), runs[thread].created_us, thread))
    run, entry_key = keys[thread], _entry_key(thread, runs[thread])
    again = yield Read((run, Hash(entry_key)), (run.key, entry_key))
    return thread, RUN.decode(again[run]), ENTRY.decode(again.hash(entry_key))
