"""Starting a run, with the work that its stage builder plans."""

from collections.abc import Generator
from typing import Any

from stabilize_celery.engine.instances import instances_to_begin
from stabilize_celery.engine.moves import (
    Frame,
    start_run,
)
from stabilize_celery.engine.steps import Decision, Plan, Read
from stabilize_celery.models.evaluation import EvaluationError

__all__ = ["plan_and_start"]


def plan_and_start(decision: Decision, frame: Frame, **more: Any) -> Generator[Plan | Read, Any, None]:
    """Start a run, with what the builder of its stage type adds to its definition."""
    planned = (yield Plan("start", frame)) or {}
    if frame.plan.instances is not None and "error" not in planned:
        try:
            items = yield from instances_to_begin(frame)
            planned = {**planned, "instances": items}
        except EvaluationError as error:
            planned = {"error": str(error), "is_final": True}
    start_run(decision, frame, planned, **more)
