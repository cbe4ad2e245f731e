"""Why an ended workflow failed, by stage."""

from collections.abc import Iterator

from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.words import plural
from stabilize_celery.engine.moves import (
    task_list,
)
from stabilize_celery.engine.state import Run, TaskState
from stabilize_celery.runtime.reading import StageView, WorkflowView

__all__ = ["reasons_of_end"]

_FAILED = ("TERMINAL", "STOPPED", "FAILED_CONTINUE")


def reasons_of_end(view: WorkflowView) -> list[Reason]:
    """Return why a workflow ended as it did: each failure, why it was cancelled; nothing where all went well."""
    record = view.record
    of_stages = [reason for ref_id, stage in view.stages.items() for reason in _of_stage(view, ref_id, stage)]
    if record.status == "CANCELED":
        who = f"cancelled by {record.canceled_by}" if record.canceled_by else "cancelled"
        return [Reason("", "canceled", f"{who}: {record.reason}" if record.reason else who), *of_stages]
    if record.status != "SUCCEEDED" and record.reason and not any(reason.ref_id for reason in of_stages):
        return [Reason("", "failed", f"ended {record.status}: {record.reason}")]
    return of_stages


def _of_stage(view: WorkflowView, ref_id: str, stage: StageView) -> Iterator[Reason]:
    newest = stage.newest
    if newest is None or newest[1].status not in (*_FAILED, "CANCELED"):
        return
    run = newest[1]
    if run.status == "CANCELED" and (view.record.status == "CANCELED" or run.outcome not in _FAILED):
        return
    failed = _failed_task(stage, run)
    if failed is None:
        yield Reason(ref_id, "failed", f"{run.status}: {run.reason or 'no reason was given'}")
        return
    name, state = failed
    message = str(state.error.get("message", "")) or "no reason was given"
    told = f"{run.status}: {run.reason or message}"
    detail = f"Task {name}, {plural(state.attempts, 'attempt')}" if state.attempts else f"Task {name}"
    yield Reason(ref_id, "failed", told, detail, traceback=str(state.error.get("traceback", "")))


def _failed_task(stage: StageView, run: Run) -> tuple[str, TaskState] | None:
    names = [task.name for task in task_list(stage.plan, run.planned)]
    for name, state in zip(names, run.tasks, strict=False):
        if state.error and state.status in (*_FAILED, "RUNNING", "SUSPENDED"):
            return name, state
    return None
