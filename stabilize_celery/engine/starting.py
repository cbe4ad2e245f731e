"""Starting a run, with the work that its stage builder plans."""

from collections.abc import Generator
from typing import Any

from stabilize_celery.engine.moves import Frame, start_run
from stabilize_celery.engine.steps import Decision, Plan

__all__ = ["plan_and_start"]


def plan_and_start(decision: Decision, frame: Frame, **more: Any) -> Generator[Plan, dict[str, Any], None]:
    """Start a run, with what the builder of its stage type adds to its definition."""
    planned = (yield Plan("start", frame)) or {}
    start_run(decision, frame, planned, **more)
