"""Claiming a task and recording its result, by hand: who may, and what counts (PROTOCOL 4.1, 4.3)."""

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers.run_task import ClaimedTask, ClaimTerms, handle, park
from stabilize_celery.engine.results import TaskReturned, record
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, KeptSignal, TaskState
from stabilize_celery.engine.steps import Decision, DeleteFields, SetFields
from stabilize_celery.models.messages import RunTask
from tests.unit.engine.driving import NOW_MS, W, World, as_stored, kinds, owed_names, plan_of

MESSAGE = RunTask(workflow_id=W, ref_id="a", thread="t", task_index=0, task_type="shell")
TERMS = ClaimTerms("me/1", 3, timeout_ms=60_000)
RULES = Rules(lease_ms=9_000)


def world(status: str = "RUNNING", **entry: object) -> World:
    given = World().workflow(status).stage(plan_of("a", "shell", "http"), c=1)
    given.put(places.started("a"), ["other", "t"])
    return given.owed(MESSAGE, **entry)


def at_work(given: World, **more: object) -> World:
    values = {"status": "RUNNING", "started_ms": NOW_MS - 10, "tasks": [TaskState(), TaskState()], "phase": "tasks"}
    return given.run("t", **{**values, **more})


def claim(given: World) -> Decision:
    return given.decide(handle(MESSAGE, RULES, 0, TERMS))


def returned(given: World, status: str = "SUCCEEDED", attempt: int = 1, **more: object) -> Decision:
    return given.decide(record(MESSAGE, TaskReturned(attempt, status, **more)))


