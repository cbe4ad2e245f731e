"""Workflows written with the builders do what their patterns say, on calm and on rough fleets."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.patterns import (
    critical_section,
    deferred_choice,
    exclusive_choice,
    instances,
    interleaved,
    milestone,
    multi_choice,
    repeat_until,
    while_loop,
)
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import JoinType, StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.call import current_call
from stabilize_celery.testing import run_workflow
from tests.simulation.stories import ROUGH, Story, stage, workflow

SEEDS = range(8)


def work(stage: StageExecution) -> Mapping[str, Any]:
    return stage.context.get("outputs", {})


def count(stage: StageExecution) -> Mapping[str, Any]:
    """Count its own runs in what flows on: name of the stage -> how often."""
    return {stage.ref_id: stage.context.get(stage.ref_id, 0) + 1}


TASKS = {"work": work, "count": count}


def ran(*stages: StageExecution, seed: int = 0, **more: Any) -> Workflow:
    return run_workflow(workflow(*stages, **more), TASKS, seed)


def statuses(done: Workflow) -> dict[str, str]:
    return {one.ref_id: one.status.name for one in done.stages}


@pytest.mark.parametrize(
    ("build", "n", "taken"),
    [
        (exclusive_choice, 15, {"b"}),
        (exclusive_choice, 7, {"c"}),
        (exclusive_choice, 1, {"d"}),
        (multi_choice, 15, {"b", "c"}),
        (multi_choice, 7, {"c"}),
        (multi_choice, 1, {"d"}),
    ],
)
def test_a_choice_takes_its_branches(build: Any, n: int, taken: set[str]) -> None:
    """WCP-4: the first that holds, in written order. WCP-6: all that hold. The default where none does."""
    done = ran(
        build(stage("a", context={"outputs": {"n": n}}), {"b": "n > 10", "c": "n > 5"}, default="d"),
        stage("b", "a"),
        stage("c", "a"),
        stage("d", "a"),
        stage("z", "b", "c", "d", join_type=JoinType.OR),
    )

    assert done.status.name == "SUCCEEDED"
    assert {ref for ref, status in statuses(done).items() if status == "SUCCEEDED"} == {"a", "z", *taken}


@pytest.mark.parametrize("build", [exclusive_choice, multi_choice])
@pytest.mark.parametrize("condition", ["n > 1", "m > 1"])
def test_a_choice_that_can_not_be_made_fails_its_stage(build: Any, condition: str) -> None:
    """No condition holds and there is no default, or one can't be evaluated."""
    done = ran(build(stage("a", context={"n": 0}), {"b": condition}), stage("b", "a"))

    assert statuses(done) == {"a": "TERMINAL", "b": "SKIPPED"}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_outside_picks_one_of_what_is_offered(seed: int) -> None:
    """WCP-16: the others are skipped; a second choice is refused."""
    story = Story(seed, ROUGH).start(
        stage("ask"), *deferred_choice("answer", stage("yes"), stage("no"), after="ask"), stage("z", "yes")
    )
    story.run()
    assert story.ask(outside.choose, "no").took_effect
    assert not story.ask(outside.choose, "yes").took_effect
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.statuses == {"ask": "SUCCEEDED", "yes": "SKIPPED", "no": "SUCCEEDED", "z": "SKIPPED"}


def test_what_is_offered_chooses_itself_when_its_time_is_over() -> None:
    """WCP-16: nobody has answered within an hour, of virtual time."""
    done = ran(
        stage("ask"),
        *deferred_choice("g", stage("yes"), stage("late"), after="ask", choose_after_ms={"late": 3_600_000}),
    )

    assert statuses(done) == {"ask": "SUCCEEDED", "yes": "SKIPPED", "late": "SUCCEEDED"}
    assert (done.end_time or 0) - (done.start_time or 0) >= 3_600_000


def spans(done: Workflow, *refs: str) -> tuple[int, int]:
    """When the first of these stages started and the last one ended (ms)."""
    stages = [one for one in done.stages if one.ref_id in refs]
    return min(one.start_time or 0 for one in stages), max(one.end_time or 0 for one in stages)


