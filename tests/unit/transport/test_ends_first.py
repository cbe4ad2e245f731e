"""What ends work goes before what begins it (decision 013): a join does not wait for what was begun after its branches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.settings import PER_MESSAGE
from tests.unit.transport.child import Child, chain, statuses


def fan_in(width: int) -> Workflow:
    middle = [StageExecution(ref_id=f"m{at}", tasks=[TaskExecution.create("work", "work")]) for at in range(width)]
    last = StageExecution(
        ref_id="last",
        tasks=[TaskExecution.create("work", "work")],
        requisite_stage_ref_ids={stage.ref_id for stage in middle},
    )
    return Workflow(application="ends", name="first", stages=[*middle, last])


@pytest.fixture
def child(redis_url: str) -> Iterator[Child]:
    made = Child(redis_url, PER_MESSAGE)
    yield made
    made.close()


def test_a_branch_is_at_its_join_before_the_next_one_begins(child: Child) -> None:
    """But where a process looks for what is least urgent: one time in seventeen."""
    (workflow,) = child.run(fan_in(20))

    assert set(statuses(workflow)) == {"SUCCEEDED"}
    kinds = [kind for kind, _ in child.costs]
    waiting, most = 0, 0
    for kind in kinds:
        waiting += {"RunTask": 1, "CompleteStage": -1}.get(kind, 0)
        most = max(most, waiting)
    assert most <= 2


def test_what_has_begun_ends_before_others_begin(child: Child) -> None:
    """Its end is taken by the commit of its result, which has read what that begins with, once that was right before."""
    found = child.run(*(chain(1) for _ in range(4)))

    assert all(set(statuses(workflow)) == {"SUCCEEDED"} for workflow in found)
    assert child.costs_of("CompleteStage")[:3] == [2, 1, 1]
