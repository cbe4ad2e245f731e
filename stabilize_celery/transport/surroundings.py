"""What Celery has around a task that it executes, for a message that it has not delivered to this process.

The current task and its request, which log lines and libraries look for; the signals of a run; a line in the log;
events. So nobody who counts on them needs to know which messages a process took itself (docs/decisions/012).
"""

import logging
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Celery
from celery._state import _task_stack
from celery.app import trace
from celery.app.task import Context
from celery.signals import task_failure, task_postrun, task_prerun, task_success
from celery.states import FAILURE, SUCCESS
from celery.utils.saferepr import saferepr

from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.ports import Outcome, outgoing
from stabilize_celery.transport.publish import task_name
from stabilize_celery.transport.task_events import TaskEvents

__all__ = ["Surroundings"]


class Surroundings:
    """Those of one worker. Made before its processes are forked.

    Args:
        hostname: The worker's name, as in the events that it sends itself.

    """

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._tasks: dict[type[Message], Any] = {}
        self.events = TaskEvents(app, hostname)

    def around(self, message: Message, task_id: str) -> AbstractContextManager[Outcome]:
        """Return what has them around the handling of a message, whose outcome is set inside.

        `task_id`: as it would be delivered with, `<workflow id>/<ledger name>`.
        """
        kind = type(message)
        task = self._tasks.get(kind)
        if task is None:
            task = self._tasks[kind] = self._app.tasks[task_name(kind.__name__)]
        request = _Request(message, task_id, self._hostname)
        listeners = _Listeners(task, request, self.events) if self._somebody_listens() else None
        return _Around(task, request, listeners)

    def _somebody_listens(self) -> bool:
        return any(signal.receivers for signal in _SIGNALS) or self.events.are_wanted or _logs()


_SIGNALS = (task_prerun, task_success, task_failure, task_postrun)


def _logs() -> bool:
    return bool(trace.logger.isEnabledFor(logging.INFO))


class _Request(Context):
    """The request of a task, as `current_task.request` has it."""

    called_directly = False

    def __init__(self, message: Message, task_id: str, hostname: str) -> None:
        # Celery's own way looks for headers among fifty names, which costs more than all else here.
        self.message = message
        self.hostname = hostname
        self.id = self.root_id = task_id
        self.args = ()
        self.delivery_info: dict[str, Any] = {}

    @property
    def kwargs(self) -> dict[str, Any]:
        """What the message says, as it is sent."""
        return dict(outgoing(self.message, "").kwargs)


class _Around(AbstractContextManager[Outcome]):
    __slots__ = ("_listeners", "_outcome", "_request", "_task")

    def __init__(self, task: Any, request: _Request, listeners: "_Listeners | None") -> None:
        self._task = task
        self._request = request
        self._listeners = listeners
        self._outcome = Outcome()

    def __enter__(self) -> Outcome:
        _task_stack.push(self._task)
        self._task.request_stack.push(self._request)
        if self._listeners is not None:
            self._listeners.begun()
        return self._outcome

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        try:
            if self._listeners is not None:
                self._listeners.ended(self._outcome.note, error)
        finally:
            self._task.request_stack.pop()
            _task_stack.pop()


class _Listeners:
    """Who wants to hear of the handling of one message: signals' receivers, the log, and who asks for events."""

    def __init__(self, task: Any, request: _Request, events: TaskEvents) -> None:
        self._task = task
        self._events = events if events.are_wanted else None
        self._id, self._kwargs = request.id, request.kwargs
        self._about = {"task_id": request.id, "args": (), "kwargs": self._kwargs}
        self._began_s = time.monotonic()

    def begun(self) -> None:
        if self._events is not None:
            self._events.begun(self._id, self._task.name, self._kwargs)
        task_prerun.send(sender=self._task, task=self._task, **self._about)

    def ended(self, note: str, error: BaseException | None) -> None:
        if error is None:
            self._succeeded(note, time.monotonic() - self._began_s)
        elif isinstance(error, Exception):
            self._failed(error)
        state, returned = (SUCCESS, note) if error is None else (FAILURE, error)
        task_postrun.send(sender=self._task, task=self._task, retval=returned, state=state, **self._about)

    def _succeeded(self, note: str, took_s: float) -> None:
        task_success.send(sender=self._task, result=note)
        result = saferepr(note)
        if _logs():
            trace.info(
                trace.LOG_SUCCESS, {"id": self._id, "name": self._task.name, "return_value": result, "runtime": took_s}
            )
        if self._events is not None:
            self._events.succeeded(self._id, result, took_s)

    def _failed(self, error: Exception) -> None:
        raised = (type(error), error, error.__traceback__)
        told = {"exception": error, "traceback": error.__traceback__, "einfo": ExceptionInfo(raised)}
        task_failure.send(sender=self._task, **told, **self._about)
        if self._events is not None:
            self._events.failed(self._id, error)
