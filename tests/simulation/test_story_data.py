"""What stages see of each other, and how branches are chosen by it."""

from typing import Any

import pytest

from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SplitType
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.runtime.reading import read_view
from tests.simulation.stories import Story, stage


def test_data_comes_from_the_causal_past_and_never_from_a_sibling() -> None:
    """b sees a's output, not c's; d sees both."""
    seen: dict[str, dict[str, Any]] = {}

    def look(stage: StageExecution) -> TaskResult:
        seen[stage.ref_id] = {name: stage.context.get(name) for name in ("a", "b", "c")}
        return TaskResult.success(outputs={stage.ref_id: stage.ref_id})

    stages = [stage(r, *u, does="look") for r, *u in (("a",), ("b", "a"), ("c", "a"), ("d", "b", "c"))]
    Story(3, look=look).start(*stages).run()

    assert seen["b"] == {"a": "a", "b": None, "c": None}
    assert seen["c"] == {"a": "a", "b": None, "c": None}
    assert seen["d"] == {"a": "a", "b": "b", "c": "c"}


def test_reducers_combine_what_branches_wrote() -> None:
    """`sum` over the branches' values; without a reducer the latest value wins."""
    seen: dict[str, Any] = {}

    def look(stage: StageExecution) -> TaskResult:
        seen.update(stage.context)
        return TaskResult.success()

    branches = [stage(f"b{i}", "a", context={"outputs": {"n": i, "names": [f"b{i}"]}}) for i in range(4)]
    joined = stage("j", *(b.ref_id for b in branches), does="look", output_reducers={"n": "sum", "names": "extend"})
    Story(1, look=look).start(stage("a"), *branches, joined).run()

    assert seen["n"] == 6
    assert sorted(seen["names"]) == ["b0", "b1", "b2", "b3"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"context": {"stageEnabled": {"type": "expression", "expression": "n > 1"}}},
        {"mi_config": MultiInstanceConfig(count_from_context="n")},
    ],
    ids=["body", "condition", "instances"],
)
def test_a_reducer_that_can_not_combine_its_values_fails_the_stage(more: dict[str, Any]) -> None:
    """Whoever looks first: a body, a condition, a number of instances."""
    story = Story(1).start(
        stage("a"),
        stage("b", "a", context={"outputs": {"n": "text"}}),
        stage("c", "a", context={"outputs": {"n": 1}}),
        stage("j", "b", "c", output_reducers={"n": "sum"}, **more),
    )
    story.run()

    assert story.status == "TERMINAL"
    assert "'sum' can't combine ['text', 1]" in read_view(story.simulation.store, story.id).record.reason


def test_own_context_wins_over_the_past_and_the_past_over_the_workflow() -> None:
    """wcp 1.4: workflow context, causal past, own context; the later wins."""
    seen: dict[str, Any] = {}

    def look(stage: StageExecution) -> TaskResult:
        seen.update({name: stage.context[name] for name in ("x", "y", "z")})
        return TaskResult.success()

    first = stage("a", context={"outputs": {"y": "past", "z": "past"}})
    Story(look=look).start(
        first, stage("b", "a", does="look", context={"z": "own"}), context={"x": "w", "y": "w", "z": "w"}
    ).run()

    assert seen == {"x": "w", "y": "past", "z": "own"}


def test_stage_enabled_false_bypasses_and_the_thread_goes_on() -> None:
    """SKIPPED, bypassed: an arrival at the join."""
    off = stage("b", "a", context={"stageEnabled": {"type": "expression", "expression": "a > 1"}})
    story = Story().start(stage("a"), off, stage("c", "a"), stage("d", "b", "c")).run()

    assert story.statuses == {"a": "SUCCEEDED", "b": "SKIPPED", "c": "SUCCEEDED", "d": "SUCCEEDED"}
    assert story.bodies["b"] == 0


@pytest.mark.parametrize(
    ("conditions", "default", "taken"),
    [
        ({"b": "a == 1", "c": "a == 1"}, None, {"b"}),
        ({"b": "a == 2", "c": "a < 5"}, None, {"c"}),
        ({"b": "a == 2", "c": "a == 3"}, "d", {"d"}),
    ],
)
def test_an_exclusive_choice_takes_the_first_that_holds(
    conditions: dict[str, str], default: str | None, taken: set[str]
) -> None:
    """WCP-4: in the written order, else the default."""
    split = stage("a", split_type=SplitType.XOR, split_conditions=conditions, split_default=default)
    if default is None:
        split.split_conditions["d"] = "False"
    story = Story().start(split, *(stage(ref, "a") for ref in "bcd")).run()

    assert {ref for ref in "bcd" if story.bodies[ref]} == taken
    assert story.status == "SUCCEEDED"


def test_a_condition_that_errs_fails_the_stage_and_names_the_name() -> None:
    """Fails closed: there is no safe branch to go on with."""
    split = stage("a", split_type=SplitType.OR, split_conditions={"b": "missing > 1"})
    story = Story().start(split, stage("b", "a")).run()

    assert story.statuses == {"a": "TERMINAL", "b": "SKIPPED"}
    assert story.events("stage.failed") == ["a"]
