"""Why workflows and stages failed or were cancelled."""

from typing import Any

import pytest

from stabilize_celery.client import Reason
from stabilize_celery.errors import WorkflowFailedError
from stabilize_celery.models.patterns import instances
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SplitType
from stabilize_celery.models.stage.stage import StageExecution
from tests.unit.client.reasons import said
from tests.unit.client.world import World, gate, stage


def test_nothing_is_said_of_a_workflow_that_went_well(world: World):
    assert world.start(stage("a")).why() == []


def test_a_failure_is_told_by_its_stage():
    """The task's own words; what came after it is not blamed."""
    world = World(fail=lambda stage: TaskResult.terminal(error="card declined"))

    found = said(world, stage("a", does="fail"), stage("b", "a"))

    assert list(found) == ["a"]
    assert str(found["a"]) == "a: TERMINAL: card declined. Task fail, 1 attempt"


def test_an_exception_has_its_traceback():
    def crash(_stage: StageExecution) -> TaskResult:
        raise ZeroDivisionError("the author's bug")

    found = said(World(crash=crash), stage("a", does="crash"))

    assert "ZeroDivisionError: the author's bug" in found["a"].text
    assert "test_why_ended.py" in found["a"].traceback


def test_an_output_that_cannot_be_stored_is_named():
    world = World(odd=lambda stage: TaskResult.success(outputs={"handle": object()}))

    assert "outputs.handle" in str(said(world, stage("a", does="odd"))["a"])


def test_a_failure_that_the_pipeline_went_past_is_told_too():
    world = World(fail=lambda stage: TaskResult.terminal(error="no matter"))

    found = said(world, stage("a", does="fail", context={"continuePipelineOnFailure": True}), stage("b", "a"))

    assert "FAILED_CONTINUE: no matter" in found["a"].text


DECLINED = {"ref_id": "leaf", "tasks": [{"name": "fail", "implementing_class": "fail"}]}


def declines() -> World:
    return World(fail=lambda stage: TaskResult.terminal(error="card declined"))


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_why_an_inner_workflow_failed_is_told_at_every_depth(depth: int):
    """Who starts the outermost one knows nothing of the others; the text stays one that can be read."""
    inner = {"name": "inner", "stages": [DECLINED]}
    for number in range(depth - 1):
        task = {"name": "t", "implementing_class": "sub_workflow"}
        inner = {"stages": [{"ref_id": f"s{number}", "context": {"workflow": inner}, "tasks": [task]}]}
    handle = declines().start(stage("outer", does="sub_workflow", context={"workflow": inner}))

    (reason,) = handle.why()

    assert reason.ref_id == "outer"
    assert "ended TERMINAL: stage 'leaf': card declined" in reason.text
    assert len(reason.text) < 1_200
    with pytest.raises(WorkflowFailedError, match="stage 'leaf': card declined"):
        handle.result()


def test_a_stage_that_is_a_call_says_why_its_inner_workflow_failed():
    inner = {"low": {"stages": [DECLINED]}, "high": {"stages": [{"ref_id": "call", "sub_workflow": "low"}]}}
    outer = StageExecution(ref_id="outer", type="t", name="outer", sub_workflow="high")

    found = said(declines(), outer, sub_workflows=inner)

    assert "stage 'call': inner workflow" in found["outer"].text
    assert found["outer"].text.endswith("ended TERMINAL: stage 'leaf': card declined")


def test_a_cancellation_has_its_reason(world: World):
    handle = world.start(gate())
    handle.cancel("changed my mind")
    world.settle()

    (reason,) = handle.why()

    assert reason.kind == "canceled"
    assert "changed my mind" in str(reason)


def test_a_timeout_of_the_workflow(world: World):
    handle = world.start(gate(), timeout_ms=5_000)
    world.settle(10)

    (reason,) = handle.why()

    assert reason == Reason("", "failed", "ended TERMINAL: the workflow's time-out has passed")


def test_a_cancelled_workflow_without_a_reason(world: World):
    handle = world.start(gate())
    handle.cancel()

    assert "cancelled by" in handle.why()[0].text


@pytest.mark.parametrize(
    ("goes_on", "told"),
    [
        (False, "TERMINAL: instance 2: ValueError: no files in 2"),
        (True, "FAILED_CONTINUE: 1 of 4 instances failed, first instance 2: ValueError: no files in 2"),
    ],
)
def test_a_failed_instance(goes_on: bool, told: str):
    """Which one, its error and the traceback; the number of failures where the stage bears them."""

    def third(stage: StageExecution) -> TaskResult:
        if stage.context["instance_index"] == 2:
            raise ValueError("no files in 2")
        return TaskResult.success()

    context = {"continuePipelineOnFailure": goes_on}
    reason = said(World(third=third), instances(stage("many", does="third", context=context), count=4))["many"]

    assert reason.text == told
    assert "Traceback" in reason.traceback
    assert "Task third, 1 attempt" in reason.detail


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"split_type": SplitType.XOR, "split_conditions": {"b": "totl > 1"}, "split_default": "c"},
            "did you mean 'total'? known here: from_a, from_first, own, total",
        ),
        (
            {"context": {"own": 1, "stageEnabled": {"type": "expression", "expression": "totl"}}},
            "known here: from_first, own, stageEnabled",
        ),
    ],
)
def test_a_mistyped_name_is_told_beside_all_that_there_are(world: World, more: dict[str, Any], told: str):
    """Of the workflow's context, of the stages before and of the stage itself; not only those that are read anyway."""
    stages = (stage("first"), stage("a", "first", **{"context": {"own": 1}, **more}), stage("b", "a"), stage("c", "a"))

    found = said(world, *stages, context={"total": 5})

    assert "unknown name 'totl'" in found["a"].text
    assert told in found["a"].text
