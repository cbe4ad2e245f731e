"""Attempts of a task: dying workers, leases that run out under living code, late results (PROTOCOL 4.1)."""

import pytest

from stabilize_celery.errors import TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.settings import Settings
from stabilize_celery.tasks.call import current_call
from stabilize_celery.testing import Simulation
from tests.simulation.laws import Laws
from tests.simulation.stories import CALM, ROUGH, Story, stage, workflow
from tests.simulation.tuning import seeds

LEASE_MS = Settings().lease_ms


@pytest.mark.parametrize("seed", seeds(6))
@pytest.mark.parametrize("mutex", [None, "k"])
def test_a_task_that_kills_its_workers_is_given_up_with_a_reason(seed: int, mutex: str | None) -> None:
    """Poison: TERMINAL after `max_lost` lost attempts, in words; the lock is free again."""
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    bodies: list[int] = []

    def poison(_stage: StageExecution) -> TaskResult:
        bodies.append(current_call().attempt)
        story.simulation.die()

    story.simulation.registry.register("poison", poison)
    story.start(stage("a", does="poison", mutex_key=mutex), stage("b", "a")).run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    error = story.workflow.stages[0].tasks[0].task_exception_details
    assert story.status == "TERMINAL"
    assert 1 <= len(bodies) <= Settings().max_lost
    assert bodies == sorted(set(bodies))
    assert "lost its worker" in error["message"]
    assert "'poison'" in error["message"]
    assert str(Settings().max_lost) in error["message"]
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(10))
def test_a_task_whose_worker_dies_now_and_then_succeeds(seed: int) -> None:
    """Fewer losses in a row than the limit are made good; a poll in between starts the count anew."""
    story = Story(seed, CALM)
    deaths = iter([True, True, False, True, True, False])

    def unlucky(found: StageExecution) -> TaskResult:
        if next(deaths):
            story.simulation.die()
        return TaskResult.success() if found.context.get("polled") else TaskResult.running({"polled": True})

    story.simulation.registry.register("unlucky", unlucky)
    story.start(stage("a", does="unlucky")).run()

    assert story.status == "SUCCEEDED"
    assert story.simulation.deaths == 4


@pytest.mark.parametrize("seed", seeds(25))
def test_the_outputs_of_an_attempt_that_lost_its_claim_never_show(seed: int) -> None:
    """The lease of slow code runs out, a second attempt begins: one result counts, whole, and the same everywhere."""
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    begun: list[int] = []
    seen: list[int] = []

    def slow(_found: StageExecution) -> TaskResult:
        me = len(begun)
        begun.append(me)
        if me < 2:
            story.simulation.meanwhile(LEASE_MS + 3_000)
        return TaskResult.success(outputs={"by": me, f"only {me}": True})

    def look(found: StageExecution) -> TaskResult:
        seen.append(found.context["by"])
        return TaskResult.success()

    story.simulation.registry.register("slow", slow)
    story.simulation.registry.register("look", look)
    story.start(stage("a", does="slow"), stage("b", "a", does="look")).run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    outputs = story.outputs("a")
    assert story.status == "SUCCEEDED"
    assert outputs == {"by": outputs["by"], f"only {outputs['by']}": True}
    assert set(seen) == {outputs["by"]}
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(20))
def test_a_late_failure_does_not_undo_the_attempt_that_replaced_it(seed: int) -> None:
    """The zombie raises, retries, polls or dies: whatever it answers comes too late."""
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    begun: list[int] = []

    def slow(_found: StageExecution) -> TaskResult:
        begun.append(len(begun))
        if len(begun) > 1:
            return TaskResult.success(outputs={"by": "second"})
        story.simulation.meanwhile(LEASE_MS + 8_000)
        if len(begun) == 1:
            return TaskResult.success(outputs={"by": "first"})
        answers = [TaskResult.running, TaskResult.suspend, lambda: TaskResult.terminal(error="late")]
        if seed % 4 == 3:
            raise TransientError("late")
        return answers[seed % 4]()

    story.simulation.registry.register("slow", slow)
    story.start(stage("a", does="slow"), stage("b", "a")).run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    assert story.status == "SUCCEEDED"
    assert story.outputs("a")["by"] in ("first", "second")
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(10))
def test_every_try_of_a_task_has_the_same_idempotency_key_and_a_number_of_its_own(seed: int) -> None:
    """Retries and losses count up; another task, stage or workflow has another key."""
    calls: list[tuple[str, int]] = []

    def flaky(found: StageExecution) -> TaskResult:
        call = current_call()
        calls.append((call.idempotency_key, call.attempt))
        tries = found.context.get("tries", 0)
        if tries < 2:
            raise TransientError("again", retry_after=0.01, context_update={"tries": tries + 1})
        return TaskResult.success()

    simulation = Simulation(seed, {"flaky": flaky}, faults=ROUGH)
    ids = [simulation.start(workflow(stage("a", does=["flaky", "flaky"]), stage("b", does="flaky"))) for _ in range(2)]
    simulation.run(*ids)

    keys = {key for key, _ in calls}
    assert len(keys) == 6
    for key in keys:
        attempts = [attempt for other, attempt in calls if other == key]
        assert max(attempts) >= 3 or "a/" in key
        assert attempts == sorted(attempts)
