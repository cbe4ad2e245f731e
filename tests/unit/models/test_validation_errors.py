"""The one error that has every problem, its limits, and what making it costs."""

import cProfile
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.engine.creation import Creation
from stabilize_celery.models.definition import from_definition
from stabilize_celery.models.limits import MAX_DEFINITION_BYTES, MAX_LISTED_PROBLEMS
from stabilize_celery.models.problems import (
    CircularDependencyError,
    InvalidStageGraphError,
    InvalidWorkflowCycleError,
    InvalidWorkflowError,
    Problem,
)
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.validation import check, find_definition_problems, validate_stage_graph
from stabilize_celery.models.workflow import Workflow
from tests.unit.models.definitions import START, after, part, told


def test_one_error_has_every_problem() -> None:
    """Duplicate, unknown name and cycle at once; the error is upstream's errors too."""
    stages = [
        StageExecution(ref_id=ref_id, requisite_stage_ref_ids=set(above))
        for ref_id, above in [("a", ""), ("a", ""), ("b", ["nowhere"]), ("c", "d"), ("d", "c")]
    ]
    flow = Workflow(name="by hand", stages=stages)
    with pytest.raises(InvalidWorkflowError) as caught:
        check(flow)

    text = str(caught.value)
    assert text.splitlines()[0] == "workflow 'by hand' is refused, 3 problems:"
    assert all(word in text for word in ("duplicate", "'nowhere'", "cycle c -> d -> c"))
    assert [problem.code for problem in caught.value.problems] == ["duplicate_ref", "unknown_ref", "cycle"]
    assert caught.value.code == "duplicate_ref"
    assert isinstance(caught.value, InvalidStageGraphError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CircularDependencyError)


@pytest.mark.parametrize(
    "refuse",
    [check, lambda flow: validate_stage_graph(flow.stages), lambda flow: Creation.of("w", flow, retention_ms=0)],
)
def test_the_error_has_the_stages_of_the_cycle(refuse: Callable[[Workflow], object]) -> None:
    """The program's own objects; what is wrong with others does not hide them."""
    first, second, other = (StageExecution(ref_id=ref_id) for ref_id in "abc")
    first.requisite_stage_ref_ids, second.requisite_stage_ref_ids = {"b"}, {"a"}
    other.requisite_stage_ref_ids = None  # type: ignore[assignment]
    with pytest.raises(CircularDependencyError) as caught:
        refuse(Workflow(stages=[first, other, second]))

    assert [one for one in caught.value.stages if one in (first, second)] == [first, second]
    assert pickle.loads(pickle.dumps(caught.value)).code == caught.value.code


def test_without_a_cycle_the_error_is_no_circular_dependency() -> None:
    """except CircularDependencyError catches cycles only."""
    with pytest.raises(InvalidWorkflowError) as caught:
        check(Workflow(stages=[]))

    assert not isinstance(caught.value, CircularDependencyError)


@pytest.mark.parametrize("kind", [InvalidWorkflowError, InvalidWorkflowCycleError])
def test_the_error_survives_pickling(kind: type[InvalidWorkflowError]) -> None:
    """It may travel between processes."""
    error = kind([Problem("a", "b", "c")], "n")
    back = pickle.loads(pickle.dumps(error))

    assert (type(back), str(back), back.problems, back.code) == (kind, str(error), error.problems, "c")


def test_shape_and_graph_are_told_together_when_a_definition_is_read() -> None:
    """A pipeline file with a typo and a bad number gets both in one error."""
    raw = {
        "stages": [{"ref_id": "fetch"}, after("load", "fetsch", join_type="N_OF_M", join_threshold=-1)],
    }
    with pytest.raises(InvalidWorkflowError) as caught:
        from_definition(raw)

    assert str(caught.value).splitlines()[1:] == [
        "  wrong_shape: stages[1].join_threshold: -1 is below 0",
        "  unknown_ref: stages[1].requisite_stage_ref_ids: no stage has the ref_id 'fetsch'; did you mean 'fetch'?",
    ]


def test_a_definition_that_is_too_large_is_refused() -> None:
    """16 MiB as JSON, and not more."""
    (problem,) = find_definition_problems({"stages": [{"ref_id": "a", "context": {"t": "x" * MAX_DEFINITION_BYTES}}]})

    assert problem.code == "too_large"


def test_more_stages_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is a constant of the module."""
    monkeypatch.setattr("stabilize_celery.models.checks.rules.MAX_STAGES", 2)

    assert told(START, {"ref_id": "b"}, {"ref_id": "c"}) == ["stages: there are 3 stages; at most 2 are allowed"]


def test_a_text_of_very_many_problems_is_cut_but_the_list_is_not() -> None:
    """Log lines stay readable; programs get everything."""
    flow = Workflow(stages=[StageExecution(ref_id=f"s{at}", requisite_stage_ref_ids={"no"}) for at in range(1500)])
    with pytest.raises(InvalidWorkflowError) as caught:
        check(flow)

    assert len(caught.value.problems) == 1500
    assert str(caught.value).endswith(f"and {1500 - MAX_LISTED_PROBLEMS} more")


def test_a_hostile_key_stays_on_one_line() -> None:
    """A line of the error is a problem, whatever users wrote."""
    (problem,) = told({"ref_id": "a", "context": {"x\n  stages[0]: fine": print}})

    assert "\n" not in problem


def test_the_work_of_checking_grows_with_the_stages_and_no_faster() -> None:
    """Four times the stages take about four times the calls, in a chain and where all join."""

    def calls(count: int) -> int:
        stages: list[dict[str, Any]] = [{"ref_id": "s0"}] + [
            after(f"s{at}", f"s{at - 1}", context={"k": at}) for at in range(1, count)
        ]
        stages.append(after("join", *(f"s{at}" for at in range(count))))
        profile = cProfile.Profile()
        assert profile.runcall(told, *stages) == []
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(2_000) < 4.2 * calls(500)


def test_the_milestones_of_many_parts_are_traced_in_few_walks() -> None:
    """All of them at once, not one by one: a definition of very many is checked in seconds."""

    def calls(count: int) -> int:
        stages: list[dict[str, Any]] = [{"ref_id": "s0"}]
        for at in range(1, count):
            stages.append(after(f"s{at}", f"s{at - 1}"))
            before = part(f"b{at}", f"s{at}", "BEFORE", milestone_ref_id=f"s{at - 1}", milestone_status="SUCCEEDED")
            stages.append(before)
        profile = cProfile.Profile()
        assert profile.runcall(told, *stages) == []
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(800) < 4.2 * calls(200)


def test_a_refusal_is_short_however_long_names_and_circles_are() -> None:
    """Logs and terminals get it."""
    stages = [StageExecution(ref_id=f"s{at}", requisite_stage_ref_ids={f"s{(at + 1) % 500}"}) for at in range(500)]
    with pytest.raises(InvalidWorkflowError) as caught:
        check(Workflow(application="a", name="n" * 100_000, stages=stages))

    assert "-> … 480 more -> s0" in str(caught.value)
    assert len(str(caught.value)) < 1_000
