"""StartStage: begin the work of an enabled run, or hold it for its mutex (wcp 1.7; PROTOCOL 8 Start).

Pure. In order: not before its scheduled time; skipped if its expiry has passed; held (BUFFERED) for its milestone, and
while it asks for its mutex; else started, or bypassed if `stageEnabled` says so now.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.completion import complete_run
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields, zone_fields
from stabilize_celery.engine.milestones import HOLDS, WAITS, hold, milestone_verdict, withdraw
from stabilize_celery.engine.moves import (
    Frame,
    count_moves,
    set_run,
    tell_status,
)
from stabilize_celery.engine.sections import enter_section
from stabilize_celery.engine.starting import reason_to_skip, start_or_bypass
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import (
    Decision,
    Event,
    Handling,
    Hash,
    Owed,
    Read,
    SetFields,
    Snapshot,
)
from stabilize_celery.models.messages import AcquireLock, StartStage

__all__ = ["decide", "handle"]


def handle(message: StartStage, _rules: Rules, _attempt: int) -> Handling:
    """Decide whether and how the run starts."""
    run_key = places.run(message.thread)
    snapshot = yield opening(
        message, Hash(run_key), stage_fields(message.ref_id), zone_fields(message.ref_id), watch=[run_key]
    )
    if (early := guard(message, snapshot)) is not None:
        return early
    return (yield from decide(message, frame_of(message, snapshot, message.ref_id, message.thread)))


def decide(message: StartStage, frame: Frame) -> Handling:
    """Decide whether and how an enabled run starts."""
    if frame.run.status != "NOT_STARTED":
        return Decision(note=f"the run is {frame.run.status or 'gone'}")
    if (frame.plan.scheduled_ms or 0) > frame.now_ms:
        return _later(message, int(frame.plan.scheduled_ms or 0))
    if skip := reason_to_skip(frame):
        return (yield from complete_run(frame, "SKIPPED", skip))
    held, token = yield from _held_back(frame)
    if held is not None:
        return held
    return (yield from start_or_bypass(frame, **({"token": token} if token else {})))


def _later(message: StartStage, at_ms: int) -> Decision:
    decision = Decision(keeps_entry=True, note="not before its scheduled time")
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(nb=at_ms, pub=0)))
    decision.defers[message.name] = at_ms
    return decision


def _held_back(frame: Frame) -> Generator[Read, Snapshot, tuple[Decision | None, int]]:
    """Return the decision to hold the run for its milestone or its mutex; None, and its section's token, if not."""
    if frame.plan.milestone is not None:
        verdict = yield from milestone_verdict(frame.plan)
        if verdict != HOLDS:
            return _without_milestone(frame, verdict), 0
    if frame.plan.mutex_section:
        return (yield from enter_section(frame))
    return (_hold_for_lock(frame) if frame.plan.mutex_key is not None else None), 0


def _without_milestone(frame: Frame, verdict: str) -> Decision:
    decision = Decision(note=f"its milestone {verdict}")
    moves = hold(decision, frame) if verdict == WAITS else withdraw(decision, frame)
    count_moves(decision, frame.workflow_id, moves)
    return decision


def _hold_for_lock(frame: Frame) -> Decision:
    plan, thread = frame.plan, frame.thread
    decision = Decision(events=[Event("stage.buffered", plan.ref, {"thread": thread, "mutex_key": plan.mutex_key})])
    request = frame.run.request + 1
    set_run(decision, thread, status="BUFFERED", lock="requested", request=request)
    message = AcquireLock(workflow_id=frame.workflow_id, ref_id=plan.ref, thread=thread, request=request)
    decision.owes.append(Owed(message))
    tell_status(decision, frame.workflow_id, plan)
    return decision