def slow(ref_id: str, *after: str, **more: Any) -> StageExecution:
    return stage(ref_id, *after, does="wait", context={"seconds": 1}, **more)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_sections_of_one_key_do_not_interleave(seed: int) -> None:
    """WCP-39: also in one workflow, with the default names."""
    done = ran(
        *critical_section("dock", slow("a"), slow("b", "a")),
        *critical_section("dock", slow("c"), slow("d", "c")),
        seed=seed,
    )
    first, second = sorted((spans(done, "a", "b"), spans(done, "c", "d")))

    assert done.status.name == "SUCCEEDED"
    assert first[1] <= second[0]


def test_as_many_hold_a_key_as_its_limit_says() -> None:
    """WCP-39 with a limit: two of three stages start at once, the third a second later."""
    done = ran(*(stage for ref in "abc" for stage in critical_section("dock", slow(ref), limit=2)))
    first, second, third = sorted(one.start_time or 0 for one in done.stages)

    assert second - first < 1_000 <= third - first


@pytest.mark.parametrize("seed", SEEDS)
def test_interleaved_stages_take_turns(seed: int) -> None:
    """WCP-17: one at a time, in an order that the requisites allow."""
    done = ran(
        stage("s"), *interleaved(slow("a", "s"), slow("b", "a"), slow("c", "s")), stage("z", "b", "c"), seed=seed
    )
    turns = sorted(spans(done, ref) for ref in "abc")

    assert done.status.name == "SUCCEEDED"
    assert all(before[1] <= after[0] for before, after in pairwise(turns))
    assert spans(done, "a")[1] <= spans(done, "b")[0]


@pytest.mark.parametrize(("status", "ends"), [("RUNNING", "SUCCEEDED"), ("TERMINAL", "SKIPPED")])
def test_a_milestone_lets_a_stage_start_or_is_missed(status: str, ends: str) -> None:
    """WCP-18: b starts while m runs; nobody waits for a status that can't come any more."""
    done = ran(slow("m"), milestone(stage("b"), "m", status))

    assert statuses(done) == {"m": "SUCCEEDED", "b": ends}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("settings", "started", "ended_well"),
    [
        ({"count": 4}, 4, 4),
        ({"count": 0}, 0, 0),
        ({"count_from": "n"}, 3, 3),
        ({"over": "files", "at_once": 1}, 2, 2),
        ({"count": 4, "threshold": 9}, 4, 4),
        ({"count": 4, "wait": False}, 4, 4),
        ({"count": 4, "threshold": 2}, 4, 4),
        ({"count": 4, "threshold": 1, "cancel_rest": True, "at_once": 1}, None, 1),
        ({"count": 4, "until": "completed == 2", "cancel_rest": True, "at_once": 1}, None, 2),
    ],
)
def test_instances_run_and_the_thread_goes_on(
    seed: int, settings: dict[str, Any], started: int | None, ended_well: int
) -> None:
    """WCP-12 to 15, 34 to 36."""
    story = Story(seed).start(
        stage("a", context={"outputs": {"n": 3, "files": ["x", "y"]}}),
        instances(stage("m", "a"), **settings),
        stage("z", "m"),
    )
    story.run()

    assert (story.status, story.bodies["z"]) == ("SUCCEEDED", 1)
    assert len(story.events("instance.completed")) == ended_well
    assert started is None or len(story.events("instance.started")) == started


@pytest.mark.parametrize("seed", SEEDS)
def test_a_body_is_repeated_until_its_condition_holds(seed: int) -> None:
    """WCP-21: a and b run three times each, z once."""
    done = ran(
        stage("a", does="count"), repeat_until(stage("b", "a", does="count"), "b == 3", "a"), stage("z", "b"), seed=seed
    )

    assert statuses(done) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "z": "SUCCEEDED"}
    assert (done.get_context()["a"], done.get_context()["b"]) == (3, 3)


def test_a_stage_may_repeat_itself_once() -> None:
    """WCP-21: the smallest body; a condition that holds at once means one pass."""
    assert ran(repeat_until(stage("a", does="count"), "a >= 1", "a")).get_context() == {"a": 1}
    assert ran(repeat_until(stage("a", does="count"), "a >= 4", "a")).get_context() == {"a": 4}


