"""Stages that a failure kept from being reached have the status that they had in upstream: NOT_STARTED.

Here they are SKIPPED, or CANCELED, as soon as nothing can reach them any more; so say all other views of a workflow.
"""

from collections.abc import Mapping

from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

__all__ = ["with_former_statuses"]

_GIVEN_UP = frozenset({WorkflowStatus.SKIPPED, WorkflowStatus.CANCELED})


def with_former_statuses(workflow: Workflow) -> Workflow:
    """Return the workflow, with the status of what was never reached as upstream tells it."""
    if not workflow.status.is_complete:
        return workflow
    stages = {stage.ref_id: stage for stage in workflow.stages}
    reached: dict[str, bool] = {}
    for ref_id in stages:
        _note_reached(ref_id, stages, reached)
    told = WorkflowStatus.CANCELED if workflow.status is WorkflowStatus.CANCELED else WorkflowStatus.NOT_STARTED
    for ref_id, stage in stages.items():
        if not reached[ref_id]:
            stage.status = told
    return workflow


def _note_reached(ref_id: str, stages: Mapping[str, StageExecution], reached: dict[str, bool]) -> None:
    """Note whether a stage was reached, or left out by a choice, and the same of all before it."""
    todo = [ref_id]
    while todo:
        stage = stages[todo[-1]]
        before = [one for one in stage.requisite_stage_ref_ids if one in stages]
        if unknown := [one for one in before if one not in reached]:
            todo += unknown
            continue
        was_given_up = stage.status in _GIVEN_UP and stage.start_time is None
        reached[todo.pop()] = not (
            was_given_up and any(stages[one].status.is_halt or not reached[one] for one in before)
        )
