"""Outside events: what a client may ask of a workflow (wcp 4.4; PROTOCOL 9, 10).

Units of work of the caller: no ledger entry, an event id instead. Each is a generator like a handler; its decision's
`call` is an `Answer`: whether it took effect, and in words why or why not. Asking again with the same id gives the
same answer and changes nothing.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.completion import complete_run
from stabilize_celery.engine.handler import stage_fields, workflow_of, zone_fields
from stabilize_celery.engine.moves import Frame, finish_workflow, set_run
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.state import (
    ENTRY,
    RUN,
    SIGNALS,
    WORKFLOW_RECORD,
    Entry,
    KeptSignal,
    Run,
    SignalBox,
    Waiter,
)
from stabilize_celery.engine.steps import (
    Decision,
    Event,
    Hash,
    Index,
    Members,
    Owed,
    Read,
    SetFields,
    Snapshot,
)
from stabilize_celery.engine.waiters import forget_waiters
from stabilize_celery.models.messages import ResumeParked, RunTask, run_name

__all__ = ["MAX_KEPT_SIGNALS", "Answer", "cancel", "cancel_stage", "pause", "resume", "signal", "skip_stage"]

MAX_KEPT_SIGNALS = 1000
MAX_EVENT_IDS = 1000

_RECORD = Hash(places.WORKFLOW)
_EVENT_IDS = Hash(places.OUTSIDE_EVENTS)


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether an outside event took effect, and what happened or why not, in words."""

    took_effect: bool
    told: str


Asking: TypeAlias = Generator[Read, Snapshot, Decision]


def _refuse(told: str) -> Decision:
    return Decision(keeps_entry=True, call=Answer(False, told))


def _accept(decision: Decision, snapshot: Snapshot, event_id: str, told: str) -> Decision:
    decision.keeps_entry = True
    decision.call = Answer(True, told)
    if len(snapshot[_EVENT_IDS]) < MAX_EVENT_IDS:
        decision.change(SetFields(places.OUTSIDE_EVENTS, {event_id: told}))
    return decision


def _opening(*keys: str) -> Read:
    return Read((_RECORD, _EVENT_IDS, *map(Hash, keys)), (places.WORKFLOW, places.OUTSIDE_EVENTS, *keys))


def _known(snapshot: Snapshot, event_id: str) -> Decision | None:
    record = workflow_of(snapshot)
    if not record.exists:
        return _refuse("there is no such workflow")
    if event_id in snapshot[_EVENT_IDS]:
        return Decision(keeps_entry=True, call=Answer(True, snapshot[_EVENT_IDS][event_id].decode()))
    return None


def cancel(workflow_id: str, event_id: str, reason: str, user: str) -> Asking:
    """WCP-20. Ends the workflow CANCELED; refused once it has ended."""
    snapshot = yield _opening()
    if (known := _known(snapshot, event_id)) is not None:
        return known
    record = workflow_of(snapshot)
    if not record.is_live:
        return _refuse(f"it has ended {record.status} already")
    decision = Decision()
    finish_workflow(
        decision, workflow_id, record, "CANCELED", snapshot.now_ms, reason=reason or "cancelled", canceled_by=user
    )
    return _accept(decision, snapshot, event_id, "cancelled")


def pause(_workflow_id: str, event_id: str, user: str) -> Asking:
    """Hold back what would begin work; what runs goes on to its end."""
    snapshot = yield _opening()
    if (known := _known(snapshot, event_id)) is not None:
        return known
    record = workflow_of(snapshot)
    if record.status != "RUNNING":
        return _refuse(f"it is {record.status}; only a RUNNING workflow can be paused")
    decision = Decision(events=[Event("workflow.paused", "", {"by": user})])
    values = WORKFLOW_RECORD.encode(status="PAUSED", paused_at_ms=snapshot.now_ms, paused_by=user)
    decision.change(SetFields(places.WORKFLOW, values))
    decision.change(Index(record.application, record.name, record.started_ms, "PAUSED"))
    return _accept(decision, snapshot, event_id, "paused")


def resume(workflow_id: str, event_id: str) -> Asking:
    """Go on after a pause."""
    snapshot = yield _opening()
    if (known := _known(snapshot, event_id)) is not None:
        return known
    record = workflow_of(snapshot)
    if record.status != "PAUSED":
        return _refuse(f"it is {record.status}, not PAUSED")
    paused_ms = record.paused_ms + snapshot.now_ms - record.paused_at_ms
    decision = Decision(events=[Event("workflow.resumed")])
    values = WORKFLOW_RECORD.encode(status="RUNNING", paused_ms=paused_ms, paused_at_ms=0, paused_by="")
    decision.change(SetFields(places.WORKFLOW, values))
    decision.change(Index(record.application, record.name, record.started_ms, "RUNNING"))
    decision.owes.append(Owed(ResumeParked(workflow_id=workflow_id)))
    return _accept(decision, snapshot, event_id, "resumed")


