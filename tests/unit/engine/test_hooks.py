"""What is owed to a task's own `on_cancel` and `on_timeout`, by hand (PROTOCOL 4.2, 4.3)."""

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import end_run
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers import cancel_task, time_out
from stabilize_celery.engine.hooks import BESIDE_MS, TIMEOUT_ANSWER_MS
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.results import TaskReturned, TooLate, expire, record
from stabilize_celery.engine.state import ENTRY, Entry, Run, TaskState, WorkflowRecord
from stabilize_celery.engine.steps import Decision, DeleteFields, SetFields
from stabilize_celery.models.messages import CancelTask, RunTask, TimeOut
from tests.unit.engine.driving import NOW_MS, W, World, kinds, owed_names, plan_of

TASK = RunTask(workflow_id=W, ref_id="a", thread="t", task_index=0, task_type="job")
CANCEL = CancelTask(workflow_id=W, ref_id="a", thread="t", task_index=0, task_type="job")
TIMER = TimeOut(workflow_id=W, scope="task", ref_id="a", thread="t", task_index=0)
BOTH = ("on_cancel", "on_timeout")


def at_work(status: str = "RUNNING", hooks: tuple[str, ...] = BOTH) -> TaskState:
    return TaskState(status, NOW_MS - 10, attempts=1, hooks=hooks, queue="jobs")


def given(status: str = "RUNNING", state: TaskState | None = None, **run: object) -> World:
    values = {"status": status, "started_ms": NOW_MS - 10, "tasks": [state or at_work()], "phase": "tasks", **run}
    return World().workflow().stage(plan_of("a", "job", "work")).run("t", **values)


def written(decision: Decision, key: str) -> dict[str, object]:
    return {
        name: value
        for change in decision.changes
        if isinstance(change, SetFields) and change.key == key
        for name, value in change.fields.items()
    }


def entry_of(decision: Decision) -> dict[str, object]:
    return written(decision, places.ledger(TASK.name))


def ended(state: TaskState, status: str = "CANCELED", entry: Entry | None = None) -> Decision:
    run = Run(ref="a", status="RUNNING", started_ms=1, tasks=[state])
    frame = Frame(W, NOW_MS * 1000, WorkflowRecord(status="RUNNING"), plan_of("a", "job"), "t", run)
    decision = Decision()
    end_run(decision, frame, status, entry=entry)
    return decision


def test_a_run_that_is_taken_away_owes_its_task_the_news() -> None:
    """On the queue where workers know its type; where its code runs now, its own process comes first."""
    (waiting,) = ended(at_work("SUSPENDED")).owes
    (running,) = ended(at_work(), "SKIPPED", Entry(t="RunTask", own="me/1")).owes

    assert (waiting.message, waiting.queue, waiting.not_before_ms) == (CANCEL, "jobs", 0)
    assert running.not_before_ms == NOW_MS + BESIDE_MS


@pytest.mark.parametrize("state", [at_work("SUCCEEDED"), at_work("NOT_STARTED"), at_work(hooks=("on_timeout",))])
def test_it_owes_nothing_to_who_was_never_called_has_ended_or_has_no_hook(state: TaskState) -> None:
    """Nor to a task whose own result ends the run."""
    assert ended(state).owes == []
    assert ended(at_work(), "SUCCEEDED").owes == []


def test_news_that_were_told_are_forgotten_with_an_event() -> None:
    """Whatever the workflow's status; before their time only by the process that executed the body."""
    later = given("CANCELED").workflow("CANCELED").owed(CANCEL, nb=NOW_MS + 9_000)
    due = given("CANCELED").workflow("CANCELED").owed(CANCEL)

    assert later.decide(cancel_task.handle(CANCEL, Rules(), 0)).keeps_entry
    for decision in (due.decide(cancel_task.handle(CANCEL, Rules(), 0)), later.decide(cancel_task.settle(CANCEL))):
        assert not decision.keeps_entry
        assert kinds(decision) == ["task.cancel_told"]
    assert given().decide(cancel_task.settle(CANCEL)).keeps_entry
    assert World().owed(CANCEL).workflow("GONE").decide(cancel_task.settle(CANCEL)).note == "the workflow is gone"


def test_time_that_is_over_fences_the_attempt_and_asks() -> None:
    """Whoever claims it next; the time-out comes again in case nobody answers."""
    world = given().owed(TASK, own="me/1", att=4, lost=2).owed(TIMER)
    decision = world.decide(time_out.handle(TIMER, Rules(), 0))

    fields = entry_of(decision)
    assert (fields["att"], fields["lost"]) == (5, 0)
    assert "timed out" in str(fields["to"])
    assert DeleteFields(places.ledger(TASK.name), ("own",)) in decision.changes
    assert decision.nudges == [TASK]
    assert decision.keeps_entry
    assert decision.defers[TIMER.name] - NOW_MS == pytest.approx(TIMEOUT_ANSWER_MS, abs=5)


