"""Structured logs: one JSON object per line, which says whose work a line is about."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.observing import Observer

__all__ = ["JsonFormatter", "LogContext"]

_WORK: ContextVar[Mapping[str, Any]] = ContextVar("stabilize_work", default={})  # noqa: B039 - never changed in place
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_CELERYS = frozenset({"celery.worker.strategy", "celery.app.trace"})
"""Celery's loggers that pass a task's arguments as `extra`, under `data`."""
_DEEPEST = 64
_LARGEST_BITS = 4_096
"""Python refuses to write out much larger numbers."""


class LogContext(Observer):
    """Makes known to log lines which workflow, stage and message the code of this thread works for."""

    def around_delivery(self, message: Message, handle: Callable[[], str]) -> str:
        """Tell of the message."""
        token = _WORK.set(_ids(message))
        try:
            return handle()
        finally:
            _WORK.reset(token)

    def around_body(self, claimed: ClaimedTask, execute: Callable[[], TaskReturned]) -> TaskReturned:
        """Tell of the task: the process may go on with another one than was delivered."""
        task = {"task": claimed.task_name, "task_type": claimed.message.task_type, "attempt": claimed.attempt}
        token = _WORK.set({**_ids(claimed.message), **task})
        try:
            return execute()
        finally:
            _WORK.reset(token)


def _ids(message: Message) -> dict[str, Any]:
    return {
        "workflow_id": message.workflow_id,
        "stage": getattr(message, "ref_id", "") or None,
        "message": message.name,
        "message_type": type(message).__name__,
    }


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, text, ids, traceback, what was given as `extra`.

    No line is lost for what it was given: what is not JSON is told in words, what can't be told by its type. What is
    given under a name of the line's own has `extra_` before it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "text": _text(record),
            "process": record.process,
            **{name: value for name, value in _WORK.get().items() if value is not None},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        own = frozenset(line)
        for name, value in _given(record):
            if name not in own:
                line[name] = value
            elif type(value) is not str or value != line[name]:
                line[f"extra_{name}"] = value
        return _dumped(line)


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the arguments don't fit the text, or can't be told
        return f"{_told(record.msg)} {_told(record.args)}"


def _given(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """Yield what was given as `extra`."""
    for name, value in vars(record).items():
        if name not in _OF_EVERY_RECORD and not (name == "data" and record.name in _CELERYS):
            yield name, value


def _dumped(line: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, default=_told)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_as_json(line, ()), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair is escaped, as JSON does it: no file takes it.
    return text.encode(errors="backslashreplace").decode()


def _as_json(value: Any, inside: tuple[int, ...]) -> Any:
    """Return what JSON takes of a value; `inside`: what it stands in (`id` of each)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str) or (isinstance(value, int) and value.bit_length() <= _LARGEST_BITS):
        return value
    if len(inside) > _DEEPEST or id(value) in inside:
        return "..."
    within = (*inside, id(value))
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _told(key): _as_json(one, within) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(one, within) for one in value]
    return _told(value)


def _told(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - it is user code, and a line is not lost by it
        return f"<{type(value).__name__}, which can't be told: {type(error).__name__}>"
