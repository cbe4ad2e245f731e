"""The tasks that run in the pool of this worker."""

from collections.abc import Iterator, Sequence
from typing import Any

from celery.worker import state

from stabilize_celery.models.messages import RunTask
from stabilize_celery.transport.publish import task_name
from stabilize_celery.transport.upkeep import Attempt

__all__ = ["active_requests", "running_attempts"]

_RUN_TASK = task_name(RunTask.__name__)
_READ_TRIES = 20


def running_attempts() -> list[Attempt]:
    """Return the RunTasks that the pool of this worker executes, whatever the pool."""
    return list(_attempts(active_requests()))


def _attempts(requests: Sequence[Any]) -> Iterator[Attempt]:
    for request in requests:
        if request.task.name == _RUN_TASK and "/" in request.id and not request.is_done:
            yield Attempt(request.id, str(request.kwargs.get("task_type", "")), request.time_start or 0.0)


def active_requests() -> list[Any]:
    """Return the deliveries that processes of this worker have accepted and not ended."""
    # A weak set that other threads write: reading it may fail, and succeeds the next time.
    for _ in range(_READ_TRIES):
        try:
            return list(state.active_requests)
        except RuntimeError:
            continue
    return list(state.active_requests)
