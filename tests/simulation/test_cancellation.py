"""Cancelled tasks are told by their `on_cancel`: while they run, between two polls, while they wait (PROTOCOL 4.3)."""

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.errors import TransientError
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.cancellation import current_cancellation_token
from stabilize_celery.tasks.task import Task
from tests.simulation.laws import Laws
from tests.simulation.stories import CALM, ROUGH, Story, stage
from tests.simulation.tuning import seeds

MINUTE_MS = 60_000


class Job(Task):
    """Starts a job elsewhere, and polls it, or waits for it, for ever."""

    def __init__(self, answer: Callable[[StageExecution], TaskResult]) -> None:
        self.answer = answer
        self.told: list[dict[str, Any]] = []
        self.raises = False

    def execute(self, stage: StageExecution) -> TaskResult:
        return self.answer(stage)

    def on_cancel(self, stage: StageExecution) -> TaskResult | None:
        call, token = current_call(), current_cancellation_token()
        assert token is not None
        self.told.append(
            {
                "ref": stage.ref_id,
                "job": stage.context.get("job"),
                "given": stage.context.get("given"),
                "key": call.idempotency_key,
                "why": token.reason,
                "status": stage.status.name,
            }
        )
        if self.raises:
            raise RuntimeError("no such job")
        return TaskResult.canceled({"not": "kept"})


def polling(found: StageExecution) -> TaskResult:
    return TaskResult.running({"job": f"job of {found.ref_id}"})


def suspending(found: StageExecution) -> TaskResult:
    return TaskResult.suspend({"job": f"job of {found.ref_id}"})


def failing(_found: StageExecution) -> TaskResult:
    raise TransientError("busy", retry_after=3600, context_update={"job": "job of a"})


def told_of(job: Job, seed: int, faults: Any, *stages: StageExecution, **more: Any) -> Story:
    story = Story(seed, faults)
    story.simulation.registry.register("job", job)
    return story.start(*stages, context={"given": 7}, **more)


def run_for(story: Story, ms: int) -> None:
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + ms)


@pytest.mark.parametrize("seed", seeds(6))
@pytest.mark.parametrize("answer", [polling, suspending, failing])
@pytest.mark.parametrize("way", ["workflow", "stage", "skip", "region"])
def test_a_task_that_is_cancelled_between_its_executions_is_told_once(
    seed: int, answer: Callable[[StageExecution], TaskResult], way: str
) -> None:
    """By a message that a worker handles which knows the type, after the workflow's end too, with all that it knew."""
    job = Job(answer)
    story = told_of(job, seed, CALM, stage("a", does="job", cancel_region="r"), stage("b", "a"))
    laws = Laws(story.simulation)
    run_for(story, MINUTE_MS)
    assert job.told == []

    asked = {
        "workflow": lambda: story.ask(outside.cancel, "changed my mind", "ann"),
        "stage": lambda: story.ask(outside.cancel_stage, "a"),
        "skip": lambda: story.ask(outside.skip_stage, "a"),
        "region": lambda: story.ask(outside.cancel_region, "r"),
    }[way]()
    assert asked.took_effect
    run_for(story, MINUTE_MS)

    (told,) = job.told
    assert (told["ref"], told["job"], told["given"]) == ("a", "job of a", 7)
    assert told["why"].startswith("cancelled: ")
    assert told["status"] == ("SKIPPED" if way == "skip" else "CANCELED")
    assert told["key"].startswith(f"{story.id}/a/")
    assert story.events("task.cancel_told") == ["a"]
    assert "not" not in story.outputs("a")
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(15))
def test_it_is_told_at_least_once_whatever_is_lost(seed: int) -> None:
    """Messages lost and doubled, workers that die in the midst; and a hook that raises holds nothing up."""
    job = Job(polling)
    job.raises = bool(seed % 2)
    story = told_of(job, seed, ROUGH, stage("a", does="job"), stage("b", "a"))
    laws = Laws(story.simulation)
    run_for(story, 20_000)

    story.ask(outside.cancel, "enough", "ann")
    run_for(story, 5 * MINUTE_MS)

    assert story.status == "CANCELED"
    assert {told["ref"] for told in job.told} == {"a"}
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(6))
@pytest.mark.parametrize("after", [{"does": ["approval", "fail"]}, {"does": "approval", "cancels_regions": ["r"]}])
def test_what_other_stages_take_away_is_told(seed: int, after: dict[str, Any]) -> None:
    """A sibling that fails the workflow, a stage that clears a region: each is a cancellation."""
    job = Job(polling)
    story = told_of(job, seed, CALM, stage("a", does="job", cancel_region="r"), stage("c", **after))
    run_for(story, MINUTE_MS)
    story.ask(outside.signal, "c", "approve", None)
    run_for(story, MINUTE_MS)

    assert story.status == ("TERMINAL" if "fail" in after["does"] else "SUCCEEDED")
    assert [told["job"] for told in job.told] == ["job of a"]


