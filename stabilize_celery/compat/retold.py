"""A workflow as upstream's store told it, where all other views of it say more, or say it elsewhere.

A stage that a failure kept from being reached is NOT_STARTED there; here it is SKIPPED or CANCELED as soon as nothing
can reach it any more. One whose tasks had all succeeded when another stage's failure ended the workflow is SUCCEEDED.
What a task raised, or put out before it failed, stands in its stage's context, too, and what became of its jumps; so
does what a stage that has started saw of the outputs of those before it. A task whose failure its stage bears has its
stage's status, and a stage that is to be skipped by hand has succeeded without its tasks. Versions grow when a stage or
task starts and ends.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from stabilize_celery import errors
from stabilize_celery.compat.jumps import tell_jumps
from stabilize_celery.errors import EngineError, ErrorCode, classify_name
from stabilize_celery.models.merge import merge_outputs
from stabilize_celery.models.reducers import ANY, ReducerError, reduce
from stabilize_celery.models.stage import StageExecution, SyntheticStageOwner
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["retold"]

_CANCELED, _SUCCEEDED = WorkflowStatus.CANCELED, WorkflowStatus.SUCCEEDED
_TERMINAL, _NOT_STARTED = WorkflowStatus.TERMINAL, WorkflowStatus.NOT_STARTED
_BEFORE = SyntheticStageOwner.STAGE_BEFORE
_BORNE = (WorkflowStatus.FAILED_CONTINUE, WorkflowStatus.STOPPED)
_OF_TASKS = {
    (_CANCELED, _NOT_STARTED): _CANCELED,
    **{(status, _NOT_STARTED): WorkflowStatus.SKIPPED for status in (_TERMINAL, *_BORNE)},
    **{(status, _TERMINAL): status for status in _BORNE},
}
"""What a task's status is told as, by its stage's and its own."""
_NO_TARGET = "RedirectError"
"""How the engine calls the failure of a task that redirects to nowhere."""
_GIVEN_UP = frozenset({WorkflowStatus.SKIPPED, _CANCELED})


def retold(workflow: Workflow) -> Workflow:
    """Return the workflow, told so."""
    tell_jumps(workflow)
    stages = {stage.ref_id: stage for stage in workflow.stages}
    _tell_what_was_seen(stages)
    for stage in workflow.stages:
        _tell_failure(stage)
        _tell_manual_skip(stage)
        if stage.status is _CANCELED and stage.tasks and all(task.status is _SUCCEEDED for task in stage.tasks):
            stage.status = _SUCCEEDED
    told = _CANCELED if workflow.status is _CANCELED else _NOT_STARTED
    for stage in _unreached(stages):
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


def _tell_what_was_seen(stages: Mapping[str, StageExecution]) -> None:
    """Put what earlier stages had put out behind the own context of each that has started."""
    seen: dict[str, dict[str, Any]] = {}
    for stage, before in _in_order(stages):
        told = [{**seen[one.ref_id], **_put_out_before(stage, one)} for one in before]
        seen[stage.ref_id] = told[0] if len(told) == 1 else merge_outputs(told)
        if stage.start_time is not None:
            stage.context = {**seen[stage.ref_id], **_reduced(stage, before), **stage.context}


def _reduced(stage: StageExecution, before: list[StageExecution]) -> dict[str, Any]:
    """Return what its reducers made of the outputs that its branches brought."""
    told: dict[str, Any] = {}
    for name, reducer in stage.output_reducers.items():
        brought = [one.outputs[name] for one in before if name in one.outputs]
        if brought and name != ANY:
            with suppress(ReducerError):  # its stage has failed of it
                told[name] = reduce(reducer, brought)
    return told


def _put_out_before(stage: StageExecution, other: StageExecution) -> dict[str, Any]:
    """Return the outputs of a stage before `stage`; a parent has none yet when its before-stages run."""
    is_coming = stage.parent_stage_id in (other.id, other.ref_id) and stage.synthetic_stage_owner is _BEFORE
    return {} if is_coming else other.outputs


def _tell_failure(stage: StageExecution) -> None:
    if stage.status not in (_TERMINAL, *_BORNE):
        return
    stage.context = {**stage.outputs, **stage.context}
    failed = next((task for task in stage.tasks if task.task_exception_details), None)
    raised = {} if failed is None else failed.task_exception_details
    kind, message = str(raised.get("type", "")), str(raised.get("message", ""))
    if "error" in stage.context or not message or (stage.status is WorkflowStatus.STOPPED and not kind):
        return
    error = message.removeprefix(f"{kind}: ")
    if kind == _NO_TARGET:
        stage.context["error"] = error
        return
    details = {"error": error, "errors": [error], "transient": False, "error_code": _code(kind).value}
    stage.context.setdefault("exception", {"details": details})
    raised.setdefault("exception", {"details": details})


def _code(type_name: str) -> ErrorCode:
    """Return the kind of failure that an exception's class stands for, by its name."""
    name = type_name.rpartition(".")[2]
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, EngineError):
        return known.default_error_code
    return classify_name(name)


def _tell_manual_skip(stage: StageExecution) -> None:
    if stage.status is WorkflowStatus.SKIPPED and stage.context.get("manualSkip"):
        stage.status = _SUCCEEDED
        for task in stage.tasks:
            task.status = WorkflowStatus.SKIPPED


def _unreached(stages: Mapping[str, StageExecution]) -> list[StageExecution]:
    """Return the stages that were given up because of what happened before them, and not by a choice."""
    reached: dict[str, bool] = {}
    for stage, before in _in_order(stages):
        was_given_up = stage.status in _GIVEN_UP and stage.start_time is None
        required = [one for one in before if one.ref_id in stage.requisite_stage_ref_ids]
        is_behind_failure = any(one.status.is_halt or not reached[one.ref_id] for one in required)
        reached[stage.ref_id] = not (was_given_up and is_behind_failure)
    return [stage for ref_id, stage in stages.items() if not reached[ref_id]]


def _in_order(stages: Mapping[str, StageExecution]) -> Iterator[tuple[StageExecution, list[StageExecution]]]:
    """Yield each stage behind those before it, and those: what it requires, and the stage that it is part of."""
    known = {**stages, **{stage.id: stage for stage in stages.values()}}
    done: set[str] = set()
    todo = list(stages)
    while todo:
        stage = stages[todo[-1]]
        before = [stages[ref_id] for ref_id in sorted(stage.requisite_stage_ref_ids) if ref_id in stages]
        if (parent := known.get(stage.parent_stage_id or "")) is not None:
            before.append(parent)
        if waiting := [one.ref_id for one in before if one.ref_id not in done]:
            todo += waiting
            continue
        if todo.pop() not in done:
            done.add(stage.ref_id)
            yield stage, before
