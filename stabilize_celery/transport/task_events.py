"""The events of a delivery, for messages that were not delivered: Flower shows them like any other.

What happens within a moment is sent together, from a thread: a message of its own for each would cost more than the
message that it is about.
"""

import logging
import mmap
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.utils.saferepr import saferepr

from stabilize_celery.transport.payloads import readable

__all__ = ["TaskEvents"]

_TOGETHER_S = 0.05
"""How long an event waits for others (s)."""
_MOST = 500
"""Events in one message (count)."""

logger = logging.getLogger(__name__)


class TaskEvents:
    """Those of one worker. Made before its processes are forked.

    Args:
        hostname: The worker's name, as in the events that it sends itself.

    """

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._senders: dict[int, _Sender] = {}
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
        self._tell("task-received", task_id, name=name, args="()", kwargs=readable(kwargs), retries=0)
        self._tell("task-started", task_id)

    def succeeded(self, task_id: str, result: str, took_s: float) -> None:
        """Tell that it was handled, and with which result."""
        self._tell("task-succeeded", task_id, result=result, runtime=took_s)

    def failed(self, task_id: str, error: Exception) -> None:
        """Tell that its handling has raised something: it comes back."""
        told = "".join(traceback.format_exception(error))
        self._tell("task-failed", task_id, exception=saferepr(error), traceback=told)

    def send_now(self) -> None:
        """Send what this process has not sent yet: it is about to end."""
        if (sender := self._senders.get(os.getpid())) is not None:
            sender.send_all()

    def _tell(self, kind: str, task_id: str, **fields: Any) -> None:
        pid = os.getpid()
        sender = self._senders.get(pid)
        if sender is None:
            sender = self._senders.setdefault(pid, _Sender(self._app, self._hostname))
        sender.add(kind, {"uuid": task_id, "root_id": task_id, "parent_id": None, "timestamp": time.time(), **fields})


class _Sender:
    """What one process has to tell, and the thread that sends it."""

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._events: deque[tuple[str, dict[str, Any]]] = deque()
        self._has_some = threading.Event()
        self._sending = threading.Lock()
        self._dispatcher: Any = None
        self._thread: threading.Thread | None = None

    def add(self, kind: str, fields: dict[str, Any]) -> None:
        self._events.append((kind, fields))
        if not self._has_some.is_set():
            self._has_some.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stabilize-events", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._has_some.wait()
            time.sleep(_TOGETHER_S)
            self._has_some.clear()
            self.send_all()

    def send_all(self) -> None:
        with self._sending:
            try:
                while self._events:
                    self._send_some()
            except Exception:
                self._dispatcher = None
                # Who watches sees less; the work goes on.
                logger.warning("what Flower shows is incomplete: events of tasks could not be sent", exc_info=True)
                self._events.clear()

    def _send_some(self) -> None:
        if self._dispatcher is None:
            connection = self._app.connection_for_write()
            grouped = {"buffer_group": frozenset({"task"}), "buffer_limit": _MOST + 1}
            self._dispatcher = self._app.events.Dispatcher(
                connection, hostname=self._hostname, buffer_while_offline=False, **grouped
            )
        for _ in range(min(len(self._events), _MOST)):
            kind, fields = self._events.popleft()
            self._dispatcher.send(kind, **fields)
        self._dispatcher.flush(errors=False)
