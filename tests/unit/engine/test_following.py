"""What follows at once is taken in only while all of it is at hand, and nothing else goes on beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.following import claim, follow, sole_message
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers.run_task import ClaimTerms
from stabilize_celery.engine.moves import set_run
from stabilize_celery.engine.plan import Edge, StagePlan
from stabilize_celery.engine.state import WORKFLOW_RECORD, Run, TaskState, WorkflowRecord
from stabilize_celery.engine.steps import Decision, DeleteFields, Increment, Owed, Plan, SetFields
from stabilize_celery.models.messages import CompleteStage, EvaluateJoin, RunTask, StartStage, TimeOut
from tests.unit.engine.driving import NOW_MS, W, kinds, owed_names, plan_of

DONE = CompleteStage(workflow_id=W, ref_id="a", thread="t")
AT_WORK = Run(ref="a", status="RUNNING", created_us=1, started_ms=NOW_MS - 5, tasks=[TaskState("SUCCEEDED")])
TERMS = ClaimTerms("me/1", 3)


@dataclass
class Hand:
    """What is known: a workflow of the stages a and b, of which a runs."""

    record: WorkflowRecord | None = field(default_factory=lambda: WorkflowRecord(status="RUNNING"))
    runs: dict[str, Run] = field(default_factory=lambda: {"t": AT_WORK})
    plans: dict[str, StagePlan] = field(
        default_factory=lambda: {"a": plan_of("a", "shell", edges=[Edge("b", 0, True, 1)]), "b": plan_of("b", "shell")}
    )
    contexts: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, Any] | None = field(default_factory=dict)
    now_us: int = NOW_MS * 1000

    def workflow(self) -> WorkflowRecord | None:
        return self.record

    def run(self, thread: str) -> Run | None:
        return self.runs.get(thread)

    def stage(self, ref_id: str) -> Mapping[str, bytes] | None:
        if ref_id not in self.plans:
            return None
        return {f"s:{ref_id}": pack(self.plans[ref_id]), f"x:{ref_id}": pack(self.contexts.get(ref_id, {}))}

    def planned(self, step: Plan) -> dict[str, Any] | None:
        assert step.phase == "start"
        return self.answers


def owing(*messages: Any, **values: Any) -> Decision:
    decision = Decision(owes=[Owed(message) for message in messages])
    if values:
        set_run(decision, "t", **values)
    return decision


def test_a_thread_goes_on_to_its_next_task() -> None:
    """The end of its stage, the start of the next one, and the task that this begins with: one decision."""
    decision = owing(DONE, outputs={"o": 1})

    assert follow(decision, W, Hand(), 9) == 2

    assert [type(owed.message) for owed in decision.owes] == [RunTask]
    assert kinds(decision) == ["stage.completed", "stage.started"]
    assert "Done:t" not in decision.forgets


def test_it_goes_no_further_than_it_is_told() -> None:
    """What is left is owed as ever."""
    decision = owing(DONE)

    assert follow(decision, W, Hand(), 1) == 1
    assert [type(owed.message) for owed in decision.owes] == [StartStage]
    assert follow(owing(DONE), W, Hand(), 0) == 0


@pytest.mark.parametrize(
    ("hand", "kept"),
    [
        (Hand(record=None), "Done:t"),
        (Hand(runs={}), "Done:t"),
        (Hand(plans={}), "Done:t"),
        (Hand(plans={"a": plan_of("a", "shell", edges=[Edge("b", 0, True, 1)])}), "Start:"),
        (Hand(plans={**Hand().plans, "b": plan_of("b", "shell", component="b")}), "Start:"),
        (Hand(plans={**Hand().plans, "b": plan_of("b", "shell", milestone="a", milestone_status="RUNNING")}), "Start:"),
        (Hand(answers=None), "Start:"),
        (Hand(record=WorkflowRecord(status="PAUSED")), "Start:"),
        (Hand(plans={**Hand().plans, "b": plan_of("b", "shell", scheduled_ms=NOW_MS + 1)}), "Start:"),
    ],
    ids=[
        "the-workflow-was-not-read",
        "the-run-was-not-read",
        "its-stage-is-not-known",
        "the-next-stage-is-not-known",
        "its-threads-are-counted",
        "its-milestone-must-be-read",
        "users-code-plans-it",
        "the-workflow-is-paused",
        "it-is-not-yet-time",
    ],
)
def test_what_is_not_at_hand_is_left_to_a_message(hand: Hand, kept: str) -> None:
    """It is owed, and nothing of it is written."""
    decision = owing(DONE)

    follow(decision, W, hand, 9)

    assert [name.startswith(kept) for name in owed_names(decision)] == [True]


def test_a_workflow_that_the_decision_itself_changes_is_not_what_was_read() -> None:
    """As where it begins to run."""
    decision = owing(DONE)
    decision.change(SetFields(places.WORKFLOW, WORKFLOW_RECORD.encode(status="PAUSED")))

    assert follow(decision, W, Hand(), 9) == 0


def test_a_timer_that_would_come_and_go_stays_with_its_message() -> None:
    """The start owes the stage's time-out, and its end, which follows, would forget it."""
    hand = Hand(plans={**Hand().plans, "b": plan_of("b")}, contexts={"b": {"stageTimeoutMs": 1_000}})
    decision = owing(DONE)

    follow(decision, W, hand, 9)

    left = {type(owed.message) for owed in decision.owes}
    assert left == {TimeOut, CompleteStage}