@pytest.mark.parametrize("passes", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_while_loop_may_run_its_body_never(seed: int, passes: int) -> None:
    """WCP-21: the condition is looked at before each pass."""
    done = ran(
        while_loop(stage("h"), "c < limit", body="b", exit="z", last=(last := stage("c", "b", does="count"))),
        stage("b", "h", does="count"),
        last,
        stage("z", "h"),
        context={"c": 0, "limit": passes},
        seed=seed,
    )

    assert done.status.name == "SUCCEEDED"
    assert statuses(done)["b"] == ("SUCCEEDED" if passes else "SKIPPED")
    assert done.get_context().get("c", 0) == passes


@pytest.mark.parametrize("seed", SEEDS)
def test_loops_inside_each_other_may_end_at_one_stage(seed: int) -> None:
    """Two passes of the outer loop; the inner one goes round twice in the first, once in the second."""
    last = stage("c", "b", does="count")
    repeat_until(last, "c >= 2", "b")
    repeat_until(last, "a >= 2", "a")
    bodies: Counter[str] = Counter()

    def counted(stage: StageExecution) -> Mapping[str, Any]:
        bodies[stage.ref_id] += 1
        return count(stage)

    story = Story(seed, count=counted).start(
        stage("a", does="count"), stage("b", "a", does="count"), last, stage("z", "c")
    )
    story.run()

    assert story.status == "SUCCEEDED"
    assert (bodies, story.bodies["z"]) == ({"a": 2, "b": 3, "c": 3}, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loop_is_not_steered_by_the_loop_before_it(seed: int) -> None:
    """Two loops in a row, and an upstream output with the name of a setting: each goes back to its own start."""
    noise = {"jump_to": "a", "jump_if": "True", "jumps": {"back to c": {"jump_to": "a"}}}
    done = ran(
        stage("a", does="count"),
        repeat_until(stage("b", "a", does="count"), "b == 2", "a"),
        stage("noise", "b", context={"outputs": noise}),
        stage("c", "noise", does="count"),
        repeat_until(stage("d", "c", does="count"), "d == 3", "c"),
        seed=seed,
    )

    assert done.status.name == "SUCCEEDED"
    assert {ref: done.get_context()[ref] for ref in "abcd"} == {"a": 2, "b": 2, "c": 3, "d": 3}


def test_a_jump_without_settings_does_not_take_those_of_another_stage() -> None:
    """It fails, in words, though upstream has some in its context and in its outputs."""
    settings = {"jump_to": "a", "jump_if": "False"}
    done = ran(
        stage("a", does=["work", "jump"], context={"outputs": settings, **settings}, jump_targets=["a"]),
        stage("b", "a", does="jump", jump_targets=["a"]),
        context={"jump_to": "a"},
    )

    assert statuses(done) == {"a": "SUCCEEDED", "b": "TERMINAL"}
    failed = done.stages[1].tasks[0].task_exception_details
    assert "`jump_to` must be a text that is not empty; it is missing" in str(failed)


@pytest.mark.parametrize("condition", ["unknown > 1", "b > 'x'"])
def test_a_loop_whose_condition_can_not_be_evaluated_fails_at_once(condition: str) -> None:
    """Not tried again: the body ran once."""
    story = Story(count=count).start(repeat_until(stage("b", does=["work", "count"]), condition, "b"))
    story.run()

    assert (story.statuses, story.bodies["b"]) == ({"b": "TERMINAL"}, 1)


def test_a_loop_without_end_is_ended_by_the_bound() -> None:
    """More than max_jumps passes fail the jumping stage."""
    done = ran(repeat_until(stage("a", does="count"), "False", "a"), max_jumps=5)

    assert statuses(done) == {"a": "TERMINAL"}
    assert done.get_context()["a"] <= 6


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_inside_a_loop_works_anew_in_each_pass(seed: int) -> None:
    """Instances and a choice in the body of a loop, whose end joins the branches."""

    def index(_: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={"seen": current_call().instance_index})

    last = repeat_until(stage("j", "b", "c", does="count", join_type=JoinType.OR), "j == 3", "a")
    story = Story(seed, ROUGH, count=count, index=index).start(
        exclusive_choice(instances(stage("a", does="index"), count=2), {"b": "j == 1"}, default="c"),
        stage("b", "a", does="count"),
        stage("c", "a", does="count"),
        last,
        context={"j": 0},
    )
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.outputs("a") == {"seen": [0, 1]}
    assert (story.outputs("b"), story.outputs("c")) == ({"b": 1}, {"c": 2})
