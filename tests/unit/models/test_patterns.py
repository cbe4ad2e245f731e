"""Builders of patterns: which fields they set, and what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.models.definition import from_definition, to_definition
from stabilize_celery.models.multi_instance import MultiInstanceConfig
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
from stabilize_celery.models.stage import MutexScope, SplitType, StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.validation import find_problems
from stabilize_celery.models.workflow import Workflow


def stage(ref_id: str, *after: str, tasks: tuple[str, ...] = ("work",), **more: Any) -> StageExecution:
    made = [TaskExecution.create(name, name) for name in tasks]
    return StageExecution(ref_id=ref_id, tasks=made, requisite_stage_ref_ids=set(after), **more)


@pytest.mark.parametrize(("build", "kind"), [(exclusive_choice, SplitType.XOR), (multi_choice, SplitType.OR)])
def test_a_choice_keeps_the_written_order(build: Callable[..., StageExecution], kind: SplitType) -> None:
    """WCP-4, WCP-6: the conditions, in their order, and the default."""
    made = stage("a")

    assert build(made, {"z": "n > 1", "b": "n > 2"}, default="c") is made
    assert (made.split_type, made.split_default) == (kind, "c")
    assert list(made.split_conditions.items()) == [("z", "n > 1"), ("b", "n > 2")]


@pytest.mark.parametrize("build", [exclusive_choice, multi_choice])
def test_a_choice_needs_conditions_and_is_made_once(build: Callable[..., StageExecution]) -> None:
    """A second choice on a stage would silently replace the first."""
    with pytest.raises(ValueError, match="'a': a choice needs conditions"):
        build(stage("a"), {})
    with pytest.raises(ValueError, match="'a' already has split_conditions"):
        build(build(stage("a"), {"b": "True"}), {"c": "True"})


def test_a_deferred_choice_offers_its_stages_together() -> None:
    """WCP-16: one group, one requisite, times of their own."""
    made = deferred_choice("answer", stage("yes"), stage("no"), after="ask", choose_after_ms={"no": 60_000})

    assert [one.deferred_choice_group for one in made] == ["answer", "answer"]
    assert [one.requisite_stage_ref_ids for one in made] == [{"ask"}, {"ask"}]
    assert [one.choose_after_ms for one in made] == [None, 60_000]


def test_a_deferred_choice_leaves_what_it_was_not_told() -> None:
    """Requisites and times that the stages had stay."""
    [made] = deferred_choice("answer", stage("yes", "ask", choose_after_ms=5))

    assert (made.requisite_stage_ref_ids, made.choose_after_ms) == ({"ask"}, 5)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: deferred_choice("g"), "the choice 'g' has no stages"),
        (lambda: deferred_choice("g", stage("a"), choose_after_ms={"b": 1}), "'b', which is not a stage of the choice"),
        (lambda: deferred_choice("g", stage("a", "x", "y"), after="x"), "'a' waits for y; a member of the choice 'g'"),
    ],
)
def test_a_deferred_choice_refuses_what_can_not_be_offered(build: Callable[[], object], says: str) -> None:
    """In words that name the stage."""
    with pytest.raises(ValueError, match=says):
        build()


def test_one_stage_is_a_critical_section_by_its_key() -> None:
    """WCP-39: scope and limit are those of a mutex; no section is needed."""
    [made] = critical_section("dock", stage("a"), scope=MutexScope.APPLICATION, limit=2)

    assert (made.mutex_key, made.mutex_section) == ("dock", None)
    assert (made.mutex_scope, made.mutex_limit) == (MutexScope.APPLICATION, 2)


def test_several_stages_share_a_section_of_their_own() -> None:
    """Two sections of one key in one workflow stay two: as one they could overlap."""
    first = critical_section("dock", stage("a"), stage("b", "a"))
    second = critical_section("dock", stage("c"), stage("d", "c"))
    named = critical_section("dock", stage("e"), name="unload")

    assert {one.mutex_section for one in first} == {"dock/a"}
    assert {one.mutex_section for one in second} == {"dock/c"}
    assert [one.mutex_section for one in named] == ["unload"]


def test_interleaved_stages_share_a_key_of_their_workflow() -> None:
    """WCP-17, WCP-40: the key of another group is another one."""
    first, second = interleaved(stage("a"), stage("b", "a")), interleaved(stage("c"), stage("d"))

    assert {(one.mutex_key, one.mutex_scope) for one in first} == {("interleaved/a", MutexScope.WORKFLOW)}
    assert {one.mutex_key for one in second} == {"interleaved/c"}
    assert interleaved(stage("e"), key="nurse")[0].mutex_key == "nurse"


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: critical_section("k"), "'k' has no stages"),
        (lambda: critical_section("k", stage(""), stage("b")), "has no ref_id"),
        (lambda: critical_section("k", stage("a", mutex_key="other")), "'a' holds the mutex_key 'other' already"),
        (interleaved, "has no stages"),
        (lambda: interleaved(stage("")), "has no ref_id"),
        (lambda: interleaved(*critical_section("k", stage("a"))), "'a' holds the mutex_key 'k' already"),
    ],
)
def test_a_key_is_not_taken_away_in_silence(build: Callable[[], object], says: str) -> None:
    """A stage holds one key; a group needs members and a name."""
    with pytest.raises(ValueError, match=says):
        build()


def test_a_milestone_names_a_stage_and_a_status() -> None:
    """WCP-18: RUNNING unless said otherwise."""
    made = milestone(stage("a"), "m")

    assert (made.milestone_ref_id, made.milestone_status) == ("m", "RUNNING")
    assert milestone(stage("a"), "m", "SUCCEEDED").milestone_status == "SUCCEEDED"
    with pytest.raises(ValueError, match="'a': 'DONE' is not a status; use one of NOT_STARTED"):
        milestone(stage("a"), "m", "DONE")


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ({"count": 3, "wait": False}, {"count": 3, "sync_on_complete": False}),
        ({"count": 0}, {}),
        ({"count_from": "n", "dynamic": True}, {"count_from_context": "n", "allow_dynamic": True}),
        ({"over": "files", "at_once": 4}, {"collection_from_context": "files", "max_concurrent": 4}),
        (
            {"count": 3, "threshold": 2, "cancel_rest": True},
            {"count": 3, "join_threshold": 2, "cancel_remaining": True},
        ),
        ({"count": 3, "until": "completed > 1"}, {"count": 3, "completion_condition": "completed > 1"}),
    ],
)
def test_instances_are_a_multi_instance_config(settings: dict[str, Any], config: dict[str, Any]) -> None:
    """WCP-12 to 15, 34 to 36."""
    assert instances(stage("a"), **settings).mi_config == MultiInstanceConfig(**config)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "none of them given; give exactly one of count"),
        ({"count": 0, "over": "files"}, "count and over given"),
        ({"count_from": ""}, "an empty name given"),
    ],
)
def test_the_number_of_instances_comes_from_one_place(settings: dict[str, Any], says: str) -> None:
    """Nothing, and two things at once, are refused in words that say what to do."""
    with pytest.raises(ValueError, match=f"'a': the number of instances is unclear: {says}"):
        instances(stage("a"), **settings)


def test_a_repeat_loop_adds_a_jump_behind_the_tasks() -> None:
    """WCP-21: declared, named, and with its settings in a place of its own."""
    last = repeat_until(stage("b", "a", context={"jumps": {"mine": {"jump_to": "x"}}}), "n > 2", "a")

    assert [(task.name, task.implementing_class) for task in last.tasks] == [("work", "work"), ("back to a", "jump")]
    assert last.jump_targets == ["a"]
    assert last.context["jumps"] == {
        "mine": {"jump_to": "x"},
        "back to a": {"jump_to": "a", "jump_unless": "n > 2"},
    }


def test_loops_that_end_at_one_stage_keep_settings_of_their_own() -> None:
    """Also two that lead back to the same stage."""
    last = stage("c", "b")
    for condition, back_to in (("x", "b"), ("y", "a"), ("z", "a")):
        repeat_until(last, condition, back_to)

    assert [task.name for task in last.tasks] == ["work", "back to b", "back to a", "back to a (2)"]
    assert [jump["jump_unless"] for jump in last.context["jumps"].values()] == ["x", "y", "z"]
    assert last.jump_targets == ["b", "a"]


def test_the_jump_is_the_last_task_where_the_author_marked_another() -> None:
    """A stage written with marks keeps its first one; the last moves on."""
    marked = [TaskExecution.create("x", "work", stage_start=True), TaskExecution.create("y", "work", stage_end=True)]
    last = repeat_until(StageExecution(ref_id="a", tasks=marked), "True", "a")

    assert [(task.stage_start, task.stage_end) for task in last.tasks] == [(True, False), (False, False), (False, True)]
    assert last.next_task(last.tasks[1]) is last.tasks[2]


def test_a_while_loop_is_a_choice_at_its_head_and_a_jump_at_its_end() -> None:
    """WCP-21: the exit is the default, the jump has no condition."""
    head, body = stage("h"), stage("b", "h")

    assert while_loop(head, "n < 3", body="b", exit="z", last=body) is head
    assert (head.split_type, head.split_conditions, head.split_default) == (SplitType.XOR, {"b": "n < 3"}, "z")
    assert body.context["jumps"] == {"back to h": {"jump_to": "h"}}
    assert head.tasks[-1].implementing_class == "work"


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: repeat_until(stage("a"), "n >", "a"), r"'a': repeat_until: expression 'n >' does not parse"),
        (lambda: repeat_until(stage("a"), "run()", "a"), "Call is not allowed"),
        (lambda: repeat_until(instances(stage("a"), count=2), "n", "a"), "'a' has instances and can't jump"),
        (lambda: repeat_until(stage("a", sub_workflow="w"), "n", "a"), "'a' has an inner workflow and can't jump"),
        (
            lambda: while_loop(one := stage("a"), "n", body="a", exit="z", last=one),
            "the head of a while loop can't be in its body",
        ),
        (lambda: while_loop(stage("a"), "n", body="z", exit="z", last=stage("b")), "are the same stage, 'z'"),
        (
            lambda: while_loop(exclusive_choice(stage("a"), {"x": "n"}), "n", body="b", exit="z", last=stage("b")),
            "already has split_conditions",
        ),
    ],
)
def test_a_loop_that_can_not_be_is_refused_when_it_is_written(build: Callable[[], object], says: str) -> None:
    """A condition that does not parse would fail every pass, and other settings would be lost."""
    with pytest.raises(ValueError, match=says):
        build()


def test_what_builders_make_is_a_definition() -> None:
    """It has no problems, and survives storage as it is."""
    made = Workflow(
        stages=[
            exclusive_choice(stage("a"), {"b": "n > 1"}, default="m"),
            *critical_section("dock", stage("b", "a"), repeat_until(stage("c", "b"), "n > 3", "b")),
            *deferred_choice("g", stage("d"), stage("e"), after="c", choose_after_ms={"d": 1}),
            instances(milestone(stage("m", "a"), "b"), count=2, until="completed > 0"),
        ]
    )

    assert find_problems(made) == []
    assert to_definition(from_definition(to_definition(made))) == to_definition(made)