def test_time_that_is_over_twice_ends_the_task() -> None:
    """Its on_timeout did not answer."""
    world = given().owed(TASK, own="me/1", att=5, to="the task timed out after 9 s").owed(TIMER)
    decision = world.decide(time_out.handle(TIMER, Rules(), 0))

    assert not decision.keeps_entry
    assert decision.forgets == [TASK.name]
    assert owed_names(decision) == ["Done:t"]
    assert written(decision, places.run("t"))["reason"] == "the task timed out after 9 s"


def test_a_lock_lets_running_code_return_before_its_time_out_is_asked() -> None:
    """It keeps its claim; its result, which comes too late, makes room for the question."""
    world = given(lock="held").owed(TASK, own="me/1", att=4).owed(TIMER)
    asked = world.decide(time_out.handle(TIMER, Rules(), 0))
    world = given(lock="held").owed(TASK, own="me/1", att=4, to="it timed out")
    returned = world.decide(record(TASK, TaskReturned(4, "SUCCEEDED", outputs={"n": 1})))
    answered = world.decide(record(TASK, TaskReturned(4, "SUCCEEDED", outputs={"n": 1}, is_time_out=True)))

    assert set(entry_of(asked)) == {"to"}
    assert asked.nudges == []
    assert entry_of(returned)["att"] == 5
    assert returned.nudges == [TASK]
    assert "outputs" not in written(returned, places.run("t"))
    assert "outputs" in written(answered, places.run("t"))


def too_long(status: str = "TERMINAL", attempt: int = 4) -> TaskReturned:
    return TaskReturned(attempt, status, error={"type": "TaskTimeoutError", "message": "longer than 1 s"})


def test_an_execution_that_takes_too_long_asks_its_hook_or_ends() -> None:
    """Or is tried again, where that is wished; each of them fences what its code still returns."""
    with_hook = given().owed(TASK, own="me/1", att=4).decide(expire(TASK, too_long()))
    plain = given(state=at_work(hooks=())).owed(TASK, own="me/1", att=4)
    fails, again = plain.decide(expire(TASK, too_long())), plain.decide(expire(TASK, too_long("RETRY")))

    assert entry_of(with_hook)["to"] == "longer than 1 s"
    assert owed_names(with_hook) == [TIMER.name]
    assert (owed_names(fails), fails.keeps_entry) == (["Done:t"], False)
    assert (entry_of(again)["att"], again.keeps_entry) == (5, True)


def test_one_in_a_critical_section_keeps_the_lock_until_its_code_returns() -> None:
    """Its run ends at once; its claim stands for its code."""
    world = given(state=at_work(hooks=()), lock="held").owed(TASK, own="me/1", att=4)
    decision = world.decide(expire(TASK, too_long()))

    assert decision.keeps_entry
    assert entry_of(decision) == ENTRY.encode(cx=True)
    assert written(decision, places.run("t"))["code_runs"] == 1
    assert owed_names(decision) == ["Done:t"]


@pytest.mark.parametrize(
    "world",
    [
        given(),
        given().owed(TASK, own="other/1", att=5),
        given(outcome="TERMINAL").owed(TASK, own="me/1", att=4),
        given("CANCELED").owed(TASK, own="me/1", att=4, cx=True),
        given().workflow("CANCELED").owed(TASK, own="me/1", att=4),
        given().owed(TASK, own="me/1", att=4, to="it timed out"),
    ],
)
def test_one_that_has_ended_or_lost_its_claim_is_left_alone(world: World) -> None:
    """Its end is decided already."""
    decision = world.decide(expire(TASK, too_long()))

    assert decision.is_empty
    assert decision.keeps_entry


def test_a_result_that_does_not_count_says_so() -> None:
    """So that who executed it can see whether it was cancelled."""
    assert isinstance(given().decide(record(TASK, TaskReturned(4, "SUCCEEDED"))).call, TooLate)
    assert given().owed(TASK, att=4).decide(record(TASK, TaskReturned(4, "SUCCEEDED"))).call is None


def test_after_a_stages_time_out_no_other_task_begins() -> None:
    """The task at work has answered for it; the rest of the stage has no time."""
    world = given(late="the stage timed out").owed(TASK, own="me/1", att=4, to="the stage timed out")
    decision = world.decide(record(TASK, TaskReturned(4, "SUCCEEDED", is_time_out=True)))

    assert owed_names(decision) == ["Done:t"]
    assert written(decision, places.run("t"))["outcome"] == "TERMINAL"


def test_outputs_that_are_not_verified_yet_are_held_back() -> None:
    """Kept in the run, out of sight; the entry stays for the next check."""
    held = {"context": {}, "outputs": {"n": 1}, "checks": 1}
    world = given().owed(TASK, own="me/1", att=4)
    waits = world.decide(record(TASK, TaskReturned(4, "VERIFY", held=held, again_after_ms=500)))
    world = given(held=held).owed(TASK, own="me/1", att=4)
    passes = world.decide(record(TASK, TaskReturned(4, "SUCCEEDED", outputs={"n": 1})))

    assert waits.keeps_entry
    assert kinds(waits) == []
    assert {"held", "tasks"} == set(written(waits, places.run("t")))
    assert DeleteFields(places.run("t"), ("held",)) in passes.changes
