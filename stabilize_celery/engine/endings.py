"""How runs and workflows end, and what they give back (wcp 1.3, 1.7, 1.10; PROTOCOL 4.3, 8, 10).

Every function adds to a `Decision`; none reads.
"""

from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.hooks import owe_cancel
from stabilize_celery.engine.ids import narrowed
from stabilize_celery.engine.moves import (
    GOES_ON,
    STAGE_TIMEOUT,
    SYNTHETIC_PHASES,
    Frame,
    Zone,
    owe_continuation,
    set_run,
    stamp_of,
    tell_status,
)
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.rooms import count_kept, leave, owe_leaving, owe_look_at_slot
from stabilize_celery.engine.state import ENTRY, WORKFLOW_RECORD, Entry, Room, Run, WorkflowRecord
from stabilize_celery.engine.steps import (
    Append,
    Decision,
    DeleteFields,
    Event,
    Index,
    Owed,
    Remove,
    SetFields,
)
from stabilize_celery.models.messages import (
    CancelSubWorkflow,
    ClearWorkflow,
    ExpireWorkflow,
    FinalizeStage,
    NotifyParent,
    ReleaseLock,
    run_name,
    timer_name,
)

__all__ = ["end_code", "end_run", "finish_workflow", "lock_name", "owe_expiry", "release_lock", "release_slot"]


def end_run(decision: Decision, frame: Frame, status: str, reason: str = "", entry: Entry | None = None) -> int:
    """Give a run its final status and take away all that it owes or holds. Returns its share of `act`: -1.

    An instance has none: it is part of its run.

    `entry`: the ledger entry of its current task, where the caller has read and WATCHed it: code that still runs in
    it keeps the locks that cover it until it returns (PROTOCOL 4.3).
    """
    run, plan, thread = frame.run, frame.plan, frame.thread
    is_busy = entry is not None and bool(entry.own) and frame.is_guarded
    values: dict[str, Any] = {"status": status, "ended_ms": frame.now_ms, "waits": ""}
    if reason:
        values["reason"] = reason
    if run.outputs:
        values["wrote_us"] = stamp_of(frame)
    if is_busy:
        values["code_runs"] = True
        task = run_name(thread, None, run.task_index)
        decision.change(SetFields(places.ledger(task), ENTRY.encode(cx=True)))
    decision.change(Remove(places.LIVE, (thread,)))
    if run.instance is None and not run.passed_on:
        Zone.of(plan).count(decision, -1)
    if not run.has_started:
        decision.change(Append(places.bypassed(plan.ref), thread))
    if run.held_for:
        decision.change(DeleteFields(places.milestone_waiters(run.held_for), (thread,)))
    _forget_messages(decision, frame, keep_task=is_busy or run.code_runs)
    values |= _give_back(decision, frame, code_runs=is_busy or run.code_runs)
    if run.child and run.sub is None:
        kill = CancelSubWorkflow(workflow_id=frame.workflow_id, thread=thread, child_id=run.child)
        decision.owes.append(Owed(kill))
    if run.phase in SYNTHETIC_PHASES:
        owe_continuation(decision, frame.workflow_id, plan.ref, thread)
    owe_cancel(decision, frame, status, entry)
    if run.instance is None and _wants_to_finalize(frame, status):
        final = FinalizeStage(workflow_id=frame.workflow_id, ref_id=plan.ref, thread=thread)
        decision.owes.append(Owed(final))
    set_run(decision, thread, **values)
    told: dict[str, Any] = (
        {"thread": thread} if run.instance is None else {"thread": run.parent, "instance": run.instance}
    )
    kind = "stage" if run.instance is None else "instance"
    decision.events.append(Event(f"{kind}.{_ENDINGS[status]}", plan.ref, told | ({"reason": reason} if reason else {})))
    tell_status(decision, frame.workflow_id, plan)
    return 0 if run.instance is not None or run.offer or run.held_for else -1


def _wants_to_finalize(frame: Frame, status: str) -> bool:
    plan = frame.plan
    cleans_up = plan.cleanup_on_failure and status not in GOES_ON
    return frame.run.has_started and (bool(plan.finalizers) or cleans_up)


_ENDINGS = {
    "SUCCEEDED": "completed",
    "FAILED_CONTINUE": "failed_continue",
    "SKIPPED": "skipped",
    "STOPPED": "stopped",
    "TERMINAL": "failed",
    "CANCELED": "canceled",
}


def _forget_messages(decision: Decision, frame: Frame, *, keep_task: bool) -> None:
    """Forget what the run may owe. What it can't owe, as far as was read of it under WATCH, costs nothing."""
    thread, run = frame.thread, frame.run
    decision.forgets.append(f"Done:{thread}")
    if not run.has_started:
        decision.forgets.append(f"Start:{thread}")
    elif STAGE_TIMEOUT in frame.context or STAGE_TIMEOUT in run.context:
        decision.forgets.append(timer_name("stage", thread))
    if run.offer:
        decision.forgets.append(f"Choose:{thread}")
    if run.child:
        decision.forgets.append(f"Child:{thread}")
    if _has_company(frame):
        decision.forgets.append(f"Continue:{thread}")
    if run.has_started and run.tasks and not _has_worked(run):
        decision.forgets += [timer_name(scope, thread, None, run.task_index) for scope in ("task", "wait")]
        if not keep_task:
            decision.forgets.append(run_name(thread, None, run.task_index))


