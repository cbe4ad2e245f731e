"""Deadlines beside pauses, locks and code that still runs (PROTOCOL 4.2, 4.3, 10)."""

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from tests.simulation.stories import ROUGH, Story, stage

SEEDS = range(12)
MINUTE_US = 60_000_000


def waiting(ref_id: str, **context: object) -> StageExecution:
    return stage(ref_id, does="approval", context={"signal": "s", **context})


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["stage", "wait", "workflow"])
def test_time_spent_paused_does_not_count(seed: int, kind: str) -> None:
    """Paused for an hour with a deadline of a minute: a minute is left afterwards, no more and no less."""
    context = {"stage": {"stageTimeoutMs": 60_000}, "wait": {"deadline_s": 60}, "workflow": {}}[kind]
    more = {"timeout_ms": 60_000} if kind == "workflow" else {}
    story = Story(seed, ROUGH).start(waiting("gate", **context), **more)
    _run_until(story, 20_000_000)
    assert story.ask(outside.pause, "ops").took_effect
    _run_until(story, 60 * MINUTE_US)
    assert story.status == "PAUSED"
    assert story.ask(outside.resume).took_effect
    _run_until(story, 30_000_000)
    assert story.status == "RUNNING"

    _run_until(story, 4 * MINUTE_US)

    assert story.status == "TERMINAL"


@pytest.mark.parametrize("kind", ["stage", "wait", "workflow"])
def test_a_deadline_that_fell_into_a_pause_comes_in_time_after_it(kind: str) -> None:
    """Of five seconds four were left: not a minute more, and nobody looks for it meanwhile."""
    context = {"stage": {"stageTimeoutMs": 5_000}, "wait": {"deadline_s": 5}, "workflow": {}}[kind]
    more = {"timeout_ms": 5_000} if kind == "workflow" else {}
    story = Story().start(waiting("gate", **context), **more)
    _run_until(story, 1_000_000)
    story.ask(outside.pause, "ops")
    _run_until(story, 8_000_000)
    story.ask(outside.resume)
    _run_until(story, 3_900_000)
    assert story.status == "RUNNING"
    _run_until(story, 1_000_000)

    assert story.status == "TERMINAL"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lock_is_kept_while_code_of_a_later_task_still_runs_after_a_time_out(seed: int) -> None:
    """The second task of a stage is at work when its stage times out: the next holder waits for it to return."""
    inside: list[str] = []
    overlaps: list[tuple[str, ...]] = []
    story = Story(seed)

    def slow(found: StageExecution) -> TaskResult:
        inside.append(found.ref_id)
        if found.ref_id == "first":
            story.simulation.meanwhile(8_000)
        overlaps.append(tuple(inside))
        inside.remove(found.ref_id)
        return TaskResult.success()

    story.simulation.registry.register("slow", slow)
    first = stage(
        "first", does=["work", "slow"], mutex_key="k", context={"stageTimeoutMs": 3_000, "failPipeline": False}
    )
    story.start(first, stage("second", "a", does="slow", mutex_key="k"), stage("a")).run()

    assert (story.status, story.statuses["first"]) == ("SUCCEEDED", "STOPPED")
    assert max(map(len, overlaps)) == 1
    _run_until(story, 1_000_000)
    assert story.simulation.store.locks() == []


def _run_until(story: Story, more_us: int) -> None:
    until_us = story.simulation.now_us + more_us
    story.simulation.drain(until_ms=until_us // 1000)
    story.simulation.now_us = max(until_us, story.simulation.now_us)
