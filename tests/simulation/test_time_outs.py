"""What a task's own `on_timeout` answers when its time is over: between polls, beside running code, in a wait (4.2)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from typing_extensions import override

from stabilize_celery.engine import outside
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.task import Wait
from stabilize_celery.tasks.variants import OverridableTimeoutRetryableTask, RetryableTask
from tests.simulation.laws import Laws
from tests.simulation.stories import CALM, ROUGH, Story, stage
from tests.simulation.tuning import seeds

LIMIT_S = 20
Answer = Callable[[StageExecution], TaskResult | None]


def polling(_found: StageExecution) -> TaskResult:
    return TaskResult.running({"job": 4})


class Watching(OverridableTimeoutRetryableTask):
    """Polls every two seconds; `on_timeout` answers as the test says."""

    def __init__(self, answer: Answer, body: Callable[[StageExecution], TaskResult] = polling) -> None:
        self.answer, self.body = answer, body
        self.bodies = 0
        self.asked: list[str] = []

    @override
    def get_timeout(self) -> timedelta:
        return timedelta(seconds=LIMIT_S)

    @override
    def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
        return timedelta(seconds=2)

    @override
    def waits_for(self, stage: StageExecution) -> Wait:
        return Wait("go", 5_000)

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        self.bodies += 1
        return self.body(stage)

    @override
    def on_timeout(self, stage: StageExecution) -> TaskResult | None:
        assert current_call().stage_ref_id == stage.ref_id
        self.asked.append(stage.ref_id)
        return self.answer(stage)


def story_of(task: RetryableTask, seed: int, *stages: StageExecution, faults: object = CALM) -> Story:
    story = Story(seed, faults)  # type: ignore[arg-type]
    story.simulation.registry.register("watch", task)
    return story.start(*stages)


def run_for(story: Story, seconds: float) -> None:
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + int(seconds * 1000))


def reason(story: Story, at: int = 0) -> str:
    return str(story.workflow.stages[at].tasks[0].task_exception_details.get("message"))


@pytest.mark.parametrize("seed", seeds(10))
def test_its_answer_is_the_tasks_result(seed: int) -> None:
    """Between two polls, in any worker, with all that earlier executions learned."""
    task = Watching(lambda found: TaskResult.success({"gave up": found.context["job"]}))
    story = story_of(task, seed, stage("a", does="watch"), stage("b", "a"), faults=ROUGH)
    laws = Laws(story.simulation)
    story.run()
    run_for(story, 120)

    assert story.status == "SUCCEEDED"
    assert story.outputs("a") == {"gave up": 4}
    assert set(task.asked) == {"a"}
    assert task.bodies
    laws.require_the_end(story.id)


def raising(_found: StageExecution) -> TaskResult:
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (lambda _: None, "TERMINAL", "the task timed out after 20"),
        (lambda _: TaskResult.failed_continue(error="not today"), "SUCCEEDED", "not today"),
        (lambda _: TaskResult.running(), "TERMINAL", "answered RUNNING, which is no end"),
        (lambda _: TaskResult.suspend(), "TERMINAL", "answered SUSPENDED, which is no end"),
        (raising, "TERMINAL", "timed out after 20.0 s; on_timeout: RuntimeError: no idea"),
        (lambda _: "yes", "TERMINAL", "not a TaskResult"),
    ],
)
def test_an_answer_that_ends_nothing_is_a_failure_in_words(answer: Answer, status: str, told: str) -> None:
    """None is the plain time-out; a poll or a wait would go on for ever."""
    task = Watching(answer)
    story = story_of(task, 1, stage("a", does="watch")).run()

    assert story.status == status
    assert told in reason(story)
    assert len(task.asked) == 1


@pytest.mark.parametrize("seed", seeds(8))
def test_code_that_runs_when_its_time_is_over_comes_too_late(seed: int) -> None:
    """Somebody else asks `on_timeout` meanwhile; what the code returns then changes nothing."""

    def slow(_found: StageExecution) -> TaskResult:
        story.simulation.meanwhile(8_000)
        return TaskResult.success({"by": "body"}) if task.asked else TaskResult.running()

    task = Watching(lambda _: TaskResult.success({"by": "on_timeout"}), slow)
    story = story_of(task, seed, stage("a", does="watch"), stage("b", "a"))
    laws = Laws(story.simulation)
    story.run()
    run_for(story, 120)

    assert story.status == "SUCCEEDED"
    assert story.outputs("a") == {"by": "on_timeout"}
    assert len(task.asked) == 1
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(8))
def test_in_a_critical_section_it_waits_for_the_code_to_return(seed: int) -> None:
    """What it answers may let the stage go on: never two codes at once in the section."""
    inside: list[str] = []

    def slow(_found: StageExecution) -> TaskResult:
        inside.append("in")
        story.simulation.meanwhile(8_000)
        inside.append("out")
        return TaskResult.running()

    def answer(_found: StageExecution) -> TaskResult:
        inside.append("asked")
        return TaskResult.failed_continue(error="late")

    task = Watching(answer, slow)
    story = story_of(task, seed, stage("a", does="watch", mutex_key="k"), stage("b", "a", mutex_key="k"))
    laws = Laws(story.simulation)
    story.run()
    run_for(story, 120)

    assert story.statuses == {"a": "FAILED_CONTINUE", "b": "SUCCEEDED"}
    assert inside[-2:] == ["out", "asked"]
    laws.require_the_end(story.id)


class OwnLimit(Watching):
    """One whose limit is not its stage's."""

    @override
    def get_dynamic_timeout(self, stage: StageExecution) -> timedelta:
        return self.get_timeout()


