"""AcquireLock: get in line for a mutex and start the run once it holds it (PROTOCOL 8 Lock).

Pure. First come, first served; the grant stands in the lock's slot before anything else and is found again however
often this message comes. A waiter costs one look per 5 minutes: whoever releases nudges it. Who waits in a paused
workflow keeps its place in the line, and passes its turn on.
"""

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    lock_name,
    release_lock,
)
from stabilize_celery.engine.handler import Rules, frame_of, guard, nothing, opening, stage_fields, zone_fields
from stabilize_celery.engine.locks import Owner, give_back, is_granted, look_ms, request
from stabilize_celery.engine.milestones import HOLDS, milestone_verdict
from stabilize_celery.engine.moves import (
    Frame,
    set_run,
)
from stabilize_celery.engine.sections import open_section, section_thread
from stabilize_celery.engine.starting import start_or_bypass
from stabilize_celery.engine.state import ENTRY, Run
from stabilize_celery.engine.steps import Add, Decision, Event, Handling, Hash, Owed, SetFields, Snapshot
from stabilize_celery.engine.telling import whose
from stabilize_celery.models.messages import AcquireLock, StartStage

__all__ = ["handle"]


def handle(message: AcquireLock, rules: Rules, attempt: int) -> Handling:
    """Decide whether the run holds its mutex and starts."""
    run_key = places.run(message.thread)
    queries = (Hash(run_key), stage_fields(message.ref_id), zone_fields(message.ref_id))
    snapshot = yield opening(message, *queries, watch=[run_key])
    owner = Owner(message.workflow_id, message.thread, message.request)
    if attempt and snapshot[stage_fields(message.ref_id)]:
        frame = frame_of(message, snapshot, message.ref_id, message.thread)
        if not _is_wanted(frame.run, message):
            yield from give_back(lock_name(frame.plan, message.workflow_id), owner)
            return nothing("the lock may have been granted after its request was over: given back")
    if (early := guard(message, snapshot)) is not None:
        return (yield from _wait_for_resume(message, snapshot, owner, rules, early)) if early.parks else early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.lock != "requested" or not _is_wanted(frame.run, message):
        return Decision(note=f"the lock is {frame.run.lock or 'not wanted'}")
    token = yield from request(lock_name(frame.plan, message.workflow_id), owner, frame.plan.mutex_limit)
    if token is None:
        return _wait(message, frame, look_ms(owner, rules.lock_look_ms))
    if message.thread == section_thread(frame.plan.mutex_section):
        opened = Decision(events=[Event("lock.granted", message.ref_id, {"key": frame.plan.mutex_key, "token": token})])
        yield from open_section(opened, frame, token)
        return opened
    if frame.plan.milestone is not None and (yield from milestone_verdict(frame.plan)) != HOLDS:
        return _start_over(frame)
    told = {"key": frame.plan.mutex_key, "token": token, **whose(message.thread)}
    decision = yield from start_or_bypass(frame, lock="held", token=token)
    decision.events.insert(0, Event("lock.granted", message.ref_id, told))
    return decision


def _is_wanted(run: Run, message: AcquireLock) -> bool:
    """Return whether this request stands, or has led to what the run holds: its number is used once."""
    return run.lock in ("requested", "held") and run.request == message.request


def _wait_for_resume(
    message: AcquireLock, snapshot: Snapshot, owner: Owner, rules: Rules, parked: Decision
) -> Handling:
    """Keep the place in the line during a pause; a lock that was granted all the same is given back, and asked anew.

    Beside being parked the message comes again like that of any waiter: a grant may not have been told.
    """
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.lock != "requested" or not _is_wanted(frame.run, message):
        return parked
    if not (yield from is_granted(lock_name(frame.plan, message.workflow_id), owner)):
        decision = _wait(message, frame, look_ms(owner, rules.lock_look_ms))
        decision.change(Add(places.PARKED, (message.name,)))
        decision.note = parked.note
        return decision
    decision = Decision(note=f"given back: the workflow is {frame.workflow.status}")
    release_lock(decision, frame)
    again = msgspec.structs.replace(message, request=message.request + 1)
    set_run(decision, frame.thread, request=again.request)
    decision.owes.append(Owed(again))
    return decision


def _start_over(frame: Frame) -> Decision:
    """Give the lock back: the milestone has gone while the run waited; both are asked for anew."""
    decision = Decision(note="its milestone does not hold any more")
    release_lock(decision, frame)
    set_run(decision, frame.thread, status="NOT_STARTED", lock="")
    start = StartStage(workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=frame.thread)
    decision.owes.append(Owed(start))
    return decision


def _wait(message: AcquireLock, frame: Frame, rest_ms: int) -> Decision:
    decision = Decision(keeps_entry=True, note="waits for the lock")
    at_ms = frame.now_ms + rest_ms
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(pub=0, nb=0)))
    decision.defers[message.name] = at_ms
    return decision
