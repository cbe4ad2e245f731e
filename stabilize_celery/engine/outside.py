"""Outside events: what a client may ask of a workflow (wcp 4.4; PROTOCOL 9, 10).

Units of work of the caller: no ledger entry, an event id instead. Each is a generator like a handler; its decision's
`call` is an `Answer`: whether it took effect, and in words why or why not. Asking again with the same id gives the
same answer and changes nothing.
"""

from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.answers import EVENT_IDS, RECORD, Answer, Asking, accept, known, opening_of, refuse
from stabilize_celery.engine.endings import (
    finish_workflow,
)
from stabilize_celery.engine.handler import stage_fields, workflow_of
from stabilize_celery.engine.moves import (
    set_run,
)
from stabilize_celery.engine.outside_runs import (
    add_instances,
    cancel_region,
    cancel_stage,
    choose,
    complete_instances,
    skip_stage,
)
from stabilize_celery.engine.state import (
    ENTRY,
    RUN,
    SIGNALS,
    WORKFLOW_RECORD,
    KeptSignal,
    SignalBox,
    Waiter,
)
from stabilize_celery.engine.steps import (
    Decision,
    Event,
    Hash,
    Index,
    Owed,
    Read,
    SetFields,
    Snapshot,
)
from stabilize_celery.engine.telling import whose
from stabilize_celery.models.messages import ResumeParked, RunTask

__all__ = [
    "MAX_KEPT_SIGNALS",
    "Answer",
    "add_instances",
    "cancel",
    "cancel_region",
    "cancel_stage",
    "choose",
    "complete_instances",
    "pause",
    "resume",
    "signal",
    "skip_stage",
]

MAX_KEPT_SIGNALS = 1000


def cancel(workflow_id: str, event_id: str, reason: str, user: str) -> Asking:
    """WCP-20. Ends the workflow CANCELED; refused once it has ended."""
    snapshot = yield opening_of()
    if (before := known(snapshot, event_id)) is not None:
        return before
    record = workflow_of(snapshot)
    if not record.is_live:
        return refuse(f"it has ended {record.status} already")
    decision = Decision()
    finish_workflow(
        decision, workflow_id, record, "CANCELED", snapshot.now_ms, reason=reason or "cancelled", canceled_by=user
    )
    return accept(decision, snapshot, event_id, "cancelled")


def pause(_workflow_id: str, event_id: str, user: str) -> Asking:
    """Hold back what would begin work; what runs goes on to its end."""
    snapshot = yield opening_of()
    if (before := known(snapshot, event_id)) is not None:
        return before
    record = workflow_of(snapshot)
    if record.status != "RUNNING":
        return refuse(f"it is {record.status}; only a RUNNING workflow can be paused")
    decision = Decision(events=[Event("workflow.paused", "", {"by": user})])
    values = WORKFLOW_RECORD.encode(status="PAUSED", paused_at_ms=snapshot.now_ms, paused_by=user)
    decision.change(SetFields(places.WORKFLOW, values))
    decision.change(Index(record.application, record.name, record.started_ms, "PAUSED", was=record.status))
    return accept(decision, snapshot, event_id, "paused")


def resume(workflow_id: str, event_id: str) -> Asking:
    """Go on after a pause."""
    snapshot = yield opening_of()
    if (before := known(snapshot, event_id)) is not None:
        return before
    record = workflow_of(snapshot)
    if record.status != "PAUSED":
        return refuse(f"it is {record.status}, not PAUSED")
    paused_ms = record.paused_ms + snapshot.now_ms - record.paused_at_ms
    decision = Decision(events=[Event("workflow.resumed")])
    values = WORKFLOW_RECORD.encode(status="RUNNING", paused_ms=paused_ms, paused_at_ms=0, paused_by="")
    decision.change(SetFields(places.WORKFLOW, values))
    decision.change(Index(record.application, record.name, record.started_ms, "RUNNING", was=record.status))
    decision.owes.append(Owed(ResumeParked(workflow_id=workflow_id)))
    return accept(decision, snapshot, event_id, "resumed")


def signal(
    workflow_id: str,
    event_id: str,
    ref_id: str,
    name: str,
    payload: Any,
    *,
    transient: bool = False,
    instance: int | None = None,
) -> Asking:
    """WCP-23, WCP-24. Wakes exactly one waiter; kept if nobody waits, unless it is transient (wcp 1.12).

    The started run with the lowest number, in it the lowest instance, or the one given by `instance`.
    """
    box_key = places.signals(ref_id)
    snapshot = yield Read(
        (RECORD, EVENT_IDS, Hash(box_key), stage_fields(ref_id)),
        (places.WORKFLOW, places.OUTSIDE_EVENTS, box_key),
    )
    if (before := known(snapshot, event_id)) is not None:
        return before
    if not workflow_of(snapshot).is_live:
        return refuse(f"the workflow has ended {workflow_of(snapshot).status}")
    if not snapshot[stage_fields(ref_id)]:
        return refuse(f"the workflow has no stage {ref_id!r}")
    box = SIGNALS.decode(snapshot.hash(box_key))
    waiters = sorted(
        (w for w in box.waiters if w.name in ("", name) and instance in (None, w.instance)),
        key=lambda waiter: (waiter.order, waiter.instance or 0),
    )
    if waiters:
        return (yield from _wake(workflow_id, event_id, snapshot, box, waiters[0], ref_id, KeptSignal(name, payload)))
    if transient:
        return refuse(f"nobody waits for signal {name!r} at stage {ref_id!r}, and it is transient")
    if len(box.kept) >= MAX_KEPT_SIGNALS:
        return refuse(f"stage {ref_id!r} keeps {MAX_KEPT_SIGNALS} unused signals already")
    decision = Decision(events=[Event("stage.signal_kept", ref_id, {"signal": name})])
    kept = [*box.kept, KeptSignal(name, payload, instance)]
    decision.change(SetFields(box_key, SIGNALS.encode(kept=kept)))
    return accept(decision, snapshot, event_id, f"kept: nobody waits for {name!r} yet")


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
    rest = [other for other in box.waiters if other != waiter]
    decision = Decision(events=[Event("stage.signaled", ref_id, {"signal": sent.name, **whose(waiter.thread)})])
    decision.change(SetFields(places.signals(ref_id), SIGNALS.encode(waiters=rest)))
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
    return accept(decision, snapshot, event_id, f"woke run of {ref_id!r}")
