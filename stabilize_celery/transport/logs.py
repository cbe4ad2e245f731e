"""Celery's log handlers, made to write JSON, and what it prints beside them."""

import logging
import sys
from typing import Any

from celery.signals import after_setup_logger, after_setup_task_logger, celeryd_after_setup
from celery.utils.log import get_multiprocessing_logger

from stabilize_celery.telemetry.log_lines import JsonFormatter

__all__ = ["log_as_json"]


def log_as_json(worker: Any) -> None:
    """Let what a worker writes be one JSON object per line: its log handlers, and warnings from now on; no banner.

    Called while Celery makes the worker, before it has set up logging.
    """
    after_setup_logger.connect(_format_all, weak=False)
    after_setup_task_logger.connect(_format_all, weak=False)
    worker.quiet = True
    _capture_warnings()


def _capture_warnings() -> None:
    """Write warnings as JSON that come before logging is set up, such as that the worker runs as root."""
    early = logging.StreamHandler(sys.__stderr__)
    early.setFormatter(JsonFormatter())
    warned = logging.getLogger("py.warnings")
    warned.addHandler(early)
    logging.captureWarnings(capture=True)

    def leave_it_to_the_others(**_: Any) -> None:
        warned.removeHandler(early)

    # Once it has started they go where everything goes, also where the app sets up its own logging.
    celeryd_after_setup.connect(leave_it_to_the_others, weak=False)


def _format_all(logger: logging.Logger | None = None, **_: Any) -> None:
    # That of the pool, which tells of processes that died, is set up before the others, and nobody is told of it.
    for one in (logger, get_multiprocessing_logger()):
        for handler in one.handlers if one is not None else ():
            handler.setFormatter(JsonFormatter())