@pytest.mark.parametrize("seed", seeds(5))
@pytest.mark.parametrize("more", [[], ["work"]])
def test_a_stages_time_out_asks_the_task_at_work_and_begins_no_other(seed: int, more: list[str]) -> None:
    """Its answer counts; but the stage has no time for another task."""
    task = OwnLimit(lambda _: TaskResult.success())
    story = story_of(task, seed, stage("a", does=["watch", *more], context={"stageTimeoutMs": 6_000}))
    laws = Laws(story.simulation)
    story.run()
    run_for(story, 120)

    assert len(task.asked) == 1
    assert story.status == ("TERMINAL" if more else "SUCCEEDED")
    assert story.bodies["a"] == 0
    assert task.bodies < 6
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(20))
def test_a_limit_that_is_the_stages_too_asks_once(seed: int) -> None:
    """Both deadlines pass at nearly one time, in any order: one question, and its answer counts."""
    task = Watching(lambda _: TaskResult.success())
    story = story_of(task, seed, stage("a", does="watch", context={"stageTimeoutMs": 6_000})).run()

    assert (story.status, task.asked) == ("SUCCEEDED", ["a"])


@pytest.mark.parametrize("seed", seeds(5))
def test_the_deadline_of_a_wait_asks_it_too(seed: int) -> None:
    """Nobody sent the signal: the task itself says what that means; a later signal wakes nobody."""
    task = Watching(lambda _: TaskResult.success({"approved": False}), lambda _: TaskResult.suspend())
    story = story_of(task, seed, stage("a", does="watch"), stage("z", does="approval"))
    run_for(story, 30)

    assert story.outputs("a") == {"approved": False}
    assert story.ask(outside.signal, "a", "go", None, transient=True).took_effect is False


def test_an_answer_that_never_comes_ends_the_task_all_the_same() -> None:
    """No worker knows the type any more: TERMINAL a minute after its time."""
    task = Watching(lambda _: TaskResult.success())
    story = story_of(task, 2, stage("a", does="watch"))
    laws = Laws(story.simulation)
    run_for(story, 10)
    story.simulation.registry.unregister("watch")
    run_for(story, LIMIT_S + 30)
    assert story.status == "RUNNING"
    story.run()
    run_for(story, 60)

    assert (story.status, task.asked) == ("TERMINAL", [])
    assert "timed out after" in reason(story)
    laws.require_the_end(story.id)


def test_a_task_cancelled_while_its_time_out_is_asked_is_cancelled() -> None:
    """What it answers comes too late."""

    def answer(_found: StageExecution) -> TaskResult:
        story.ask(outside.cancel, "enough", "ann")
        return TaskResult.success({"too": "late"})

    story = story_of(Watching(answer), 3, stage("a", does="watch"), stage("b", "a"))
    story.run()
    run_for(story, 120)

    assert (story.status, story.outputs("a")) == ("CANCELED", {})


@pytest.mark.parametrize("context", [{}, {"limit": 6}, {"limit": "soon"}])
def test_a_limit_that_depends_on_the_stage_is_asked_for(context: dict[str, object]) -> None:
    """With the whole context in sight; a limit that can't be told fails the task in words."""

    class Own(Watching):
        @override
        def get_dynamic_timeout(self, stage: StageExecution) -> timedelta:
            return timedelta(seconds=int(stage.context.get("limit", LIMIT_S)))

    task = Own(lambda _: None)
    source = stage("first", context={"outputs": context})
    story = story_of(task, 4, source, stage("a", "first", does="watch"))
    began_ms = story.simulation.now_us // 1000
    story.run()
    took_s = (story.simulation.now_us // 1000 - began_ms) / 1000

    assert story.status == "TERMINAL"
    if context.get("limit") == "soon":
        assert "its time limit" in reason(story, 1)
        assert task.bodies == 0
    else:
        assert took_s == pytest.approx(context.get("limit", LIMIT_S), abs=4)


@pytest.mark.parametrize("seed", seeds(6))
def test_pauses_count_for_each_deadline_by_itself(seed: int) -> None:
    """A stage's limit and its task's, over an hour of pause: neither forgets it because the other has seen it."""
    story = story_of(OwnLimit(lambda _: None), seed, stage("a", does="watch", context={"stageTimeoutMs": 60_000}))
    run_for(story, 5)
    story.ask(outside.pause, "ops")
    run_for(story, 3600)
    story.simulation.now_us += 3_600_000_000
    story.ask(outside.resume)
    run_for(story, 10)
    assert story.status == "RUNNING"
    run_for(story, 60)

    assert "the task timed out" in reason(story)
