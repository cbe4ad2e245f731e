"""Moving about in the graph of stages."""

import pytest

from stabilize_celery.models.stage import StageExecution, SyntheticStageOwner
from stabilize_celery.models.stage.navigation import StageNavigationMixin
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

S = WorkflowStatus


def stage(ref_id: str, *after: str, status: WorkflowStatus = S.NOT_STARTED) -> StageExecution:
    return StageExecution(id=f"id-{ref_id}", ref_id=ref_id, requisite_stage_ref_ids=set(after), status=status)


def names(stages: list[StageExecution]) -> str:
    return " ".join(one.ref_id for one in stages)


def diamond() -> Workflow:
    return Workflow(stages=[stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "c", "b")])


def get(workflow: Workflow, ref_id: str) -> StageExecution:
    found = workflow.stage_by_ref_id(ref_id)
    assert found is not None
    return found


def test_a_diamond_is_walked_in_both_directions() -> None:
    """Neighbours come in the workflow's order of stages."""
    flow = diamond()

    assert names(get(flow, "d").upstream_stages()) == "b c"
    assert names(get(flow, "a").downstream_stages()) == "b c"
    assert names(get(flow, "a").upstream_stages()) == ""
    assert get(flow, "a").is_initial()
    assert get(flow, "d").is_join()
    assert not get(flow, "b").is_join()


def test_ancestors_come_depth_first_and_once() -> None:
    """Requisites are followed before their siblings; a shared ancestor appears once."""
    flow = Workflow(stages=[stage("a"), stage("b", "a"), stage("x", "b"), stage("c", "a"), stage("d", "x", "c")])

    assert names(get(flow, "d").ancestors()) == "x b a c"


def test_ancestors_of_a_synthetic_stage_include_its_parents() -> None:
    """A before stage sees what its parent sees."""
    flow = diamond()
    before = StageExecution.create_synthetic("t", "n", get(flow, "b"), SyntheticStageOwner.STAGE_BEFORE)
    flow.add_stage(before)

    assert names(before.ancestors()) == "b a"


def test_ancestors_of_a_circle_and_of_a_lost_parent_come_to_an_end() -> None:
    """Unsound graphs are walked without going on for ever or raising."""
    flow = Workflow(stages=[stage("a", "b"), stage("b", "a"), stage("c", "b")])
    get(flow, "c").parent_stage_id = "nowhere"

    assert names(get(flow, "c").ancestors()) == "b a"
    assert not get(flow, "c").any_upstream_stages_failed()


def test_a_chain_of_ten_thousand_is_walked_without_recursion() -> None:
    """Depth is no limit."""
    flow = Workflow(stages=[stage("s0"), *(stage(f"s{at}", f"s{at - 1}") for at in range(1, 10_000))])
    flow.stages[0].status = S.TERMINAL

    assert len(flow.stages[-1].ancestors()) == 9_999
    assert flow.stages[-1].any_upstream_stages_failed()


def test_upstream_is_complete_when_the_flow_may_go_on_from_all_of_it() -> None:
    """SUCCEEDED, FAILED_CONTINUE, SKIPPED and REDIRECT let the flow go on."""
    flow = diamond()
    get(flow, "b").status, get(flow, "c").status = S.SKIPPED, S.FAILED_CONTINUE
    assert get(flow, "d").all_upstream_stages_complete()

    get(flow, "c").status = S.RUNNING
    assert not get(flow, "d").all_upstream_stages_complete()


@pytest.mark.parametrize("halted", [S.TERMINAL, S.STOPPED, S.CANCELED])
def test_a_failure_is_seen_through_stages_that_have_not_started(halted: WorkflowStatus) -> None:
    """A stage in between that has run hides what is above it."""
    flow = diamond()
    get(flow, "a").status = halted
    assert get(flow, "d").any_upstream_stages_failed()

    get(flow, "b").status = get(flow, "c").status = S.SUCCEEDED
    assert not get(flow, "d").any_upstream_stages_failed()


def test_synthetic_stages_are_found_by_owner() -> None:
    """Before and after stages are told apart, and the first of each by their requisites."""
    flow = diamond()
    parent = get(flow, "b")
    made = []
    for owner in (SyntheticStageOwner.STAGE_BEFORE, SyntheticStageOwner.STAGE_AFTER):
        first = StageExecution.create_synthetic("t", "first", parent, owner)
        second = StageExecution.create_synthetic("t", "second", parent, owner)
        second.requisite_stage_ref_ids = {first.ref_id}
        made += [first, second]
    for one in made:
        flow.add_stage(one)

    assert parent.synthetic_stages() == made
    assert (parent.before_stages(), parent.after_stages()) == (made[:2], made[2:])
    assert (parent.first_before_stages(), parent.first_after_stages()) == ([made[0]], [made[2]])
    assert made[0].parent() is parent
    assert made[0].is_synthetic()


def test_a_missing_parent_is_an_error_that_says_why() -> None:
    """parent() raises for a top-level stage, an unattached one, and one whose parent is gone."""
    flow = diamond()
    lost = stage("lost")
    with pytest.raises(ValueError, match="not synthetic"):
        lost.parent()
    lost.parent_stage_id = "id-gone"
    with pytest.raises(ValueError, match="not attached"):
        lost.parent()
    flow.add_stage(lost)
    with pytest.raises(ValueError, match="id-gone"):
        lost.parent()


def test_the_seeds_class_name_still_holds_the_methods() -> None:
    """Programs import StageNavigationMixin."""
    assert issubclass(StageExecution, StageNavigationMixin)