def test_a_run_is_taken_as_the_decision_leaves_it() -> None:
    """Also what it forgets of it; what is written past the records can't be told."""
    hand = Hand(runs={"t": Run(ref="a", status="RUNNING", created_us=1, started_ms=1, outcome="TERMINAL")})
    forgotten = owing(DONE)
    forgotten.change(DeleteFields(places.run("t"), ("outcome",)))
    raw = owing(DONE)
    raw.change(SetFields(places.run("t"), {"outcome": ""}))

    follow(forgotten, W, hand, 1)

    assert kinds(forgotten) == ["stage.completed"]
    assert follow(raw, W, hand, 1) == 0


def test_what_waits_for_a_result_finds_its_own() -> None:
    """The positions of a decision's changes move on when it is laid over another."""
    hand = Hand(plans={"a": plan_of("a", "shell", edges=[Edge("b", 0, False, 1)]), "b": plan_of("b", "shell")})
    decision = owing(DONE)
    for number in range(5):
        decision.change(Increment("counter", "n", number))

    follow(decision, W, hand, 9)

    look = next(owed for owed in decision.owes if isinstance(owed.message, EvaluateJoin))
    arrived = [
        1 if isinstance(change, Increment) and change.key == places.waiting("b") and change.field == "n" else 0
        for change in decision.changes
    ]
    assert look.publish(arrived)
    assert not look.publish([0] * len(arrived))


@pytest.mark.parametrize(
    "change",
    [
        lambda decision: decision.owes.append(Owed(EvaluateJoin(workflow_id=W, ref_id="z"))),
        lambda decision: decision.nudges.append(DONE),
        lambda decision: decision.parks.append("x"),
        lambda decision: decision.defers.update(x=1),
        lambda decision: decision.owes.__setitem__(0, Owed(DONE, publish=lambda _: True)),
        lambda decision: decision.owes.__setitem__(0, Owed(DONE, fields={"att": 2})),
        lambda decision: decision.owes.__setitem__(0, Owed(DONE, NOW_MS)),
    ],
    ids=["another", "a-nudge", "parked", "deferred", "perhaps", "with-fields", "later"],
)
def test_only_a_message_that_is_alone_is_followed(change: Any) -> None:
    """What else is decided beside it may matter for it."""
    decision = owing(DONE)
    assert sole_message(decision) is not None

    change(decision)

    assert sole_message(decision) is None


def claimed(decision: Decision, terms: ClaimTerms = TERMS, hand: Hand | None = None) -> Any:
    follow(decision, W, hand or Hand(), 9)
    owed = sole_message(decision)
    assert owed is not None
    return claim(decision, owed, hand or Hand(), Rules(lease_ms=9_000), terms)


def test_a_task_that_its_run_begins_with_is_claimed_where_it_is_owed() -> None:
    """Its entry bears the claim, is looked at when the lease is over, and tells where the run's number will be."""
    decision = owing(DONE)

    task, number_at = claimed(decision)

    (owed,) = decision.owes
    assert (owed.fields["own"], owed.fields["att"]) == ("me/1", 1)
    assert decision.defers == {owed.message.name: NOW_MS + 9_000}
    assert decision.changes[number_at].key == places.started("b")  # type: ignore[union-attr]
    assert (task.attempt, task.frame.plan.ref, task.state.attempts) == (1, "b", 1)
    assert kinds(decision)[-1] == "task.started"


@pytest.mark.parametrize(
    ("terms", "hand"),
    [
        (ClaimTerms("me/1", 3, asks_timeout=True), Hand()),
        (TERMS, Hand(runs={"t": Run(ref="a", status="RUNNING", created_us=1)})),
    ],
    ids=["its-code-says-how-long-it-may-take", "it-is-not-the-first-of-its-run"],
)
def test_other_claims_are_made_on_their_own(terms: ClaimTerms, hand: Hand) -> None:
    """Nothing is taken into the decision."""
    if hand.runs["t"].tasks:
        decision = owing(DONE)
    else:
        task = RunTask(workflow_id=W, ref_id="a", thread="t", task_index=0, task_type="shell")
        decision = owing(task, tasks=[TaskState()])

    assert claimed(decision, terms, hand) is None
    assert (decision.defers, [dict(owed.fields) for owed in decision.owes]) == ({}, [{}])
