"""Milestones: a stage starts only while another is in a given state (WCP-18; PROTOCOL 7.5 row 12).

A run that waits for a milestone is held outside `act`: it cannot move by itself. Whatever changes the milestone
stage's status owes a look at who waits for it.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import stage_fields
from stabilize_celery.engine.moves import (
    Frame,
    set_run,
)
from stabilize_celery.engine.plan import StagePlan, decode_plan
from stabilize_celery.engine.routes import (
    close_if_last,
)
from stabilize_celery.engine.state import RUN, Run
from stabilize_celery.engine.steps import (
    Decision,
    DeleteFields,
    Event,
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

__all__ = ["GONE", "HOLDS", "WAITS", "hold", "milestone_verdict", "wake", "withdraw"]

HOLDS, WAITS, GONE = "holds", "waits", "gone"

_LIVE = Members(places.LIVE)
_SAME = {"SUSPENDED": "RUNNING", "BUFFERED": "NOT_STARTED"}
"""Waiting for RUNNING means started and not ended; for NOT_STARTED, any state before the start."""


def milestone_verdict(plan: StagePlan) -> Generator[Read, Snapshot, str]:
    """Return whether the milestone of a stage holds now, may still come, or will not any more; WATCHed."""
    ref = str(plan.milestone)
    lists = (Items(places.started(ref)), Items(places.bypassed(ref)))
    first = yield Read((stage_fields(ref), *lists, _LIVE), (lists[0].key, lists[1].key, places.LIVE))
    other = decode_plan(first[stage_fields(ref)][f"s:{ref}"])
    past = [thread for query in lists for thread in first[query]]
    shut = Hash(places.shut(other.component))
    keys: dict[str, Query] = {thread: Hash(places.run(thread)) for thread in {*past, *first[_LIVE]}}
    found = yield Read((shut, *keys.values()), (shut.key, *(places.run(thread) for thread in past)))
    runs = [run for key in keys.values() if (run := RUN.decode(found[key])).ref == ref]
    inside = [thread for thread, key in keys.items() if RUN.decode(found[key]).ref == ref]
    yield Read((), tuple(places.run(thread) for thread in inside))
    if _is_as_wanted(runs, plan.milestone_status):
        return HOLDS
    return GONE if ref in found[shut] else WAITS


def _is_as_wanted(runs: list[Run], wanted: str) -> bool:
    ordered = sorted(runs, key=lambda run: run.created_us)
    newest = [run for run in ordered if not run.is_ended] or ordered
    status = newest[-1].status if newest else "NOT_STARTED"
    return wanted in (status, _SAME.get(status))


def hold(decision: Decision, frame: Frame) -> int:
    """Keep an enabled run from starting until its milestone. Returns the change of `act`: -1."""
    ref = str(frame.plan.milestone)
    set_run(decision, frame.thread, status="BUFFERED", held_for=ref)
    decision.change(SetFields(places.milestone_waiters(ref), {frame.thread: frame.plan.ref}))
    decision.events.append(Event("stage.buffered", frame.plan.ref, {"thread": frame.thread, "milestone": ref}))
    return -1


def wake(decision: Decision, frame: Frame) -> int:
    """Let a held run try to start. Returns the change of `act`: +1."""
    set_run(decision, frame.thread, status="NOT_STARTED", held_for="")
    decision.change(DeleteFields(places.milestone_waiters(str(frame.plan.milestone)), (frame.thread,)))
    start = StartStage(workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=frame.thread)
    decision.owes.append(Owed(start))
    return 1


def withdraw(decision: Decision, frame: Frame) -> int:
    """Take back an enabled run whose milestone is gone: SKIPPED, not taken. Returns the change of `act`."""
    moves = end_run(decision, frame, "SKIPPED", f"its milestone, {frame.plan.milestone!r}, is gone")
    close_if_last(decision, frame, ())
    return moves
