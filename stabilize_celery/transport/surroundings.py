"""What Celery has around a task that it executes, for a message that it has not delivered to this process.

The current task and its request, which log lines and libraries look for; the signals of a run; a line in the log;
events. So nobody who counts on them needs to know which messages a process took itself (docs/decisions/012).
"""

import logging
import mmap
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Celery
from celery._state import _task_stack
from celery.app import trace
from celery.signals import task_failure, task_postrun, task_prerun, task_success
from celery.states import FAILURE, SUCCESS
from celery.utils.saferepr import saferepr

from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.ports import Outcome, Outgoing, outgoing
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
        self.events = TaskEvents(app, hostname)

    @contextmanager
    def around(self, message: Message) -> Iterator[Outcome]:
        """Have them around the handling of a message, whose outcome is set inside."""
        sent, outcome = outgoing(message, ""), Outcome()
        task, kwargs = self._app.tasks[task_name(sent.kind)], dict(sent.kwargs)
        about = {"task_id": sent.task_id, "args": (), "kwargs": kwargs}
        request = {"id": sent.task_id, "root_id": sent.task_id, "args": (), "kwargs": kwargs, "called_directly": False}
        began_s = time.monotonic()
        state, returned = FAILURE, None
        tells = self.events.are_wanted
        _task_stack.push(task)
        task.push_request(hostname=self._hostname, delivery_info={}, **request)
        try:
            if tells:
                self.events.begun(sent)
            task_prerun.send(sender=task, task=task, **about)
            yield outcome
            state, returned = SUCCESS, outcome.note
            self._succeeded(task, sent, outcome.note, time.monotonic() - began_s, tells=tells)
        except Exception as error:
            if state == FAILURE:
                task_failure.send(
                    sender=task, exception=error, traceback=error.__traceback__, einfo=ExceptionInfo(), **about
                )
                if tells:
                    self.events.failed(sent, error)
            raise
        finally:
            task_postrun.send(sender=task, task=task, retval=returned, state=state, **about)
            task.pop_request()
            _task_stack.pop()

    def _succeeded(self, task: Any, sent: Outgoing, note: str, took_s: float, *, tells: bool) -> None:
        task_success.send(sender=task, result=note)
        if not (tells or trace.logger.isEnabledFor(logging.INFO)):
            return
        result = saferepr(note)
        trace.info(
            trace.LOG_SUCCESS, {"id": sent.task_id, "name": task.name, "return_value": result, "runtime": took_s}
        )
        if tells:
            self.events.succeeded(sent, result, took_s)


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

    def begun(self, sent: Outgoing) -> None:
        """Tell that a message was received, and that its handling starts."""
        fields = {"name": task_name(sent.kind), "args": "()", "kwargs": readable(sent.kwargs), "retries": 0}
        self._tell(sent.task_id, {"task-received": fields, "task-started": {}})

    def succeeded(self, sent: Outgoing, result: str, took_s: float) -> None:
        """Tell that it was handled, and with which result."""
        self._tell(sent.task_id, {"task-succeeded": {"result": result, "runtime": took_s}})

    def failed(self, sent: Outgoing, error: Exception) -> None:
        """Tell that its handling has raised something: it comes back."""
        told = {"exception": saferepr(error), "traceback": "".join(traceback.format_exception(error))}
        self._tell(sent.task_id, {"task-failed": told})

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
