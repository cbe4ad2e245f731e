"""What Celery has around a task that it executes, others have around what a process took itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery, current_task
from celery.app import trace
from celery.signals import task_failure, task_postrun, task_prerun, task_success
from celery.utils.log import get_task_logger

from stabilize_celery.models.messages import Message, RunTask, StartStage
from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.surroundings import Surroundings

RUN = RunTask(workflow_id="w", ref_id="a", thread="t", task_index=0, task_type="charge")
START = StartStage(workflow_id="w", ref_id="a", thread="t")
RUN_ID = "w/Run:t..0"


def app_with_tasks(broker: str = "memory://") -> Celery:
    """An app whose tasks are ours."""
    app = Celery("test", broker=broker, set_as_current=False)
    Stabilize(app, redis_url="redis://127.0.0.1:1/0")
    return app


@pytest.fixture(name="surroundings")
def of_an_app() -> Surroundings:
    """Those of a worker that nobody watches."""
    return Surroundings(app_with_tasks(), "worker@here")


def handled(surroundings: Surroundings, message: Message, act: Callable[[], Any] = lambda: None) -> Any:
    """Do something with them around it; its outcome is always the same."""
    with surroundings.around(message, f"{message.workflow_id}/{message.name}") as outcome:
        found = act()
        outcome.note = "SUCCEEDED"
    return found


@contextmanager
def heard(*signals: Any) -> Iterator[list[tuple[Any, dict[str, Any]]]]:
    """Return which signals were sent inside, in order, with what they say."""
    sent: list[tuple[Any, dict[str, Any]]] = []
    receivers = [(one, lambda signal=one, **told: sent.append((signal, told))) for one in signals]
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)
    try:
        yield sent
    finally:
        for signal, receiver in receivers:
            signal.disconnect(receiver)


ALL = (task_prerun, task_success, task_failure, task_postrun)


def test_libraries_find_the_task_and_its_request(surroundings: Surroundings) -> None:
    """As `current_task`, and in the lines of Celery's task loggers; no longer than it is handled."""

    def look() -> tuple[str, str, dict[str, Any], str]:
        request = current_task.request
        return current_task.name, request.id, request.kwargs, request.hostname

    name, task_id, kwargs, hostname = handled(surroundings, RUN, look)

    assert (name, task_id, hostname) == ("stabilize.RunTask", RUN_ID, "worker@here")
    assert kwargs["ref_id"] == "a"
    assert not current_task


def test_one_inside_another_gives_way(surroundings: Surroundings) -> None:
    """What a body logs is its own, though a message before it began the turn."""
    with surroundings.around(START, "w/Start:t"):
        assert handled(surroundings, RUN, lambda: current_task.request.id) == RUN_ID
        assert current_task.request.id == "w/Start:t"


def test_signals_tell_of_each(surroundings: Surroundings) -> None:
    """Django closes connections at them; others count, or trace."""
    with heard(*ALL) as sent:
        handled(surroundings, RUN)

    assert [signal for signal, _ in sent] == [task_prerun, task_success, task_postrun]
    assert {told["sender"].name for _, told in sent} == {"stabilize.RunTask"}
    (_, before), (_, success), (_, after) = sent
    assert (before["task_id"], before["kwargs"]["task_type"]) == (RUN_ID, "charge")
    assert success["result"] == "SUCCEEDED"
    assert (after["task_id"], after["state"], after["retval"]) == (RUN_ID, "SUCCESS", "SUCCEEDED")


def test_signals_tell_of_what_was_raised(surroundings: Surroundings) -> None:
    """That is no result of a body, which the workflow has: the message comes back."""
    with heard(*ALL) as sent, pytest.raises(ValueError, match="broken"), surroundings.around(RUN, RUN_ID):
        raise ValueError("broken")

    assert [signal for signal, _ in sent] == [task_prerun, task_failure, task_postrun]
    assert str(sent[1][1]["exception"]) == "broken"
    assert sent[2][1]["state"] == "FAILURE"
    assert not current_task


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 1), (logging.WARNING, 0)])
def test_each_has_its_line_in_the_log(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch, level: int, lines: int
) -> None:
    """As Celery logs a delivery, where it would."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    # A program that sets up logging may have switched off those that were there.
    monkeypatch.setattr(trace.logger, "disabled", False)
    monkeypatch.setattr(trace.logger, "handlers", [handler])
    before = trace.logger.level
    trace.logger.setLevel(level)
    try:
        handled(surroundings, RUN)
    finally:
        trace.logger.setLevel(before)

    assert len(told) == lines
    line = re.compile(r"Task stabilize\.RunTask\[w/Run:t\.\.0\] succeeded in [\d.e-]+s: 'SUCCEEDED'")
    assert all(line.fullmatch(text) for text in told)


def test_a_task_logger_names_the_message(surroundings: Surroundings) -> None:
    """Celery's formatter asks for the current task."""
    from celery.app.log import TaskFormatter

    record = get_task_logger("shop").makeRecord("shop", logging.INFO, "f", 1, "charging", (), None)

    line = handled(surroundings, RUN, lambda: TaskFormatter("%(task_name)s[%(task_id)s]: %(message)s").format(record))

    assert line == f"stabilize.RunTask[{RUN_ID}]: charging"