def signal(
    workflow_id: str,
    event_id: str,
    ref_id: str,
    name: str,
    payload: Any,
    *,
    transient: bool = False,
) -> Asking:
    """WCP-23, WCP-24. Wakes exactly one waiter; kept if nobody waits, unless it is transient (wcp 1.12)."""
    box_key = places.signals(ref_id)
    snapshot = yield Read(
        (_RECORD, _EVENT_IDS, Hash(box_key), stage_fields(ref_id)),
        (places.WORKFLOW, places.OUTSIDE_EVENTS, box_key),
    )
    if (known := _known(snapshot, event_id)) is not None:
        return known
    if not workflow_of(snapshot).is_live:
        return _refuse(f"the workflow has ended {workflow_of(snapshot).status}")
    if not snapshot[stage_fields(ref_id)]:
        return _refuse(f"the workflow has no stage {ref_id!r}")
    box = SIGNALS.decode(snapshot.hash(box_key))
    waiters = sorted(
        (waiter for waiter in box.waiters if waiter.name in ("", name)),
        key=lambda waiter: (waiter.order, waiter.instance or 0),
    )
    if waiters:
        return (yield from _wake(workflow_id, event_id, snapshot, box, waiters[0], ref_id, KeptSignal(name, payload)))
    if transient:
        return _refuse(f"nobody waits for signal {name!r} at stage {ref_id!r}, and it is transient")
    if len(box.kept) >= MAX_KEPT_SIGNALS:
        return _refuse(f"stage {ref_id!r} keeps {MAX_KEPT_SIGNALS} unused signals already")
    decision = Decision(events=[Event("stage.signal_kept", ref_id, {"signal": name})])
    kept = [*box.kept, KeptSignal(name, payload)]
    decision.change(SetFields(box_key, SIGNALS.encode(kept=kept)))
    return _accept(decision, snapshot, event_id, f"kept: nobody waits for {name!r} yet")


def _wake(
    workflow_id: str,
    event_id: str,
    snapshot: Snapshot,
    box: SignalBox,
    waiter: Waiter,
    ref_id: str,
    sent: KeptSignal,
) -> Asking:
    run_key = places.run(waiter.thread)
    run = RUN.decode((yield Read((Hash(run_key),), (run_key,))).hash(run_key))
    decision = Decision(events=[Event("stage.signaled", ref_id, {"signal": sent.name})])
    forget_waiters(decision, ref_id, box, waiter.thread)
    set_run(decision, waiter.thread, status="RUNNING", waits="", signal=sent.name, payload=sent.payload)
    message = RunTask(
        workflow_id=workflow_id,
        ref_id=ref_id,
        thread=waiter.thread,
        task_index=waiter.task_index,
        task_type=waiter.task_type,
    )
    decision.owes.append(Owed(message, fields=ENTRY.encode(att=run.att), queue=waiter.queue))
    decision.forgets.append(f"TO:wait:{waiter.thread}..{waiter.task_index}")
    return _accept(decision, snapshot, event_id, f"woke run of {ref_id!r}")


def cancel_stage(workflow_id: str, event_id: str, ref_id: str) -> Asking:
    """WCP-19. Takes away the threads that are in a stage now; a stage without one is not affected."""
    told = f"cancelled stage {ref_id!r}"
    return (yield from _on_live_runs(workflow_id, event_id, ref_id, told, _cancel_run))


def skip_stage(workflow_id: str, event_id: str, ref_id: str) -> Asking:
    """Lets the thread go on without (the rest of) the work: the stage is bypassed (wcp 1.2)."""
    told = f"skipped stage {ref_id!r}"
    return (yield from _on_live_runs(workflow_id, event_id, ref_id, told, _skip_run))


def _cancel_run(frame: Frame, entry: Entry) -> Asking:
    return (yield from complete_run(frame, "CANCELED", "cancelled from outside", entry))


def _skip_run(frame: Frame, entry: Entry) -> Asking:
    return (yield from complete_run(frame, "SKIPPED", "skipped from outside", entry))


def _on_live_runs(
    workflow_id: str, event_id: str, ref_id: str, told: str, end: Callable[[Frame, Entry], Asking]
) -> Asking:
    """Apply `end` to the oldest live run of a stage. More than one run is more than one event."""
    live, box_key = Members(places.LIVE), places.signals(ref_id)
    snapshot = yield Read(
        (_RECORD, _EVENT_IDS, live, Hash(box_key), stage_fields(ref_id), zone_fields(ref_id)),
        (places.WORKFLOW, places.OUTSIDE_EVENTS, places.LIVE, box_key),
    )
    if (known := _known(snapshot, event_id)) is not None:
        return known
    record = workflow_of(snapshot)
    if not record.is_live:
        return _refuse(f"the workflow has ended {record.status}")
    if not snapshot[stage_fields(ref_id)]:
        return _refuse(f"the workflow has no stage {ref_id!r}")
    found = yield from _oldest_run(sorted(snapshot[live]), ref_id)
    if found is None:
        return _refuse(f"no run of stage {ref_id!r} is enabled or at work")
    thread, run, entry = found
    fields = snapshot[stage_fields(ref_id)]
    context = {**unpack(fields[f"x:{ref_id}"]), **run.context}
    zone = {name: int(count) for name, count in snapshot[zone_fields(ref_id)].items()}
    plan = decode_plan(fields[f"s:{ref_id}"])
    frame = Frame(workflow_id, snapshot.now_us, record, plan, thread, run, context, zone)
    decision = yield from end(frame, entry)
    forget_waiters(decision, ref_id, SIGNALS.decode(snapshot.hash(box_key)), thread)
    return _accept(decision, snapshot, event_id, told)


def _entry_key(thread: str, run: Run) -> str:
    return places.ledger(run_name(thread, None, run.task_index))


def _oldest_run(live: list[str], ref_id: str) -> Generator[Read, Snapshot, tuple[str, Run, Entry] | None]:
    keys = {thread: Hash(places.run(thread)) for thread in live}
    snapshot = yield Read(tuple(keys.values()))
    runs = {thread: RUN.decode(snapshot[key]) for thread, key in keys.items()}
    of_stage = [(r.created_us, thread) for thread, r in runs.items() if r.ref == ref_id and r.instance is None]
    if not of_stage:
        return None
    thread = min(of_stage)[1]
    run, entry_key = keys[thread], _entry_key(thread, runs[thread])
    again = yield Read((run, Hash(entry_key)), (run.key, entry_key))
    return thread, RUN.decode(again[run]), ENTRY.decode(again.hash(entry_key))
