"""Starting a run that nothing holds back any more, with the work that its stage builder plans; or bypassing it."""

from collections.abc import Generator
from functools import partial
from typing import Any

from stabilize_celery.engine.completion import complete_run
from stabilize_celery.engine.handler import evaluated
from stabilize_celery.engine.instances import instances_to_begin
from stabilize_celery.engine.moves import (
    Frame,
    start_run,
)
from stabilize_celery.engine.steps import Decision, Handling, Plan, Read, Snapshot
from stabilize_celery.models.evaluation import EvaluationError
from stabilize_celery.models.expressions import evaluate_condition, names_in

__all__ = ["reason_to_skip", "start_or_bypass"]


def reason_to_skip(frame: Frame) -> str:
    """Return why an enabled run goes on without its work, whatever it waits for; empty if it does not."""
    if frame.plan.expiry_ms is not None and frame.now_ms > frame.plan.expiry_ms:
        return "its start time has expired"
    return "skipped by hand" if frame.context.get("manualSkip") else ""


def start_or_bypass(frame: Frame, **more: Any) -> Handling:
    """Decide the start of a run that has its milestone and its mutex now, as `stageEnabled` says now (wcp 1.3)."""
    try:
        skip = reason_to_skip(frame) or (yield from _switched_off(frame))
    except EvaluationError as error:
        return (yield from complete_run(frame, "TERMINAL", str(error)))
    if skip:
        return (yield from complete_run(frame, "SKIPPED", skip))
    decision = Decision()
    yield from _plan_and_start(decision, frame, **more)
    return decision


def _switched_off(frame: Frame) -> Generator[Read, Snapshot, str]:
    enabled = frame.context.get("stageEnabled", True)
    if not isinstance(enabled, dict):
        return "" if enabled else "stageEnabled is false"
    expression = str(enabled.get("expression"))
    is_on = yield from evaluated(frame, names_in(expression), {}, partial(evaluate_condition, expression))
    return "" if is_on else f"stageEnabled: {expression} is false"


def _plan_and_start(decision: Decision, frame: Frame, **more: Any) -> Generator[Plan | Read, Any, None]:
    """Start a run, with what the builder of its stage type adds to its definition."""
    planned = (yield Plan("start", frame)) or {}
    if frame.plan.instances is not None and "error" not in planned:
        try:
            items = yield from instances_to_begin(frame)
            planned = {**planned, "instances": items}
        except EvaluationError as error:
            planned = {"error": str(error), "is_final": True}
    start_run(decision, frame, planned, **more)
