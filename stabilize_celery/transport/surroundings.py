"""What Celery has around a task that it executes, for a message that it has not delivered to this process.

The current task and its request, which log lines and libraries look for; the signals of a run; a line in the log;
events. So nobody who counts on them needs to know which messages a process took itself (docs/decisions/012).
"""

import logging
import mmap
import os
import time
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
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
from stabilize_celery.transport.payloads import readable
from stabilize_celery.transport.publish import task_name

__all__ = ["Surroundings", "TaskEvents"]

logger = logging.getLogger(__name__)


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

    def __init__(self, task: Any, request: _Request, events: "TaskEvents") -> None:
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


class TaskEvents:
    """Sends the events of a delivery for a message that was not delivered: Flower shows it like any other."""

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._main_pid = os.getpid()
        self._own: tuple[int, Any] = 0, None
        """A process that was forked, and the dispatcher that it keeps."""
        self._wanted = mmap.mmap(-1, 1)

    @property
    def are_wanted(self) -> bool:
        """Whether the worker tells of its tasks; set by its main process, for the children that it has forked, too."""
        return self._wanted[0] == 1

    @are_wanted.setter
    def are_wanted(self, wanted: bool) -> None:
        self._wanted[0] = int(wanted)

    def begun(self, task_id: str, name: str, kwargs: Mapping[str, Any]) -> None:
        """Tell that a message was received, and that its handling starts."""
        fields = {"name": name, "args": "()", "kwargs": readable(kwargs), "retries": 0}
        self._tell(task_id, {"task-received": fields, "task-started": {}})

    def succeeded(self, task_id: str, result: str, took_s: float) -> None:
        """Tell that it was handled, and with which result."""
        self._tell(task_id, {"task-succeeded": {"result": result, "runtime": took_s}})

    def failed(self, task_id: str, error: Exception) -> None:
        """Tell that its handling has raised something: it comes back."""
        told = {"exception": saferepr(error), "traceback": "".join(traceback.format_exception(error))}
        self._tell(task_id, {"task-failed": told})

    def _tell(self, task_id: str, events: Mapping[str, Mapping[str, object]]) -> None:
        try:
            with self._dispatcher() as dispatcher:
                for kind, fields in events.items():
                    dispatcher.send(kind, uuid=task_id, root_id=task_id, parent_id=None, **fields)
                dispatcher.flush(errors=False)
        except Exception:
            self._own = 0, None
            # Who watches sees less; the work goes on.
            logger.warning("%s of %s could not be told", " and ".join(events), task_id, exc_info=True)

    def _dispatcher(self) -> AbstractContextManager[Any]:
        """Return what sends events: a child keeps one, at half the cost; threads and greenlets share a pool."""
        pid = os.getpid()
        if pid == self._main_pid:
            shared: AbstractContextManager[Any] = self._app.events.default_dispatcher(hostname=self._hostname)
            return shared
        if self._own[0] != pid:
            connection = self._app.connection_for_write()
            self._own = (
                pid,
                self._app.events.Dispatcher(
                    connection,
                    hostname=self._hostname,
                    buffer_while_offline=False,
                    buffer_group=frozenset({"task"}),
                ),
            )
        return nullcontext(self._own[1])
