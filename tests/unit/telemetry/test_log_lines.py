"""Structured logs."""

from __future__ import annotations

import json
import logging
from typing import Any

from stabilize_celery.telemetry.log_lines import JsonFormatter, LogContext
from stabilize_celery.testing import Simulation
from tests.simulation.stories import stage, workflow

logger = logging.getLogger("shop")


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_line_says_whose_work_it_is_about() -> None:
    """Of what a task's own code logs: the workflow, the stage, the message, the attempt."""
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(line_of(record))

    def work(_: Any) -> dict[str, Any]:
        logger.warning("charging %s", "ann", extra={"order": 7})
        return {}

    handler = Kept()
    logger.addHandler(handler)
    try:
        simulation = Simulation(1, {"work": work})
        simulation.runtime.unit.observer = LogContext()
        workflow_id = simulation.start(workflow(stage("a")))
        simulation.finish(workflow_id)
    finally:
        logger.removeHandler(handler)

    (line,) = lines
    assert (line["text"], line["level"], line["order"]) == ("charging ann", "WARNING", 7)
    assert (line["workflow_id"], line["stage"], line["message_type"]) == (workflow_id, "a", "RunTask")
    assert (line["task_type"], line["attempt"]) == ("work", 1)
    assert line["message"].startswith("Run:")


def test_a_line_about_nobodys_work_has_no_ids() -> None:
    """And is a line all the same, with its traceback."""
    try:
        raise ValueError("boom")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    line = line_of(logging.LogRecord("shop", logging.ERROR, __file__, 1, "failed", (), info))

    assert "workflow_id" not in line
    assert "ValueError: boom" in line["traceback"]
