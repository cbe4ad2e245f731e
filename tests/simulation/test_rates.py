"""A task type with a rate limit is executed that often at most, by however many workers, in every mode."""

from __future__ import annotations

from typing import Any

import pytest

from stabilize_celery.client.why import explain
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.rates import wait_for_turn_ms
from stabilize_celery.settings import MODES, Settings
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.testing import Simulation


def texts(count: int, *, in_a_row: bool) -> Workflow:
    stages = []
    for number in range(count):
        before = {f"s{number - 1}"} if in_a_row and number else set()
        task = TaskExecution.create("t", "text")
        stages.append(StageExecution(ref_id=f"s{number}", tasks=[task], requisite_stage_ref_ids=before))
    return Workflow.create("shop", "texts", stages)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("in_a_row", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_executions_keep_their_distance(mode: str, in_a_row: bool, seed: int) -> None:
    """Branches, and stages that one process would go on with."""
    registry = TaskRegistry()
    times: list[int] = []

    @registry.task("text", rate_per_s=2)
    def text(stage: StageExecution) -> TaskResult:
        times.append(fleet.now_us)
        return TaskResult.success()

    fleet = Simulation(tasks=registry, seed=seed, settings=Settings(mode=mode))
    done = fleet.finish(fleet.start(texts(8, in_a_row=in_a_row)))

    assert done.status.name == "SUCCEEDED"
    assert len(times) == 8
    assert times[-1] - times[0] >= 7 * 499_000
    in_a_second = max(sum(first <= at < first + 1_000_000 for at in times) for first in times)
    assert in_a_second <= 3


def test_why_says_that_it_waits_for_its_turn() -> None:
    registry = TaskRegistry()
    registry.register("text", lambda stage: TaskResult.success(), options=TaskOptions(rate_per_s=0.01))
    fleet = Simulation(tasks=registry)
    workflow_id = fleet.start(texts(2, in_a_row=False))
    fleet.pass_time(5_000)

    [reason] = explain(fleet.store, workflow_id, fleet.settings)
    assert "waits for its turn" in str(reason)
    assert "rate limit of the task type 'text'" in str(reason)


class Clock:
    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000
        self.store = MemoryStore(lambda: self.now_us)

    def ask(self, who: str, per_s: float = 2.0, task_type: str = "text") -> int:
        return wait_for_turn_ms(self.store, task_type, per_s, who)


def test_turns_are_given_in_the_order_of_coming_and_kept() -> None:
    clock = Clock()

    assert [clock.ask(who) for who in "abc"] == [0, 500, 1000]
    assert [clock.ask(who) for who in "cb"] == [1000, 500]
    clock.now_us += 500_000
    assert [clock.ask(who) for who in "bc"] == [0, 500]
    assert clock.ask("d") == 1000


def test_a_turn_is_used_up_by_taking_it() -> None:
    """The same task's next execution has to wait for another one."""
    clock = Clock()

    assert [clock.ask("a"), clock.ask("a")] == [0, 500]


def test_time_without_executions_is_not_saved_up() -> None:
    clock = Clock()
    clock.ask("a")
    clock.now_us += 3_600_000_000

    assert [clock.ask("b"), clock.ask("c")] == [0, 500]


def test_types_dont_wait_for_each_other() -> None:
    clock = Clock()
    clock.ask("a")

    assert clock.ask("a", task_type="mail") == 0


@pytest.mark.parametrize("rate", [0, -1, 1e9, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate: Any) -> None:
    with pytest.raises(ConfigurationError, match="rate_per_s"):
        TaskOptions(rate_per_s=rate)