@pytest.mark.parametrize("seed", seeds(6))
def test_instances_that_are_not_needed_any_more_are_told(seed: int) -> None:
    """Each by itself, under its own key."""
    job = Job(lambda found: TaskResult.success() if found.context.get("late") else suspending(found))
    config = MultiInstanceConfig(count=3, join_threshold=1, cancel_remaining=True)
    story = told_of(job, seed, CALM, stage("m", does="job", mi_config=config))
    run_for(story, MINUTE_MS)
    job.answer = lambda _: TaskResult.success()
    story.ask(outside.signal, "m", "any", None, instance=1)
    run_for(story, MINUTE_MS)

    assert story.status == "SUCCEEDED"
    assert len({told["key"] for told in job.told}) == len(job.told) == 2


@pytest.mark.parametrize("seed", seeds(4))
def test_who_never_began_or_has_ended_is_told_nothing(seed: int) -> None:
    """A first task that is done, a second that waits for a worker, a stage that was not reached."""
    job = Job(lambda _: TaskResult.success())
    story = told_of(
        job, seed, CALM, stage("a", does=["job", "unheard"]), stage("b", "a", does="job"), stage("c", does="approval")
    )
    run_for(story, MINUTE_MS)
    story.ask(outside.cancel, "enough", "ann")
    run_for(story, MINUTE_MS)

    assert story.status == "CANCELED"
    assert job.told == []
    assert story.events("task.cancel_told") == []


@pytest.mark.parametrize("seed", seeds(8))
@pytest.mark.parametrize("mutex", [None, "k"])
def test_a_body_that_returns_after_its_cancellation_is_told_by_its_own_process(seed: int, mutex: str | None) -> None:
    """At once, by the object and with the stage that it ran with; what it returned changes nothing."""
    stages: list[StageExecution] = []

    def slow(found: StageExecution) -> TaskResult:
        stages.append(found)
        found.context["local"] = "only here"
        story.ask(outside.cancel_stage, "a")
        story.simulation.meanwhile(2_000)
        return TaskResult.running({"job": "too late"})

    job = Job(slow)
    story = told_of(job, seed, CALM, stage("a", does="job", mutex_key=mutex), stage("z", mutex_key=mutex))
    laws = Laws(story.simulation)
    before_ms = story.simulation.now_us // 1000
    story.run()
    assert story.simulation.now_us // 1000 - before_ms < 20_000
    run_for(story, MINUTE_MS)

    assert story.statuses == {"a": "CANCELED", "z": "SUCCEEDED"}
    assert [told["job"] for told in job.told] == [None]
    assert len(stages) == 1
    assert "job" not in story.workflow.stages[0].context
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(8))
def test_a_cancelled_body_whose_process_dies_is_told_by_another(seed: int) -> None:
    """Half a minute later: nobody knows before whether its own process will."""

    def dying(_found: StageExecution) -> TaskResult:
        story.ask(outside.cancel, "enough", "ann")
        story.simulation.meanwhile(1_000)
        story.simulation.die()

    job = Job(dying)
    story = told_of(job, seed, CALM, stage("a", does="job"))
    laws = Laws(story.simulation)
    story.run()
    run_for(story, 20_000)
    assert job.told == []
    run_for(story, MINUTE_MS)

    assert [told["ref"] for told in job.told] == ["a"]
    laws.require_the_end(story.id)


def test_a_body_that_lost_its_claim_to_another_worker_is_not_cancelled() -> None:
    """It comes too late, and that is all."""
    begun: list[int] = []

    def slow(_found: StageExecution) -> TaskResult:
        begun.append(1)
        if len(begun) == 1:
            story.simulation.meanwhile(30_000)
        return TaskResult.success()

    job = Job(slow)
    story = told_of(job, 0, CALM, stage("a", does="job"))
    story.run()
    run_for(story, MINUTE_MS)

    assert len(begun) == 2
    assert job.told == []


def test_a_type_that_nobody_knows_any_more_waits_for_a_worker_that_does() -> None:
    """It does not hold the workflow's end up; it is told once somebody knows it again."""
    job = Job(polling)
    story = told_of(job, 3, CALM, stage("a", does="job"))
    run_for(story, 20_000)
    story.simulation.registry.unregister("job")
    story.ask(outside.cancel, "enough", "ann")
    run_for(story, MINUTE_MS)
    assert (story.status, job.told) == ("CANCELED", [])

    story.simulation.registry.register("job", job)
    run_for(story, MINUTE_MS)

    assert len(job.told) == 1
