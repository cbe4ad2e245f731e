"""Milestones: a stage starts only while another is in a given state (WCP-18; PROTOCOL 7.5 row 12).

A run that waits for a milestone is held outside `act`: it cannot move by itself. Whatever changes the milestone
stage's status owes a look at who waits for it.
"""

from collections.abc import Collection, Generator, Mapping

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import stage_fields
from stabilize_celery.engine.judging import look_along
from stabilize_celery.engine.moves import (
    Frame,
    owe_continuation,
    set_run,
    tell_status,
)
from stabilize_celery.engine.plan import StagePlan, decode_plan
from stabilize_celery.engine.region import Region
from stabilize_celery.engine.routes import (
    close_if_last,
)
from stabilize_celery.engine.standing import waiting, with_parts
from stabilize_celery.engine.state import RUN, Run
from stabilize_celery.engine.steps import (
    Decision,
    DeleteFields,
    Event,
    Fields,
    Hash,
    Items,
    Members,
    Owed,
    Query,
    Read,
    SetFields,
    Snapshot,
)
from stabilize_celery.models.messages import StartStage

__all__ = ["GONE", "HOLDS", "WAITS", "hold", "milestone_verdict", "wake", "whole_of_milestone", "withdraw"]

HOLDS, WAITS, GONE = "holds", "waits", "gone"

_LIVE = Members(places.LIVE)
_SAME = {"SUSPENDED": "RUNNING", "BUFFERED": "NOT_STARTED"}
"""Waiting for RUNNING means started and not ended; for NOT_STARTED, any state before the start."""


def milestone_verdict(plan: StagePlan) -> Generator[Read, Snapshot, str]:
    """Return whether the milestone of a stage holds now, may still come, or will not any more; WATCHed."""
    ref = str(plan.milestone)
    whole = whole_of_milestone(plan)
    lists = (Items(places.started(ref)), Items(places.bypassed(ref)))
    restarted = Fields(places.RESTARTED, (ref,))
    first = yield Read((stage_fields(whole), *lists, _LIVE, restarted), (lists[0].key, lists[1].key, places.LIVE))
    other = decode_plan(first[stage_fields(whole)][f"s:{whole}"])
    since = int(first[restarted].get(ref, b"0"))
    past = [thread for query in lists for thread in first[query]]
    shut = Hash(places.shut(other.component))
    keys: dict[str, Query] = {thread: Hash(places.run(thread)) for thread in {*past, *first[_LIVE]}}
    found = yield Read((shut, *keys.values()), (shut.key, *(places.run(thread) for thread in past)))
    decoded = {thread: RUN.decode(found[key]) for thread, key in keys.items()}
    runs = {thread: run for thread, run in decoded.items() if run.ref == ref and run.created_us >= since}
    yield Read((), tuple(map(places.run, with_parts(decoded, runs))))
    is_shut = whole in found[shut]
    if plan.milestone_above and not runs and not is_shut:
        is_shut = not (yield from _may_be_reached(plan))
    if whole != ref and any(run.ref == whole and not run.is_ended for run in decoded.values()):
        is_shut = False  # what has come to the whole may still come to its part
    status = _status(runs, waiting(decoded), is_shut=is_shut)
    if plan.milestone_status in (status, _SAME.get(status)):
        return HOLDS
    is_active = any(not run.is_ended for run in runs.values())
    return GONE if is_shut and not is_active else WAITS


def whole_of_milestone(plan: StagePlan) -> str:
    """Return the stage to which threads come that may come to the milestone stage: that one, or whose part it is."""
    return plan.milestone_whole or str(plan.milestone)


def _status(found: Mapping[str, Run], suspended: Collection[str], *, is_shut: bool) -> str:
    """Return the status of a milestone stage with these runs and instances, by thread (wcp 1.2)."""
    runs = [(run.created_us, thread) for thread, run in found.items() if run.instance is None]
    unfinished = [item for item in runs if not found[item[1]].is_ended]
    if not runs:
        return "SKIPPED" if is_shut else "NOT_STARTED"
    _, thread = max(unfinished or runs)
    return "SUSPENDED" if thread in suspended else found[thread].status


def _may_be_reached(plan: StagePlan) -> Generator[Read, Snapshot, bool]:
    """Return whether a thread may still come to the milestone stage, which has had none (wcp 1.5).

    Where the stage has just become unreachable that may not have been told yet, and the way there is looked at whole.
    Not WATCHed: who comes there does not change that, and who goes another way was not ahead of this look.
    """
    return whole_of_milestone(plan) in Region((yield from look_along(plan.milestone_above))).reachable()


def hold(decision: Decision, frame: Frame) -> int:
    """Keep an enabled run from starting until its milestone. Returns the change of `act`: -1."""
    ref = str(frame.plan.milestone)
    set_run(decision, frame.thread, status="BUFFERED", held_for=ref)
    decision.change(SetFields(places.milestone_waiters(ref), {frame.thread: frame.plan.ref}))
    decision.events.append(Event("stage.buffered", frame.plan.ref, {"thread": frame.thread, "milestone": ref}))
    tell_status(decision, frame.workflow_id, frame.plan)
    return -1


def wake(decision: Decision, frame: Frame) -> int:
    """Let a held run try to start. Returns the change of `act`: +1."""
    set_run(decision, frame.thread, status="NOT_STARTED", held_for="")
    decision.change(DeleteFields(places.milestone_waiters(str(frame.plan.milestone)), (frame.thread,)))
    start = StartStage(workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=frame.thread)
    decision.owes.append(Owed(start))
    return 1


def withdraw(decision: Decision, frame: Frame) -> int:
    """Take back an enabled run whose milestone is gone: SKIPPED, not taken. Returns the change of `act`.

    A before or after stage leaves its parent's run to go on without it.
    """
    moves = end_run(decision, frame, "SKIPPED", f"its milestone, {frame.plan.milestone!r}, is gone")
    if frame.plan.owner is not None:
        owe_continuation(decision, frame.workflow_id, str(frame.plan.parent), frame.run.parent)
    else:
        close_if_last(decision, frame, ())
    return moves
