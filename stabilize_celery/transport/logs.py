"""Celery's log handlers, made to write JSON."""

import logging
from typing import Any

from celery.signals import after_setup_logger, after_setup_task_logger

from stabilize_celery.telemetry.log_lines import JsonFormatter

__all__ = ["log_as_json"]


def log_as_json() -> None:
    """Let the handlers that Celery sets up in this process write one JSON object per line."""
    after_setup_logger.connect(_format_all, weak=False)
    after_setup_task_logger.connect(_format_all, weak=False)


def _format_all(logger: logging.Logger | None = None, **_: Any) -> None:
    for handler in logger.handlers if logger is not None else ():
        handler.setFormatter(JsonFormatter())
