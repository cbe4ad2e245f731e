"""StageContext: own values first, then the ancestors' outputs."""

import pytest

from stabilize_celery.models.context import StageContext, create_merged_context
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.workflow import Workflow


@pytest.fixture
def flow() -> Workflow:
    return Workflow(
        stages=[
            StageExecution(ref_id="a", outputs={"far": 1, "both": "a"}),
            StageExecution(ref_id="b", outputs={"both": "b"}, requisite_stage_ref_ids={"a"}),
            StageExecution(ref_id="c", context={"own": 0}, requisite_stage_ref_ids={"b"}),
        ]
    )


def test_a_missing_key_is_looked_up_above_the_nearest_first(flow: Workflow) -> None:
    """Own context, then the nearest ancestor that has the key."""
    context = StageContext(flow.stages[2], flow.stages[2].context)

    assert (context["own"], context["both"], context["far"]) == (0, "b", 1)
    assert "far" in context
    assert "nobody" not in context
    assert context.get("nobody", 7) == 7
    assert context.get_all("both") == ["b", "a"]
    with pytest.raises(KeyError, match="nobody"):
        _ = context["nobody"]


def test_writing_and_counting_concern_the_own_context(flow: Workflow) -> None:
    """The ancestors are read only."""
    context = StageContext(flow.stages[2], flow.stages[2].context)
    context["far"] = 9
    del context["own"]

    assert (len(context), list(context), context.to_dict()) == (1, ["far"], {"far": 9})
    assert flow.stages[0].outputs["far"] == 1
    assert context.get_current_only("both") is None
    assert context.stage is flow.stages[2]


def test_merging_lets_the_own_value_win_and_copies(flow: Workflow) -> None:
    """The merged mapping is the stage's view, and no longer tied to it."""
    flow.stages[2].context["both"] = "c"
    merged = create_merged_context(flow.stages[2])
    merged["new"] = 1

    assert merged.to_dict() == {"far": 1, "both": "c", "own": 0, "new": 1}
    assert "new" not in flow.stages[2].context
