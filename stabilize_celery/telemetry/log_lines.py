"""Structured logs: one JSON object per line, which says whose work a line is about."""

import json
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.observing import Observer

__all__ = ["JsonFormatter", "LogContext"]

_WORK: ContextVar[Mapping[str, Any]] = ContextVar("stabilize_work", default={})  # noqa: B039 - never changed in place
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "data"}


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
    """Formats a record as one line of JSON: time, level, logger, text, ids, what was given as `extra`, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "text": record.getMessage(),
            "process": record.process,
            **{name: value for name, value in _WORK.get().items() if value is not None},
            **{name: value for name, value in vars(record).items() if name not in _PLAIN},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
