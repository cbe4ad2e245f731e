"""Writing a workflow as its definition, whatever its author put into the fields."""

import pytest

from stabilize_celery.models.encode import encode_workflow
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.validation import find_problems
from stabilize_celery.models.workflow import Workflow


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("stages", "abc", "stages: expected a list, got 'abc'"),
        ("sub_workflows", [1], "sub_workflows: expected an object, got a list"),
        ("sub_workflows", {"i": 5}, "sub_workflows.i: expected an object, got 5"),
        ("trigger", "cron", "trigger: expected an object, got 'cron'"),
        ("context", None, "context: expected an object, got nothing"),
    ],
)
def test_a_field_of_the_wrong_kind_is_told(field: str, value: object, told: str) -> None:
    """Encoding passes it on; decoding says what is wrong with it."""
    flow = Workflow(stages=[StageExecution(ref_id="a")])
    setattr(flow, field, value)

    assert told in [str(problem) for problem in find_problems(flow)]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("tasks", 5, "stages[0].tasks: expected a list, got 5"),
        ("requisite_stage_ref_ids", {"a", 5}, "stages[0].requisite_stage_ref_ids"),
        ("parent_stage_id", 5, "stages[0].parent_stage_id: expected text or nothing, got 5"),
        ("mi_config", 5, "stages[0].mi_config: expected an object, got 5"),
        ("ref_id", None, "stages[0].ref_id: expected text, got nothing"),
    ],
)
def test_a_stages_field_of_the_wrong_kind_is_told(field: str, value: object, told: str) -> None:
    """The same for the fields of a stage."""
    flow = Workflow(stages=[StageExecution(ref_id="a")])
    setattr(flow.stages[0], field, value)

    assert any(str(problem).startswith(told) for problem in find_problems(flow))


def test_something_else_among_marked_tasks_is_left_for_the_decoder() -> None:
    """Marks are taken off tasks only."""
    flow = Workflow(stages=[StageExecution(ref_id="a", tasks=[TaskExecution.create("t", "work")] * 3)])
    first, last = TaskExecution.create("a", "work", stage_start=True), TaskExecution.create("c", "work", False, True)
    flow.stages[0].tasks = [first, "b", last]  # type: ignore[list-item]

    assert encode_workflow(flow)["stages"][0]["tasks"][1] == "b"
    assert len(find_problems(flow)) == 1
