"""Mutex sections: stages of one workflow that hold one key from the first start to the last end (WCP-39; PROTOCOL 8).

The section asks for the lock as a run of its own: the record `section_thread` carries the lock's state and the number
of the request, so that granting, auditing and handing over are those of any run.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    lock_name,
)
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.moves import (
    Frame,
    set_run,
)
from stabilize_celery.engine.state import RUN
from stabilize_celery.engine.steps import (
    Decision,
    Delete,
    Event,
    Hash,
    Owed,
    Read,
    SetFields,
    Snapshot,
)
from stabilize_celery.models.messages import AcquireLock, ReleaseLock, StartStage

__all__ = ["enter_section", "leave_section", "open_section", "section_thread"]


def section_thread(section: str) -> str:
    """Return the name under which a section asks for its lock."""
    return thread_id("section", section)


def enter_section(frame: Frame) -> Generator[Read, Snapshot, tuple[Decision | None, int]]:
    """Return the decision to wait for the section's lock, or None and the fencing token if it is held."""
    plan, thread = frame.plan, section_thread(frame.plan.mutex_section)
    key = places.run(thread)
    run = RUN.decode((yield Read((Hash(key),), (key,))).hash(key))
    if run.lock == "held":
        return None, run.token
    decision = Decision(
        events=[Event("stage.buffered", plan.ref, {"thread": frame.thread, "mutex_key": plan.mutex_key})]
    )
    set_run(decision, frame.thread, status="BUFFERED")
    decision.change(SetFields(places.section_waiters(plan.mutex_section), {frame.thread: plan.ref}))
    if run.lock != "requested":
        number = run.request + 1
        set_run(decision, thread, ref=plan.ref, status="BUFFERED", lock="requested", request=number)
        message = AcquireLock(workflow_id=frame.workflow_id, ref_id=plan.ref, thread=thread, request=number)
        decision.owes.append(Owed(message))
    return decision, 0


def open_section(decision: Decision, frame: Frame, token: int) -> Generator[Read, Snapshot, None]:
    """Let all start that wait for the section, which holds its lock now."""
    waiters = Hash(places.section_waiters(frame.plan.mutex_section))
    waiting = (yield Read((waiters,), (waiters.key,)))[waiters]
    keys = {thread: Hash(places.run(thread)) for thread in waiting}
    runs = yield Read(tuple(keys.values()), tuple(key.key for key in keys.values()))
    set_run(decision, frame.thread, status="RUNNING", lock="held", token=token)
    for thread, ref in waiting.items():
        if RUN.decode(runs[keys[thread]]).status == "BUFFERED":
            set_run(decision, thread, status="NOT_STARTED")
            start = StartStage(workflow_id=frame.workflow_id, ref_id=ref.decode(), thread=thread)
            decision.owes.append(Owed(start))
    decision.change(Delete((waiters.key,)))


def leave_section(frame: Frame) -> Generator[Read, Snapshot, Decision]:
    """Give the section's lock back if no thread is inside any more."""
    inside, key = Hash(places.section(frame.plan.mutex_section)), Hash(places.run(frame.thread))
    snapshot = yield Read((inside, key), (inside.key, key.key))
    run = RUN.decode(snapshot[key])
    if int(snapshot[inside].get("inside", b"0")) > 0 or run.lock not in ("requested", "held"):
        return Decision(note="the section is not empty, or holds no lock")
    decision = Decision(forgets=[f"Lock:{frame.thread}#{run.request}"])
    set_run(decision, frame.thread, status="SUCCEEDED", lock="done")
    message = ReleaseLock(
        workflow_id=frame.workflow_id,
        ref_id=frame.plan.ref,
        thread=frame.thread,
        request=run.request,
        lock=lock_name(frame.plan, frame.workflow_id),
    )
    decision.owes.append(Owed(message))
    return decision
