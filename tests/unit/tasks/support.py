"""Stages and calls for the tests of tasks."""

from dataclasses import replace
from typing import Any

from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import TaskCall

CALL = TaskCall(
    workflow_id="w",
    stage_ref_id="a",
    run_number=1,
    instance_index=None,
    task_name="t",
    attempt=1,
    polls=0,
    started_ms=1_000,
    now_ms=1_000,
    idempotency_key="w/a/1/t",
)


def stage_with(**context: Any) -> StageExecution:
    """Return a stage `a` with this context."""
    return StageExecution(ref_id="a", context=context)


def call_with(**fields: Any) -> TaskCall:
    """Return a first call, started at 1,000 ms, with these fields changed."""
    return replace(CALL, **fields)
