"""Mutex sections: stages of one workflow that hold one key from the first start to the last end (WCP-39; PROTOCOL 8).

The section asks for the lock as a run of its own: the record `section_thread` carries the lock's state and the number
of the request, so that granting, auditing and handing over are those of any run.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.moves import Frame, set_run, tell_status
from stabilize_celery.engine.plan import WorkflowPlan
from stabilize_celery.engine.rooms import count_kept, owe_leaving, room_of_section, section_thread
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
from stabilize_celery.models.messages import AcquireLock, StartStage

__all__ = ["close_sections", "enter_section", "open_section", "section_thread"]


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
    tell_status(decision, frame.workflow_id, plan)
    decision.change(SetFields(places.section_waiters(plan.mutex_section), {frame.thread: plan.ref}))
    if run.lock != "requested":
        number = run.request + 1
        set_run(decision, thread, ref=plan.ref, status="BUFFERED", lock="requested", request=number)
        message = AcquireLock(workflow_id=frame.workflow_id, ref_id=plan.ref, thread=thread, request=number)
        decision.owes.append(Owed(message))
        count_kept(decision, 1)
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


def close_sections(decision: Decision, workflow_id: str, plan: WorkflowPlan) -> None:
    """Owe a look at every section of a workflow that has ended: arrivals at its joins hold nothing any more."""
    refs = {section: ref for ref, section in plan.sections.items()}
    for section, ref in refs.items():
        for room in room_of_section(section, ref):
            owe_leaving(decision, workflow_id, room)
