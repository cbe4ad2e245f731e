"""Creating a workflow: what is written is the same whether its definition was compiled before or not."""

from __future__ import annotations

from typing import Any

import pytest

from stabilize_celery.engine import creation
from stabilize_celery.engine.creation import Creation
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.models.patterns import instances
from stabilize_celery.models.recent import Recent
from stabilize_celery.models.stage import JoinType, SplitType, StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.validation import InvalidWorkflowError
from stabilize_celery.models.workflow import Workflow


def flow(**more: Any) -> Workflow:
    stages = [stage("a", context={"n": 1}), stage("b", "a"), stage("c", "a", "b")]
    return Workflow(application="shop", name="order", stages=stages, **more)


def stage(ref_id: str, *after: str, **more: Any) -> StageExecution:
    tasks = [TaskExecution.create("one", "work"), TaskExecution.create("two", "work")]
    return StageExecution(ref_id=ref_id, name=ref_id, tasks=tasks, requisite_stage_ref_ids=set(after), **more)


def choosing() -> Workflow:
    split = {"y": "n > 1", "z": "n < 2"}
    stages = [
        stage("x", split_type=SplitType.XOR, split_conditions=split),
        stage("y", "x"),
        stage("z", "x"),
        stage("end", "y", "z", join_type=JoinType.OR),
    ]
    instances(stages[1], over="names")
    return Workflow(application="shop", name="choice", stages=stages)


@pytest.fixture(autouse=True)
def nothing_compiled_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "_COMPILED", Recent(4))


def created(workflow: Workflow, retention_ms: int = 5) -> Creation:
    return Creation.of("wf", workflow, retention_ms=retention_ms)


@pytest.mark.parametrize("make", [flow, choosing])
def test_the_second_of_a_definition_is_written_as_if_it_were_the_first(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the ids of its own stages and tasks."""
    created(make())
    workflow = make()
    second = created(workflow)
    monkeypatch.setattr(creation, "_COMPILED", Recent(4))

    assert second == created(workflow)
    assert second.fields != created(make()).fields, "other workflows have other ids"


@pytest.mark.parametrize(
    "other", [flow(context={"n": 2}), flow(priority=3), flow(timeout_ms=7)], ids=["context", "priority", "time-out"]
)
def test_another_definition_is_compiled_anew(other: Workflow) -> None:
    """Whatever is different in it."""
    first = created(flow())

    assert created(other).digest != first.digest
    assert created(other).meta != first.meta or other.context


def test_another_retention_is_compiled_anew() -> None:
    """It is the workflow's, not the definition's."""
    assert [created(flow(), retention).meta.retention_ms for retention in (5, 6)] == [5, 6]


def test_ids_are_looked_at_each_time() -> None:
    """They are in no definition: a sound one may come with stages of one id."""
    created(flow())
    twice = flow()
    twice.stages[1].id = twice.stages[0].id

    with pytest.raises(InvalidWorkflowError, match="duplicate id"):
        created(twice)


def test_subclasses_of_plain_types_are_stored_as_what_they_stand_for() -> None:
    """Numbers of numpy, marked text of a web framework: wherever a definition may have text or a number."""

    class Text(str):
        __slots__ = ()

    class Number(float):
        pass

    odd, plain = (
        Workflow(
            id="wf",
            application=text("shop"),
            name=text("order"),
            context={text("price"): number(1.5)},
            stages=[StageExecution(ref_id=text("a"), id="s", mutex_key=text("k"), context={"x": [number(2)]})],
        )
        for text, number in ((Text, Number), (str, float))
    )

    assert created(odd) == created(plain)


def test_mappings_in_place_of_models_are_read_as_a_definition() -> None:
    """A workflow that somebody has put together of dicts, whole or in parts."""
    task = {"name": "one", "implementing_class": "work"}
    half = StageExecution(ref_id="a", name="a", tasks=[task])  # type: ignore[list-item]
    whole = {"ref_id": "a", "name": "a", "tasks": [task]}

    for given in (half, whole):
        made = created(Workflow(application="shop", name="order", stages=[given], trigger={}))  # type: ignore[list-item, arg-type]
        assert decode_plan(made.fields["s:a"]).tasks[0].type == "work"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("join", "expected"),
    [(JoinType.DISCRIMINATOR, {"s": [("a", ["a"]), ("m", ["l", "m"]), ("b", ["b"]), ("c", ["c"])]}), (JoinType.OR, {})],
)
def test_what_leads_into_a_loop_with_a_partial_join_is_known_the_furthest_first(
    join: JoinType, expected: dict[str, list[tuple[str, list[str]]]]
) -> None:
    """A look at it in this order misses no thread that moves on; others look no further than their loop."""
    stages = [
        stage("c", "b"), stage("s", "c"), stage("j", "a", "s", join_type=join, jump_targets=["s"]), stage("b", "m"),
        stage("m", "l", jump_targets=["l"]), stage("l", "a"), stage("a"), stage("k", "j"),
    ]  # fmt: skip
    made = created(Workflow(application="shop", name="order", stages=stages))
    plans = [decode_plan(made.fields[f"s:{one.ref_id}"]) for one in stages]  # type: ignore[arg-type]
    found = {plan.ref: [(name, sorted(members)) for name, members in plan.leads_in] for plan in plans if plan.leads_in}

    assert found == expected