def written(decision: Decision, key: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for change in decision.changes:
        if isinstance(change, SetFields) and change.key == key:
            found |= change.fields
    return found


def entry_fields(decision: Decision) -> dict[str, object]:
    return written(decision, places.ledger(MESSAGE.name))


def run_fields(decision: Decision) -> dict[str, object]:
    return vars_of(RUN.decode(as_stored(written(decision, places.run("t")))))


def vars_of(run: object) -> dict[str, object]:
    return {name: getattr(run, name) for name in run.__struct_fields__}  # type: ignore[attr-defined]


def test_a_claim_takes_the_entry_for_the_length_of_a_lease() -> None:
    """The owner, the next attempt, and when it is due if nobody hears of it; the entry stays."""
    decision = claim(at_work(world(att=4)))

    assert decision.keeps_entry
    assert entry_fields(decision) == ENTRY.encode(own="me/1", att=5, parked="")
    assert decision.defers[MESSAGE.name] - NOW_MS == pytest.approx(9_000, abs=5)
    assert owed_names(decision) == ["TO:task:t..0"]
    assert kinds(decision) == ["task.started"]
    assert isinstance(decision.call, ClaimedTask)
    assert (decision.call.attempt, decision.call.run_number, decision.call.frame.context) == (5, 2, {"c": 1})


def test_a_second_attempt_has_the_time_that_the_first_left() -> None:
    """The time-out bounds the task over all its attempts: it is owed once."""
    decision = claim(at_work(world(), tasks=[TaskState("RUNNING", NOW_MS - 5, attempts=1), TaskState()]))

    assert owed_names(decision) == []
    assert decision.call.state.attempts == 2


def test_a_claim_whose_answer_was_lost_goes_on() -> None:
    """The entry bears this very claim's name: nothing is written, the body is executed."""
    decision = claim(at_work(world(own="me/1", att=5)))

    assert decision.is_empty
    assert decision.keeps_entry
    assert (decision.call.attempt, decision.note) == (5, "claimed")


def test_somebody_elses_claim_is_left_alone() -> None:
    """Only the keeper ends a lease."""
    decision = claim(at_work(world(own="other/7", att=5)))

    assert decision.is_empty
    assert decision.keeps_entry
    assert "other/7" in decision.note


def test_a_task_that_lost_too_many_workers_is_given_up() -> None:
    """Without another try; the stage fails with the reason."""
    decision = claim(at_work(world(lost=3, att=6)))

    assert not decision.keeps_entry
    assert decision.call is None
    assert owed_names(decision) == ["Done:t"]
    assert run_fields(decision)["outcome"] == "TERMINAL"
    assert run_fields(decision)["reason"] == "task 'shell' lost its worker 3 times in a row"
    assert claim(at_work(world(lost=2))).call is not None


def test_what_its_last_worker_died_of_is_told_where_it_is_known() -> None:
    """Celery's own time limit, say, looks like any other death from outside."""
    decision = claim(at_work(world(lost=3, att=6, died="Celery's time limit of 5 s ended it")))

    reason = "task 'shell' lost its worker 3 times in a row; the last time: Celery's time limit of 5 s ended it"
    assert run_fields(decision)["reason"] == reason


@pytest.mark.parametrize("more", [{"status": "SUSPENDED"}, {"task_index": 1}, {"status": "NOT_STARTED"}])
def test_a_run_that_is_elsewhere_is_not_executed(more: dict[str, object]) -> None:
    """Whatever is still delivered under this name."""
    decision = claim(at_work(world(), **more))

    assert decision.call is None
    assert not decision.keeps_entry


@pytest.mark.parametrize("end", ["outcome", "status"])
def test_the_entry_of_a_run_that_has_ended_stays_while_its_code_may_run(end: str) -> None:
    """A lock is free once the code has returned, or its lease has run out (PROTOCOL 4.3)."""
    ended = {"outcome": "TERMINAL"} if end == "outcome" else {"status": "CANCELED"}
    held = {**ended, "lock": "held", "code_runs": True, "request": 1}

    running = claim(at_work(world(own="other/7", att=5), **held))
    reaped = claim(at_work(world(att=5, lost=1), **held))
    came_back = returned(at_work(world(own="other/7", att=1), **held))

    assert (running.is_empty, running.keeps_entry) == (True, True)
    for decision in (reaped, came_back):
        assert not decision.keeps_entry
        assert run_fields(decision)["code_runs"] is False
        assert owed_names(decision) == ([] if end == "outcome" else ["Unlock:t#1"])
    assert owed_names(claim(at_work(world(), **ended))) == []


def test_a_workflow_that_has_ended_lets_running_code_be() -> None:
    """Not cleared yet: its entry goes when the code has returned."""
    assert claim(at_work(world("CANCELED", own="other/7"))).keeps_entry
    assert not claim(at_work(world("CANCELED"))).keeps_entry
    assert not returned(at_work(world("CANCELED", own="me/1", att=1))).keeps_entry


def test_a_result_counts_if_the_attempt_is_still_the_last() -> None:
    """Also after a reap that nobody used: `own` may be gone."""
    for own in ("me/1", ""):
        decision = returned(at_work(world(own=own, att=1)), outputs={"o": 1}, context={"c": 2})
        assert not decision.keeps_entry
        assert owed_names(decision) == ["Run:t..1"]
        run = run_fields(decision)
        assert (run["outputs"], run["context"], run["task_index"]) == ({"o": 1}, {"c": 2}, 1)


@pytest.mark.parametrize(
    ("state", "entry", "is_forgotten"),
    [
        (TaskState("RUNNING", 1), {}, False),
        (TaskState("RUNNING", 1, has_deadline=True), {}, True),
        (TaskState("RUNNING", 1, hooks=("on_timeout",)), {}, True),
        (TaskState("RUNNING", 1, hooks=("on_cancel",)), {}, False),
        (TaskState("RUNNING", 1), {"to": "its time is over"}, True),
    ],
    ids=["no limit", "a limit", "may ask for the last time-out", "cannot ask", "has asked"],
)
@pytest.mark.parametrize("status", ["SUCCEEDED", "TERMINAL"])
def test_an_ended_task_forgets_the_time_out_that_it_may_owe(
    state: TaskState, entry: dict[str, str], is_forgotten: bool, status: str
) -> None:
    """Its own limit's, or that of the answer which its `on_timeout` was asked for; else there is none."""
    given = at_work(world(own="me/1", att=1, **entry), tasks=[state, TaskState()])

    decision = returned(given, status, is_time_out="to" in entry)

    assert ("TO:task:t..0" in decision.forgets) is is_forgotten


def test_a_limit_is_remembered_over_all_claims() -> None:
    """Whoever ends the task knows of the time-out that its first claim has owed."""
    first = claim(at_work(world()))
    again = claim(at_work(world(), tasks=[TaskState("RUNNING", NOW_MS - 5, has_deadline=True), TaskState()]))
    without = at_work(world()).decide(handle(MESSAGE, RULES, 0, ClaimTerms("me/1", 3)))

    deadlines = [decision.call.state.has_deadline for decision in (first, again, without)]
    assert deadlines == [True, True, False]


def test_a_result_of_an_attempt_that_lost_its_claim_changes_nothing() -> None:
    """A zombie's result, however it ended."""
    for status in ("SUCCEEDED", "RUNNING", "RETRY", "SUSPENDED", "TERMINAL", "REDIRECT"):
        decision = returned(at_work(world(own="other/2", att=2)), status)
        assert decision.is_empty
        assert decision.keeps_entry
    assert returned(World().workflow()).keeps_entry
    assert returned(World().owed(MESSAGE, att=1)).note == "the workflow is gone"


def test_a_signal_counts_for_the_execution_that_it_woke() -> None:
    """The next task of the stage waits for a signal of its own."""
    decision = returned(at_work(world(own="me/1", att=1), signal="ok", payload=1))

    assert DeleteFields(places.run("t"), ("signal", "payload")) in decision.changes


@pytest.mark.parametrize(("status", "retries", "polls"), [("RETRY", 3, 1), ("RUNNING", 0, 2)])
def test_asking_again_keeps_the_entry_and_fences_the_attempt(status: str, retries: int, polls: int) -> None:
    """A poll starts the count of tries anew; the attempt's number moves on, so that it is not applied twice."""
    given = at_work(world(own="me/1", att=1, lost=2), tasks=[TaskState("RUNNING", 5, retries=2, polls=1), TaskState()])
    decision = returned(given, status, again_after_ms=500)

    fields = entry_fields(decision)
    assert decision.keeps_entry
    assert (fields["att"], fields["lost"], fields["pub"]) == (2, 0, 0)
    assert fields["nb"] == decision.defers[MESSAGE.name]
    assert DeleteFields(places.ledger(MESSAGE.name), ("own",)) in decision.changes
    state = run_fields(decision)["tasks"][0]  # type: ignore[index]
    assert (state.retries, state.polls) == (retries, polls)


def test_a_jump_from_a_before_stage_fails_it() -> None:
    """wcp 1.9: synthetic stages cannot jump."""
    given = World().workflow().stage(plan_of("a", "shell", owner="STAGE_BEFORE", parent="b"))
    decision = returned(at_work(given.owed(MESSAGE, own="me/1", att=1)), "REDIRECT", target="b")

    assert run_fields(decision)["outcome"] == "TERMINAL"
    assert "cannot jump" in str(run_fields(decision)["reason"])


def test_a_task_of_an_unknown_type_is_parked_and_told_once() -> None:
    """Visible in its entry; an event only when the reason changes; never while it runs elsewhere."""
    first = at_work(world()).decide(park(MESSAGE, "nobody knows it", 10_000))
    again = at_work(world(parked="nobody knows it")).decide(park(MESSAGE, "nobody knows it", 10_000))

    assert entry_fields(first)["parked"] == "nobody knows it"
    assert (kinds(first), kinds(again)) == (["task.parked"], [])
    assert at_work(world(own="other/1")).decide(park(MESSAGE, "x", 1)).is_empty
    assert at_work(world(nb=NOW_MS + 60_000)).decide(park(MESSAGE, "x", 1)).is_empty


@pytest.mark.parametrize(("meant_for", "is_taken"), [(None, True), (2, True), (1, False), (0, False)])
def test_a_kept_signal_is_taken_by_the_instance_that_it_is_for(meant_for: int | None, is_taken: bool) -> None:
    """One that is for another stays where it is until that waits."""
    given = at_work(world(own="me/1", att=1), instance=2, parent="p")
    given.put(places.signals("a"), as_stored(SIGNALS.encode(kept=[KeptSignal("go", 7, meant_for)])))

    decision = returned(given, "SUSPENDED", signal="go")

    assert ("stage.signaled" in kinds(decision)) is is_taken
    assert ("stage.suspended" in kinds(decision)) is not is_taken
