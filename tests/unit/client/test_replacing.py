"""One workflow of a key at a time: the last call has it, whatever the order in which workers come to it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from stabilize_celery.client import Client, WorkflowHandle
from stabilize_celery.client.replacing import Replacement, only_one
from stabilize_celery.client.why import Reason
from stabilize_celery.errors import IdempotencyConflictError, WorkflowNotFoundError
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.settings import Settings
from stabilize_celery.testing import Simulation
from tests.pages import blocks, execute

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("key", "delay_s", "told"),
    [
        ("", 0, "key: must be a text that names the one workflow that may run, not ''"),
        ("  ", 0, "key: must be"),
        (5, 0, "key: must be a text .* not 5"),
        ("k", math.nan, "delay_s: must be a number of seconds from 0 on, not nan"),
        ("k", -5, "delay_s: must be a number of seconds from 0 on, not -5"),
        ("k", math.inf, "delay_s: must be"),
        ("k", 1e30, "delay_s: must be"),
        ("k", "5", "delay_s: must be a number of seconds from 0 on, not '5'"),
        (None, None, r"2 problems:\n +key: .*\n +delay_s: "),
    ],
    ids=str,
)
def test_a_key_or_a_delay_that_is_none_replaces_nothing(key: Any, delay_s: Any, told: str) -> None:
    """All that is wrong in one error, as of a definition; a delay below none would start it at once."""
    world = World()
    with pytest.raises(InvalidWorkflowError, match=told):
        world.replace("a", key, delay_s=delay_s)
    assert world.client.list().items == []


def a_workflow(name: str, application: str = "shop") -> Workflow:
    task = TaskExecution.create("t", "approval")
    stage = StageExecution(ref_id="a", context={"signal": "go", "deadline_s": 1_000_000}, tasks=[task])
    return Workflow.create(application, name, [stage])


class World:
    """A client over a simulated fleet, in virtual time."""

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        self.fleet = Simulation(seed=seed, settings=Settings(**settings))
        self.client = Client(settings=self.fleet.settings, store=self.fleet.store, publisher=self.fleet)

    def replace(self, name: str, key: str = "user-17", **options: Any) -> WorkflowHandle:
        return self.client.replace(a_workflow(name), key, **options)

    def replacement(self, name: str) -> Replacement:
        workflow = a_workflow(name)
        workflow.id = f"workflow-{name}"
        return Replacement.of(self.fleet.store, workflow, "user-17")

    def steps_of(self, name: str) -> list[Callable[[], object]]:
        """The steps of a call, to be made in this order."""
        one = self.replacement(name)
        return [
            one.take_key,
            lambda: self.client.start(one.workflow),
            lambda: one.take_place(lambda workflow_id, by: self.client.handle(workflow_id).cancel(by)),
        ]

    def statuses(self, *handles: WorkflowHandle, after_ms: int = HOUR_MS) -> list[str]:
        self.fleet.pass_time(after_ms)
        return [handle.status().name for handle in handles]


def test_what_runs_is_cancelled_and_the_new_one_runs() -> None:
    world = World()
    first = world.replace("first")
    assert world.statuses(first) == ["RUNNING"]
    second = world.replace("second")

    assert world.statuses(first, second) == ["CANCELED", "RUNNING"]
    assert first.get().cancellation_reason == f"replaced by {second.id}"


@pytest.mark.parametrize("seed", range(20))
def test_of_a_burst_the_last_one_stays(seed: int) -> None:
    """Before any worker has looked, and in any order of their messages."""
    world = World(seed)
    handles = [world.replace(f"number {n}") for n in range(5)]

    assert world.statuses(*handles) == ["CANCELED"] * 4 + ["RUNNING"]


def test_another_key_and_another_application_are_left_alone() -> None:
    world = World()
    others = [world.replace("other", key="user-18"), world.client.replace(a_workflow("other", "bank"), "user-17")]
    mine = world.replace("mine")

    assert world.statuses(*others, mine) == ["RUNNING"] * 3


def test_with_a_delay_the_last_call_counts_and_begins_that_much_later() -> None:
    """Debounce: what was replaced in time has not begun."""
    world = World()
    first = world.replace("first", delay_s=60)
    world.fleet.pass_time(59_000)
    second = world.replace("second", delay_s=60)

    assert world.statuses(first, second, after_ms=59_000) == ["CANCELED", "RUNNING"]
    begun = [handle.get().stages[0].start_time for handle in (first, second)]
    assert begun == [None, None]
    world.fleet.pass_time(2_000)
    assert second.get().stages[0].start_time is not None


def test_what_has_ended_is_left_as_it_is() -> None:
    world = World()
    first = world.replace("first")
    world.fleet.pass_time(HOUR_MS)
    first.signal("a", "go")
    assert world.statuses(first) == ["SUCCEEDED"]
    second = world.replace("second")

    assert world.statuses(first, second) == ["SUCCEEDED", "RUNNING"]


def test_a_call_that_is_made_again_starts_nothing_again() -> None:
    """Its answer was lost: the same workflow has the key, and is not cancelled for itself."""
    world = World()
    workflow = a_workflow("one")
    first = world.client.replace(workflow, "user-17")
    again = world.client.replace(workflow, "user-17")

    assert first == again
    assert world.statuses(first) == ["RUNNING"]


def test_a_call_that_is_made_again_waits_no_longer_than_the_first_one() -> None:
    """Its answer was lost: the delay counts from the call that started it."""
    world = World()
    workflow = a_workflow("one")
    first = world.client.replace(workflow, "user-17", delay_s=60)
    world.fleet.pass_time(30_000)
    again = world.client.replace(workflow, "user-17", delay_s=60)

    assert first == again
    world.fleet.pass_time(31_000)
    assert first.get().stages[0].start_time is not None


def test_a_late_repetition_of_a_call_takes_the_key_from_nobody() -> None:
    world = World()
    workflow = a_workflow("one")
    first = world.client.replace(workflow, "user-17")
    second = world.replace("two")
    world.client.replace(workflow, "user-17")

    assert world.statuses(first, second) == ["CANCELED", "RUNNING"]


def test_another_definition_under_the_id_of_one_that_was_started_changes_nothing() -> None:
    world = World()
    workflow = a_workflow("one")
    first = world.client.replace(workflow, "user-17")
    workflow.name = "another"
    with pytest.raises(IdempotencyConflictError, match="stands for another definition"):
        world.client.replace(workflow, "user-17")

    assert world.statuses(first) == ["RUNNING"]


def test_one_whose_retention_is_over_is_not_missed() -> None:
    world = World(retention_ms=HOUR_MS)
    first = world.replace("first")
    world.fleet.pass_time(1_000)
    first.signal("a", "go")
    world.fleet.pass_time(3 * HOUR_MS)
    with pytest.raises(WorkflowNotFoundError):
        first.status()

    assert world.statuses(world.replace("second")) == ["RUNNING"]


def test_who_waits_in_line_is_replaced_like_the_one_that_runs() -> None:
    """One that was replaced and restarted waits for the slot again; so does one that others started."""
    world = World()
    first = world.replace("first")
    world.fleet.pass_time(1_000)
    second = world.replace("second")
    world.fleet.pass_time(1_000)
    first.restart("a")
    other = world.client.start(only_one(a_workflow("other"), "user-17"))
    assert world.statuses(first, second, other, after_ms=1_000) == ["BUFFERED", "RUNNING", "BUFFERED"]
    third = world.replace("third")

    assert world.statuses(first, second, other, third) == ["CANCELED"] * 3 + ["RUNNING"]


def test_applications_with_a_colon_in_their_name_share_no_key() -> None:
    world = World()
    first = world.client.replace(a_workflow("first", "shop:eu"), "user-17")
    second = world.client.replace(a_workflow("second", "shop"), "eu:user-17")

    assert world.statuses(first, second) == ["RUNNING"] * 2


def test_a_caller_that_died_before_its_start_leaves_the_one_that_runs() -> None:
    """Never two at once, and the next call finds it by its lock."""
    world = World()
    first = world.replace("first")
    world.fleet.pass_time(1_000)
    world.replacement("dead").take_key()
    assert world.statuses(first) == ["RUNNING"]
    last = world.replace("last")

    assert world.statuses(first, last) == ["CANCELED", "RUNNING"]


@pytest.mark.parametrize("order", [*sorted(set(permutations("aaabbb")))], ids="".join)
def test_of_two_calls_at_once_one_workflow_stays(order: tuple[str, ...]) -> None:
    """Whatever the order of their steps: the one that took the key last runs, and nobody else."""
    world = World()
    last = max("ab", key=order.index)
    handles = {name: world.client.handle(f"workflow-{name}") for name in "ab"}
    steps = {name: iter(world.steps_of(name)) for name in "ab"}
    for name in order:
        next(steps[name])()
        world.fleet.pass_time(1_000)

    assert {name: world.statuses(handle) for name, handle in handles.items()} == {
        name: ["RUNNING" if name == last else "CANCELED"] for name in "ab"
    }


def test_the_given_workflow_is_left_as_it_was() -> None:
    world = World()
    workflow = a_workflow("mine")
    copy = Replacement.of(world.fleet.store, workflow, "k", 5).workflow

    assert (workflow.pipeline_config_id, workflow.stages[0].scheduled_time) == (None, None)
    assert (copy.id, copy.pipeline_config_id) == (workflow.id, "k")
    assert copy.stages[0].scheduled_time == world.fleet.store.time_ms() + 5_000


def test_the_page_shows_what_works(redis_url: str) -> None:
    """Its blocks, with this server's URL in place of theirs."""
    shown = blocks("docs/policies.md")
    urls = ("redis://localhost:6379/1", "redis://localhost:6379/0")
    here = [
        dataclasses.replace(one, code=one.code.replace(urls[0], redis_url).replace(urls[1], redis_url)) for one in shown
    ]
    names = execute(here)
    statuses = [names[one].status().name for one in ("first", "second", "latest")]
    priorities = {handle.get().priority for handle in names["in_bulk"]} | {names["urgent"].get().priority}
    names["client"].close()

    assert statuses == ["CANCELED", "CANCELED", "BUFFERED"]
    assert priorities == {0, 9}


def test_who_waits_for_the_code_of_the_one_before_is_told_so() -> None:
    """To cancel that would free nothing: it has ended, and its code has not returned."""
    world = World()
    found: list[Reason] = []

    def cut(stage: StageExecution) -> TaskResult:
        found.extend(world.replace("second").why())
        assert world.client.handle(stage.execution.id).status().name == "CANCELED"
        return TaskResult.success()

    world.fleet.registry.register("cut", cut)
    task = TaskExecution.create("t", "cut")
    first = Workflow.create("shop", "first", [StageExecution(ref_id="a", tasks=[task])])
    assert world.statuses(world.client.replace(first, "user-17")) == ["CANCELED"]

    (reason,) = found
    assert (reason.kind, "held by" in reason.text) == ("slot", True)
    assert "has ended, but its code has not returned" in reason.detail
    assert "cancel" not in reason.advice
