"""RunTask: claim a task attempt (PROTOCOL 4.1: the ledger entry is the lease).

Pure. Two units of work under one ledger entry: `handle` claims (`own`, `att` + 1, a lease), the runtime executes the
body, and `engine/results.py` records how that ended. Claims and results both raise `att`, so a result counts once.
"""

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import (
    Rules,
    entry_of,
    foreign,
    frame_of,
    frame_of_rest,
    guard,
    nothing,
    opening,
    stage_fields,
    workflow_of,
)
from stabilize_celery.engine.moves import Frame, task_list
from stabilize_celery.engine.results import (
    TaskReturned,
    after_the_end,
    after_the_outcome,
    deadline,
    end_attempt,
    position_of,
    set_task,
)
from stabilize_celery.engine.state import ENTRY, Entry, TaskState
from stabilize_celery.engine.steps import Decision, Event, Handling, Hash, Plan, SetFields, Snapshot
from stabilize_celery.engine.telling import whose
from stabilize_celery.models.messages import CancelTask, RunTask

__all__ = ["ClaimTerms", "ClaimedTask", "claim", "handle", "park"]


class ClaimTerms(msgspec.Struct, frozen=True):
    """Who claims, and what the task's type says.

    Args:
        timeout_ms: For all attempts of the task together; None: no limit.
        asks_timeout: It depends on the stage: the task's own code is asked (`Plan`, phase `timeout`).
        hooks: Which of `on_cancel`, `on_timeout` the type has.

    """

    owner: str
    max_lost: int
    timeout_ms: int | None = None
    asks_timeout: bool = False
    hooks: tuple[str, ...] = ()


class ClaimedTask(msgspec.Struct, frozen=True):
    """A committed claim: what the runtime needs to execute the body.

    `time_over`: why the task's time is over; not empty: its `on_timeout` is to be executed instead.
    """

    message: RunTask
    frame: Frame
    attempt: int
    lost: int
    run_number: int
    state: TaskState
    task_name: str
    time_over: str = ""


def handle(message: RunTask, rules: Rules, _attempt: int, terms: ClaimTerms | None = None) -> Handling:
    """Decide whether this delivery may execute the task's body."""
    run_key = places.run(message.thread)
    snapshot = yield opening(
        message,
        Hash(run_key),
        stage_fields(message.ref_id),
        position_of(message),
        watch=[run_key],
    )
    entry = entry_of(snapshot, message)
    if (early := _not_to_run(message, snapshot, entry)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    terms = terms or ClaimTerms("nobody", rules.max_lost)
    number = (snapshot[position_of(message)] or 0) + 1
    if entry.own == terms.owner:
        return _claimed_before(message, frame, entry, number)
    if entry.own:
        return nothing(f"claimed by {entry.own}")
    if entry.lost >= terms.max_lost:
        return _poisoned(message, frame, entry)
    if terms.asks_timeout and not frame.run.tasks[message.task_index].started_ms:
        limit = yield Plan("timeout", frame)
        if "error" in limit:
            return end_attempt(message, frame, entry, TaskReturned(entry.att, "TERMINAL", error=limit["error"]))
        terms = msgspec.structs.replace(terms, timeout_ms=limit.get("timeout_ms", terms.timeout_ms))
    return claim(message, frame, entry, rules, terms, number)


def _not_to_run(message: RunTask, snapshot: Snapshot, entry: Entry) -> Decision | None:
    """Return the decision for a delivery whose task is not to be executed now, whoever would."""
    workflow = workflow_of(snapshot)
    has_ended = entry.exists and workflow.exists and not workflow.is_live
    early = foreign(message, snapshot, entry) if has_ended else guard(message, snapshot)
    if early is not None:
        return early
    if has_ended:
        return after_the_end(frame_of_rest(message.workflow_id, snapshot, message.ref_id, message.thread), entry)
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.is_ended:
        return after_the_end(frame, entry)
    if frame.run.outcome:
        return after_the_outcome(frame, entry)
    if frame.run.status != "RUNNING" or frame.run.task_index != message.task_index:
        return Decision(note=f"the run is {frame.run.status}, at task {frame.run.task_index}")
    return None


def claim(message: RunTask, frame: Frame, entry: Entry, rules: Rules, terms: ClaimTerms, number: int) -> Decision:
    """Claim a task that waits for nothing; `number`: of its run among those of its stage, from 1."""
    task_name = task_list(frame.plan, frame.run.planned)[message.task_index].name
    before = frame.run.tasks[message.task_index]
    is_first = not before.started_ms
    state = msgspec.structs.replace(
        before,
        status="RUNNING",
        started_ms=before.started_ms or frame.now_ms,
        attempts=before.attempts + 1,
        hooks=terms.hooks,
        has_deadline=before.has_deadline or (is_first and terms.timeout_ms is not None),
        queue=entry.q if terms.hooks else "",
    )
    decision = Decision(keeps_entry=True)
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(own=terms.owner, att=entry.att + 1, parked="")))
    decision.defers[message.name] = frame.now_ms + rules.lease_ms
    set_task(decision, frame, message.task_index, state)
    if is_first and terms.timeout_ms is not None:
        decision.owes.append(deadline(message, "task", frame, frame.now_ms + terms.timeout_ms))
    told = {"task": task_name, "attempt": state.attempts, "worker": terms.owner.rsplit("/", 1)[0]}
    decision.events.append(Event("task.started", frame.plan.ref, told | whose(frame.thread)))
    decision.call = ClaimedTask(message, frame, entry.att + 1, entry.lost, number, state, task_name, entry.to)
    return decision


def _claimed_before(message: RunTask, frame: Frame, entry: Entry, number: int) -> Decision:
    """Go on with a claim whose EXEC was applied though its answer was lost."""
    task_name = task_list(frame.plan, frame.run.planned)[message.task_index].name
    state = frame.run.tasks[message.task_index]
    claimed = ClaimedTask(message, frame, entry.att, entry.lost, number, state, task_name, entry.to)
    return Decision(keeps_entry=True, call=claimed, note="claimed")


def _poisoned(message: RunTask, frame: Frame, entry: Entry) -> Decision:
    told = f"task {message.task_type!r} lost its worker {entry.lost} times in a row"
    told += f"; the last time: {entry.died}" if entry.died else ""
    lost = TaskReturned(entry.att, "TERMINAL", error={"type": "WorkerLost", "message": told})
    return end_attempt(message, frame, entry, lost)


def park(message: RunTask | CancelTask, reason: str, again_after_ms: int) -> Handling:
    """Decide to let a task rest whose type this worker does not know: visible, and tried again for ever."""
    snapshot = yield opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    entry = entry_of(snapshot, message)
    if entry.own:
        return nothing(f"claimed by {entry.own}")
    at_ms = snapshot.now_ms + again_after_ms
    decision = Decision(keeps_entry=True, note=reason)
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(parked=reason, nb=at_ms, pub=0)))
    decision.defers[message.name] = at_ms
    if entry.parked != reason:
        decision.events.append(Event("task.parked", message.ref_id, {"reason": reason, **whose(message.thread)}))
    return decision
