"""A workflow as upstream's store told it, where all other views of it say more, or say it elsewhere.

A stage that a failure kept from being reached is NOT_STARTED there; here it is SKIPPED or CANCELED as soon as nothing
can reach it any more. One whose tasks had all succeeded when another stage's failure ended the workflow is SUCCEEDED.
What a task raised, or put out before it failed, stands in its stage's context, too, and what became of its jumps. A
task whose failure its stage bears has its stage's status. Versions grow when a stage or task starts and ends.
"""

from collections.abc import Mapping

from stabilize_celery.compat.jumps import tell_jumps
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["retold"]

_CANCELED, _SUCCEEDED = WorkflowStatus.CANCELED, WorkflowStatus.SUCCEEDED
_TERMINAL, _NOT_STARTED = WorkflowStatus.TERMINAL, WorkflowStatus.NOT_STARTED
_BORNE = (WorkflowStatus.FAILED_CONTINUE, WorkflowStatus.STOPPED)
_OF_TASKS = {
    (_CANCELED, _NOT_STARTED): _CANCELED,
    **{(status, _NOT_STARTED): WorkflowStatus.SKIPPED for status in (_TERMINAL, *_BORNE)},
    **{(status, _TERMINAL): status for status in _BORNE},
}
"""What a task's status is told as, by its stage's and its own."""
_GIVEN_UP = frozenset({WorkflowStatus.SKIPPED, _CANCELED})


def retold(workflow: Workflow) -> Workflow:
    """Return the workflow, told so."""
    tell_jumps(workflow)
    for stage in workflow.stages:
        _tell_failure(stage)
        if stage.status is _CANCELED and stage.tasks and all(task.status is _SUCCEEDED for task in stage.tasks):
            stage.status = _SUCCEEDED
    told = _CANCELED if workflow.status is _CANCELED else _NOT_STARTED
    for stage in _unreached({stage.ref_id: stage for stage in workflow.stages}):
        stage.status = told
    for stage in workflow.stages:
        stage.version = _version(stage)
        for task in stage.tasks:
            task.status = _OF_TASKS.get((stage.status, task.status), task.status)
            task.version = _version(task)
    return workflow


def _version(one: StageExecution | TaskExecution) -> int:
    """Return how often its status has changed in its newest run: programs look whether it grows."""
    return (one.start_time is not None) + (one.end_time is not None)


def _tell_failure(stage: StageExecution) -> None:
    if stage.status in (_TERMINAL, *_BORNE):
        stage.context = {**stage.outputs, **stage.context}
    raised = next((task.task_exception_details for task in stage.tasks if task.task_exception_details), None)
    if raised and "error" not in stage.context:
        error = str(raised.get("message", "")).removeprefix(f"{raised.get('type')}: ")
        stage.context.setdefault("exception", {"details": {"error": error, "errors": [error], "transient": False}})


def _unreached(stages: Mapping[str, StageExecution]) -> list[StageExecution]:
    """Return the stages that were given up because of what happened before them, and not by a choice."""
    reached: dict[str, bool] = {}
    todo = list(stages)
    while todo:
        stage = stages[todo[-1]]
        before = [ref_id for ref_id in stage.requisite_stage_ref_ids if ref_id in stages]
        if unknown := [ref_id for ref_id in before if ref_id not in reached]:
            todo += unknown
            continue
        was_given_up = stage.status in _GIVEN_UP and stage.start_time is None
        is_behind_failure = any(stages[one].status.is_halt or not reached[one] for one in before)
        reached[todo.pop()] = not (was_given_up and is_behind_failure)
    return [stage for ref_id, stage in stages.items() if not reached[ref_id]]
