"""Loggers that take what a line is about as keyword arguments, on the standard library's logging."""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Self

from stabilize_celery.telemetry.log_lines import JsonFormatter

__all__ = [
    "STRUCTLOG_AVAILABLE",
    "BoundLogger",
    "bind_context",
    "clear_context",
    "configure_logging",
    "get_logger",
    "stage_logger",
    "task_logger",
    "unbind_context",
    "workflow_logger",
]

STRUCTLOG_AVAILABLE = False
"""These loggers are the standard library's."""
_CONTEXT: ContextVar[Mapping[str, Any]] = ContextVar("stabilize_log_context", default={})  # noqa: B039 - never changed
_FIELDS = "stabilize_fields"
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _PlainFormatter(logging.Formatter):
    """Time, level, logger, text, and behind it what the line is about."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        fields: Mapping[str, Any] = getattr(record, _FIELDS, {})
        told = "".join(f" {name}={json.dumps(value, default=str)}" for name, value in fields.items())
        return super().formatMessage(record) + told


class BoundLogger:
    """A logger with fields that each of its lines has, beside those of `bind_context`."""

    def __init__(self, logger: logging.Logger, fields: Mapping[str, Any] | None = None) -> None:
        self._logger, self._fields = logger, dict(fields or {})

    @property
    def name(self) -> str:
        """The name of the logger below."""
        return self._logger.name

    def bind(self, **fields: Any) -> Self:
        """Return a logger with more fields."""
        return type(self)(self._logger, self._fields | fields)

    def unbind(self, *names: str) -> Self:
        """Return a logger without these fields."""
        return type(self)(self._logger, {name: value for name, value in self._fields.items() if name not in names})

    def debug(self, event: str, *args: Any, **fields: Any) -> None:
        """Log at DEBUG."""
        self._log(logging.DEBUG, event, args, fields)

    def info(self, event: str, *args: Any, **fields: Any) -> None:
        """Log at INFO."""
        self._log(logging.INFO, event, args, fields)

    def warning(self, event: str, *args: Any, **fields: Any) -> None:
        """Log at WARNING."""
        self._log(logging.WARNING, event, args, fields)

    def error(self, event: str, *args: Any, **fields: Any) -> None:
        """Log at ERROR."""
        self._log(logging.ERROR, event, args, fields)

    def critical(self, event: str, *args: Any, **fields: Any) -> None:
        """Log at CRITICAL."""
        self._log(logging.CRITICAL, event, args, fields)

    def exception(self, event: str, *args: Any, **fields: Any) -> None:
        """Log at ERROR, with the traceback of what is being handled."""
        self._log(logging.ERROR, event, args, {"exc_info": True, **fields})

    def _log(self, level: int, event: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        trouble = fields.pop("exc_info", None)
        told = {**_CONTEXT.get(), **self._fields, **fields}
        # Under their own names for formatters that show all that is given as extra, such as JsonFormatter.
        extra = {name: value for name, value in told.items() if name not in _RESERVED}
        self._logger.log(level, event, *args, exc_info=trouble, extra={**extra, _FIELDS: told}, stacklevel=3)


def configure_logging(json_format: bool = False, level: int = logging.INFO, logger_factory: Any = None) -> None:
    """Log to stdout from now on: as lines of JSON, or as text. `logger_factory` is accepted."""
    del logger_factory
    handler = logging.StreamHandler(sys.stdout)
    plain = _PlainFormatter("%(asctime)s [%(levelname)s] %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if json_format else plain)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def get_logger(name: str) -> BoundLogger:
    """Return a logger by its name."""
    return BoundLogger(logging.getLogger(name))


def bind_context(**fields: Any) -> None:
    """Let each line that this thread (or asyncio task) logs have these fields, whichever logger it uses."""
    _CONTEXT.set({**_CONTEXT.get(), **fields})


def unbind_context(*names: str) -> None:
    """Take fields of `bind_context` away again."""
    _CONTEXT.set({name: value for name, value in _CONTEXT.get().items() if name not in names})


def clear_context() -> None:
    """Take all fields of `bind_context` away."""
    _CONTEXT.set({})


def workflow_logger(workflow_id: str) -> BoundLogger:
    """Return a logger whose lines name a workflow."""
    return get_logger("stabilize.workflow").bind(workflow_id=workflow_id)


def stage_logger(workflow_id: str, stage_id: str) -> BoundLogger:
    """Return a logger whose lines name a stage."""
    return get_logger("stabilize.stage").bind(workflow_id=workflow_id, stage_id=stage_id)


def task_logger(workflow_id: str, stage_id: str, task_id: str) -> BoundLogger:
    """Return a logger whose lines name a task."""
    return get_logger("stabilize.task").bind(workflow_id=workflow_id, stage_id=stage_id, task_id=task_id)
