"""What follows from a decision at once: decided on the run as that leaves it, not on what is read (decision 020).

Where a decision owes one message, with which its thread goes on, and all that this would be decided on is at hand, the
decision takes in what follows: what is written is what the two, written one after the other, would have left.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import Encoded
from stabilize_celery.engine.handler import Rules, frame_with
from stabilize_celery.engine.handlers import complete_stage, run_task, start_stage
from stabilize_celery.engine.handlers.run_task import ClaimedTask, ClaimTerms
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.results import position_of
from stabilize_celery.engine.state import RUN, Entry, Run, WorkflowRecord
from stabilize_celery.engine.steps import (
    Append,
    Commit,
    Decision,
    Delete,
    DeleteFields,
    Handling,
    Owed,
    Plan,
    Read,
    SetFields,
    always,
    drive,
)
from stabilize_celery.models.messages import CompleteStage, RunTask, StartStage

Claimed: TypeAlias = tuple[ClaimedTask, int]
"""A claim, and the position of the change whose result is the number of the task's run."""

__all__ = ["Claimed", "Hand", "claim", "follow", "sole_message"]

_NOTHING = Run()
FEW = 8
"""A decision that owes more than so many messages is no thread that goes on (count)."""


class Hand(Protocol):
    """What is known without asking the store."""

    @property
    def now_us(self) -> int:
        """Time of the slot's server (us)."""
        ...

    def workflow(self) -> WorkflowRecord | None:
        """Return the workflow's record, if it was read and is WATCHed."""
        ...

    def run(self, thread: str) -> Run | None:
        """Return a run that was read and is WATCHed."""
        ...

    def stage(self, ref_id: str) -> Mapping[str, bytes] | None:
        """Return the fields with a stage's plan and context, if they are known."""
        ...

    def planned(self, step: Plan) -> dict[str, Any] | None:
        """Answer a step; None: users' code would, and it may look at what is not written yet."""
        ...


def follow(decision: Decision, workflow_id: str, hand: Hand, most: int) -> int:
    """Take into a decision what follows from it, up to `most` messages; return how many that were."""
    for followed in range(most):
        owed = sole_message(decision)
        if owed is None or not isinstance(owed.message, (CompleteStage, StartStage)):
            return followed
        message = owed.message
        frame = _frame_as_left(decision, workflow_id, message.ref_id, message.thread, hand)
        if frame is None or frame.plan.component:
            return followed  # who counts its threads has to be read
        if isinstance(message, CompleteStage):
            following = _driven(complete_stage.decide(frame), hand)
        else:
            following = None if frame.workflow.holds_back else _driven(start_stage.decide(message, frame), hand)
        if following is None or following.keeps_entry or not _lay_over(decision, owed, following):
            return followed
    return most


def claim(decision: Decision, owed: Owed, hand: Hand, rules: Rules, terms: ClaimTerms) -> Claimed | None:
    """Take the claim of a task into the decision that owes it, which begins the task's run.

    Args:
        decision: What makes the task due.
        owed: The task's message, with its queue; the only one that the decision owes now.
        hand: What is known.
        rules: As of the task's handler.
        terms: On which it is claimed.

    Returns:
        None: it has to be claimed on its own, and nothing was taken.

    """
    message = owed.message
    if not isinstance(message, RunTask) or terms.asks_timeout:
        return None
    frame = _frame_as_left(decision, message.workflow_id, message.ref_id, message.thread, hand)
    if frame is None or frame.workflow.holds_back or frame.run.outcome or frame.run.task_index != message.task_index:
        return None
    place = position_of(message)
    begins = Append(place.key, place.item)
    number_at = next((at for at, change in enumerate(decision.changes) if change == begins), None)
    if number_at is None:
        return None
    following = run_task.claim(message, frame, Entry(q=owed.queue), rules, terms, 0)
    entry_change, *following.changes = following.changes
    assert isinstance(entry_change, SetFields)  # noqa: S101 - narrows for the type checker
    if not _lay_over(decision, owed, following):
        return None
    decision.owes.append(msgspec.structs.replace(owed, fields=entry_change.fields))
    return following.call, number_at


def sole_message(decision: Decision) -> Owed | None:
    """Return the one message that a decision owes now, whatever its changes come to; None: it is not one."""
    owes = decision.owes
    if not 0 < len(owes) <= FEW or decision.nudges or decision.parks or decision.defers:
        return None
    now = [owed for owed in owes if not owed.not_before_ms]
    if len(now) != 1:
        return None
    sole = now[0]
    return sole if sole.publish is always and not sole.fields and not sole.queue else None


def _frame_as_left(decision: Decision, workflow_id: str, ref_id: str, thread: str, hand: Hand) -> Frame | None:
    """Return a run as the decision leaves it; None: not all of it is at hand."""
    workflow, fields = hand.workflow(), hand.stage(ref_id)
    if workflow is None or fields is None:
        return None
    run = _run_as_left(decision, thread, hand.run(thread))
    if run is None:
        return None
    return frame_with(workflow_id, hand.now_us, workflow, fields, ref_id, thread, run)


def _run_as_left(decision: Decision, thread: str, run: Run | None) -> Run | None:
    """Return a run with a decision's changes; None: that can't be told, or the workflow itself is changed."""
    key = places.run(thread)
    for change in decision.changes:
        if isinstance(change, Delete):
            return None
        changed = getattr(change, "key", "")
        if changed == places.WORKFLOW:
            return None
        if changed != key:
            continue
        fields = change.fields if type(change) is SetFields else None
        if type(fields) is Encoded and (run is not None or "created_us" in fields.given):
            run = RUN.applied(fields, run)
        elif type(change) is DeleteFields and run is not None:
            run = msgspec.structs.replace(run, **{name: getattr(_NOTHING, name) for name in change.fields})
        else:
            return None
    return run


class _NotAtHandError(Exception):
    """A handler asks for what would have to be read."""


def _driven(handling: Handling, hand: Hand) -> Decision | None:
    """Return what is decided without reading anything; None: something would have to be read."""

    def answer(step: Read | Commit | Plan) -> dict[str, Any]:
        planned = hand.planned(step) if isinstance(step, Plan) else None
        if planned is None:
            raise _NotAtHandError
        return planned

    try:
        return drive(handling, answer)
    except _NotAtHandError:
        return None


def _lay_over(decision: Decision, owed: Owed, following: Decision) -> bool:
    """Take into a decision what the handling of a message decides that it owes; False: that can't be, nothing was."""
    rest = [one for one in decision.owes if one is not owed]
    forgotten = set(following.forgets)
    if following.nudges or following.parks or any(one.message.name in forgotten for one in rest):
        return False
    offset = len(decision.changes)
    decision.changes += following.changes
    decision.owes = [*rest, *(_shifted(one, offset) for one in following.owes)]
    known = {*decision.forgets, owed.message.name}
    decision.forgets += [name for name in following.forgets if name not in known]
    decision.defers |= following.defers
    decision.events += following.events
    return True


def _shifted(owed: Owed, offset: int) -> Owed:
    """Return a message that looks for the results of its own decision's changes behind those of another."""
    if owed.publish is always:
        return owed
    wanted: Callable[[Sequence[int | None]], bool] = owed.publish
    return msgspec.structs.replace(owed, publish=lambda results: wanted(results[offset:]))