def _has_worked(run: Run) -> bool:
    """Return whether the run's task has ended well: the commit that recorded it has forgotten what it owed."""
    is_over = run.task_index < len(run.tasks) and run.tasks[run.task_index].status in GOES_ON
    return is_over and not run.outcome and not run.held


def _give_back(decision: Decision, frame: Frame, *, code_runs: bool) -> dict[str, Any]:
    """Leave the rooms that an ending run is in, and give its own lock back, as far as nothing executes any more."""
    if frame.run.lock == "held" and _has_company(frame):
        count_kept(decision, 1)
    if code_runs:
        count_kept(decision, 1)
        return {}
    leave(decision, frame.workflow_id, frame.run.rooms)
    return _give_lock_back(decision, frame)


def end_code(decision: Decision, frame: Frame) -> None:
    """Give back what was kept for the code of an ended run: it has returned, or its worker is given up."""
    count_kept(decision, -1)
    owe_look_at_slot(decision, frame.workflow_id, frame.workflow)
    leave(decision, frame.workflow_id, frame.run.rooms)
    set_run(decision, frame.thread, code_runs=False, **_give_lock_back(decision, frame))


def _give_lock_back(decision: Decision, frame: Frame) -> dict[str, Any]:
    if frame.run.lock not in ("requested", "held"):
        return {}
    if frame.run.lock == "held" and _has_company(frame):
        owe_leaving(decision, frame.workflow_id, Room(frame.thread, frame.plan.ref))
        return {}
    release_lock(decision, frame)
    return {"lock": "done"}


def _has_company(frame: Frame) -> bool:
    """Return whether a run's lock may cover other runs, too: its instances, the stages before and after it."""
    planned = (*SYNTHETIC_PHASES, "instances")
    return bool(frame.plan.before or frame.plan.after) or any(frame.run.planned.get(kind) for kind in planned)


def release_lock(decision: Decision, frame: Frame) -> None:
    """Owe the give-back of a run's mutex, and no longer its request."""
    run, plan = frame.run, frame.plan
    decision.forgets.append(f"Lock:{frame.thread}#{run.request}")
    if plan.is_bare:
        # Which mutex it was can't be read any more: whoever waits for it audits its holder, and finds this run ended.
        return
    message = ReleaseLock(
        workflow_id=frame.workflow_id,
        ref_id=plan.ref,
        thread=frame.thread,
        request=run.request,
        lock=lock_name(plan, frame.workflow_id),
    )
    decision.owes.append(Owed(message))


def lock_name(plan: StagePlan, workflow_id: str) -> str:
    """Return the full name of a stage's mutex: scope, then what the scope names, then the key."""
    if plan.mutex_scope == "WORKFLOW":
        return narrowed("WORKFLOW", workflow_id, str(plan.mutex_key))
    if plan.mutex_scope == "APPLICATION":
        return narrowed("APPLICATION", plan.application, str(plan.mutex_key))
    return f"GLOBAL:{plan.mutex_key}"


def finish_workflow(
    decision: Decision,
    workflow_id: str,
    record: WorkflowRecord,
    status: str,
    now_ms: int,
    *,
    reason: str = "",
    is_empty: bool = False,
    kept: int = 0,
    **more: Any,
) -> None:
    """End a workflow. Unless `is_empty`, what still lives in it is cleared by an owed message.

    Its slot of its pipeline is given back when nothing of it executes any more: now, or by who is the last. `kept`: how
    much of an empty workflow its end does not end (count), such as code that still runs.
    """
    values = {"status": status, "ended_ms": now_ms, "reason": reason, "is_settled": is_empty, **more}
    decision.change(SetFields(places.WORKFLOW, WORKFLOW_RECORD.encode(**values)))
    if record.lock_state == "requested" or (record.lock_state == "held" and is_empty and not kept):
        release_slot(decision, workflow_id, record)
    decision.change(Index(record.application, record.name, record.started_ms, status, now_ms, record.status))
    decision.forgets += ["TO:workflow", "Unpark", *(["Begin"] if record.lock else [])]
    if is_empty:
        owe_expiry(decision, workflow_id, now_ms + record.retention_ms)
    else:
        decision.owes.append(Owed(ClearWorkflow(workflow_id=workflow_id)))
    if record.parent_id:
        decision.owes.append(Owed(NotifyParent(workflow_id=workflow_id)))
    decision.events.append(Event(f"workflow.{status.lower()}", "", {"reason": reason} if reason else {}))


def release_slot(decision: Decision, workflow_id: str, record: WorkflowRecord) -> None:
    """Owe the give-back of a workflow's slot of its pipeline, and no longer its request."""
    decision.change(SetFields(places.WORKFLOW, WORKFLOW_RECORD.encode(lock_state="done")))
    request = record.restarts
    lock = ReleaseLock(workflow_id=workflow_id, ref_id="", thread="", request=request, lock=record.lock)
    decision.owes.append(Owed(lock))


def owe_expiry(decision: Decision, workflow_id: str, at_ms: int) -> None:
    """Owe the deletion of an ended workflow at the end of its retention."""
    decision.owes.append(Owed(ExpireWorkflow(workflow_id=workflow_id), at_ms))
