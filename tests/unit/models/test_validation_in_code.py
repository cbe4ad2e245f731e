"""Workflows that code makes, and changes later, are checked like definitions."""

from collections.abc import Callable

import pytest

from stabilize_celery.models import reducers
from stabilize_celery.models.limits import MAX_DEFINITION_BYTES
from stabilize_celery.models.problems import (
    InvalidWorkflowError,
)
from stabilize_celery.models.stage import JoinType, SplitType, StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.validation import find_problems
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.testing import Simulation
from tests.unit.models.definitions import told


def chooses(condition: str) -> StageExecution:
    return StageExecution(ref_id="a", split_type=SplitType.OR, split_conditions={"b": condition})


BAD_STAGES: dict[str, Callable[[], list[StageExecution]]] = {
    "a forbidden expression": lambda: [chooses("open('x')"), StageExecution(ref_id="b", requisite_stage_ref_ids={"a"})],
    "an unknown name": lambda: [StageExecution(ref_id="a", requisite_stage_ref_ids={"x"})],
    "a circle": lambda: [StageExecution(ref_id="a", requisite_stage_ref_ids={"a"})],
    "no JSON": lambda: [StageExecution(ref_id="a", context={"when": object()})],
    "a jump to nowhere": lambda: [
        StageExecution(ref_id="a", context={"jump_to": "x"}, tasks=[TaskExecution.create("back", "jump")])
    ],
    "too large": lambda: [StageExecution(ref_id="a", context={"t": "x" * MAX_DEFINITION_BYTES})],
    "a finished stage's double": lambda: [one := StageExecution(ref_id="a"), one],
}


@pytest.mark.parametrize("bad", BAD_STAGES)
def test_a_definition_is_refused_when_it_is_made_as_it_is_when_it_is_submitted(bad: str) -> None:
    """`create`, `validate`, `find_problems` and the submission say the same, word for word."""
    flow = Workflow(application="shop", name="order", stages=BAD_STAGES[bad]())
    with pytest.raises(InvalidWorkflowError) as made:
        Workflow.create("shop", "order", flow.stages)
    with pytest.raises(InvalidWorkflowError) as validated:
        flow.validate()
    with pytest.raises(InvalidWorkflowError) as submitted:
        Simulation().start(flow)

    assert str(made.value) == str(validated.value) == str(submitted.value)
    assert validated.value.problems == submitted.value.problems == tuple(find_problems(flow))


def test_what_was_changed_since_it_was_made_can_be_checked_again() -> None:
    """`create` looks once; `validate` looks at the workflow as it is now."""
    flow = Workflow.create("shop", "order", [StageExecution(ref_id="a")])
    flow.validate()
    flow.add_stage(StageExecution(ref_id="b", requisite_stage_ref_ids={"A"}))

    with pytest.raises(InvalidWorkflowError, match=r"no stage has the ref_id 'A'; did you mean 'a'\?"):
        flow.validate()


def test_a_registered_reducer_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Custom reducers count in the process that registered them."""
    monkeypatch.setattr(reducers, "_CUSTOM", {"mine": len})

    assert told({"ref_id": "a", "output_reducers": {"k": "mine"}}) == []


def test_ids_are_checked_where_python_gives_them() -> None:
    """A workflow's id is plain, and no id stands twice."""
    task = TaskExecution.create("t", "work")
    flow = Workflow(id="no spaces", stages=[StageExecution(id="1", ref_id="a", tasks=[task])])
    flow.add_stage(StageExecution(id="1", ref_id="b", tasks=[task]))

    assert [str(problem) for problem in find_problems(flow)] == [
        "id: 'no spaces' must be 1 to 128 of the characters A-Z a-z 0-9 . _ -, and not . or ..",
        "stages[1].id: duplicate id '1': stages[0].id has it already",
        f"stages[1].tasks[0].id: duplicate id '{task.id}': stages[0].tasks[0].id has it already",
    ]
    assert find_problems(Workflow(id="order-17_a.b", stages=[StageExecution(ref_id="a")])) == []


@pytest.mark.parametrize("bad", ["", "a" * 129, "a/b", "a\n", "ü"])
def test_an_id_outside_its_characters_is_refused(bad: str) -> None:
    """128 letters, digits, dots, underscores and hyphens at most."""
    assert len(find_problems(Workflow(id=bad, stages=[StageExecution(ref_id="a")]))) == 1


def test_what_python_lets_through_is_found() -> None:
    """Wrong types in the dataclasses, and things that are no stages and tasks."""
    stage = StageExecution(ref_id="a", requisite_stage_ref_ids="bc", tasks=["work"])  # type: ignore[arg-type, list-item]
    stage.split_conditions = None  # type: ignore[assignment]
    flow = Workflow(stages=[stage, "b"])  # type: ignore[list-item]

    assert [str(problem) for problem in find_problems(flow)] == [
        "stages[0].tasks[0]: expected an object, got 'work'",
        "stages[0].requisite_stage_ref_ids: expected a list, got 'bc'",
        "stages[0].split_conditions: expected an object, got nothing",
        "stages[1]: expected an object, got 'b'",
    ]


def test_a_threshold_made_negative_later_is_found() -> None:
    """The dataclass checks when it is made, the definition when it is submitted."""
    stage = StageExecution(ref_id="a", join_type=JoinType.N_OF_M)
    stage.join_threshold = -1

    assert [str(problem) for problem in find_problems(Workflow(stages=[stage]))] == [
        "stages[0].join_threshold: -1 is below 0"
    ]
