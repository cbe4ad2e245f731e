"""Structured logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.telemetry.log_lines import JsonFormatter, LogContext
from stabilize_celery.testing import Simulation
from tests.simulation.stories import stage, workflow

logger = logging.getLogger("shop")


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert text.encode()
    return dict(json.loads(text, parse_constant=refuse))


def record_of(said: str = "told", /, name: str = "shop", args: Any = (), **extra: Any) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, logging.INFO, __file__, 1, said, args, None, extra=extra)


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


class Untold:
    """A value whose own methods fail."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def _circle() -> dict[str, Any]:
    circle: dict[str, Any] = {}
    circle["again"] = circle
    return circle


def _nested(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "nan"),
        ([float("-inf")], ["-inf"]),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        (_circle(), {"again": "..."}),
        (Untold(), "<Untold, which can't be told: RuntimeError>"),
        ({"at": Untold(), (1,): True}, {"at": "<Untold, which can't be told: RuntimeError>", "(1,)": True}),
        ([10**10_000], ["<int, which can't be told: ValueError>"]),
        ({"set": {1}}, {"set": "{1}"}),
    ],
)
def test_no_line_is_lost_for_what_is_no_json(value: Any, told: Any) -> None:
    """What can't be told is named by its type; the rest of the line is as ever."""
    line = line_of(record_of(given=value, order=7))

    assert (line["text"], line["given"], line["order"]) == ("told", told, 7)


@pytest.mark.parametrize(
    "made",
    [
        lambda: record_of(given=_nested(100_000)),
        lambda: record_of("count %d", args=("x",)),
        lambda: record_of("of %s", args=(Untold(),)),
        lambda: record_of("half \udc80 a pair"),
    ],
)
def test_no_line_is_lost_for_its_depth_its_arguments_or_its_letters(made: Callable[[], logging.LogRecord]) -> None:
    """The programmer's mistake is told in the line itself."""
    assert line_of(made())["text"]


def test_what_code_gives_replaces_nothing_of_the_line() -> None:
    """Neither the text nor whose work it is: both are shown where they differ."""
    lines: list[dict[str, Any]] = []

    def work(_: Any) -> dict[str, Any]:
        given = {"workflow_id": "mine", "text": "mine", "stage": "a", "traceback": "mine"}
        lines.append(line_of(record_of(**given)))
        return {}

    simulation = Simulation(1, {"work": work})
    simulation.runtime.unit.observer = LogContext()
    workflow_id = simulation.start(workflow(stage("a")))
    simulation.finish(workflow_id)

    (line,) = lines
    assert (line["workflow_id"], line["text"], line["stage"]) == (workflow_id, "told", "a")
    assert (line["extra_workflow_id"], line["extra_text"], line["traceback"]) == ("mine", "mine", "mine")
    assert "extra_stage" not in line


def test_data_is_left_out_of_celerys_own_lines_only() -> None:
    """Celery's are a task's arguments; one's own are told."""
    assert line_of(record_of(data={"a": 1}))["data"] == {"a": 1}
    assert "data" not in line_of(record_of(name="celery.worker.strategy", data={"args": "()"}))


def test_a_stack_that_is_asked_for_is_told() -> None:
    record = record_of()
    record.stack_info = "Stack (most recent call last):\n  here"

    assert line_of(record)["stack"].endswith("here")
