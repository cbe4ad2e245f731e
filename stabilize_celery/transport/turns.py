"""Tasks that a process goes on with (mode `continuation`): Celery knows nothing of them, so they are told of here.

What runs is written into memory that a worker's main process shares with its children: it extends their leases, and
reports them lost if the child dies. Flower sees them by the same events that Celery sends for a delivery.
"""

import logging
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from billiard.process import current_process
from celery import Celery

from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.ports import outgoing
from stabilize_celery.transport.payloads import readable
from stabilize_celery.transport.publish import task_name

__all__ = ["Delivered", "Going", "TaskEvents", "Turns"]

logger = logging.getLogger(__name__)

_SLOTS = 1_024
_SIZE = 1_024
_HEAD = struct.Struct("=HId")


@dataclass(frozen=True, slots=True)
class Going:
    """A message that the process `pid` handles though Celery has not delivered it; `since_s` is epoch time."""

    task_id: str
    task_type: str
    kind: str
    pid: int
    since_s: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that Celery has delivered and that is done: the result as Flower shows it, and how long it took."""

    task_id: str
    result: str
    took_s: float


class Turns:
    """What the processes of one worker go on with. Made before they are forked."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _SLOTS * _SIZE)
        self._threads: dict[int, Going] = {}
        self._main_pid = os.getpid()

    def going_on(self, task_id: str, task_type: str, kind: str) -> AbstractContextManager[None]:
        """Make a message of a kind known, inside; `task_type` is that of the task that it is about, if any."""
        going = Going(task_id, task_type, kind, os.getpid(), time.time())
        if going.pid == self._main_pid:
            return _GoingOnHere(self._threads, going)
        return _GoingOnInChild(self._shared, _SIZE * (getattr(current_process(), "index", going.pid) % _SLOTS), going)

    def all(self) -> list[Going]:
        """Return what goes on now. Called in the main process."""
        slots = (self._read(at) for at in range(0, _SLOTS * _SIZE, _SIZE))
        return [*self._threads.values(), *(going for going in slots if going is not None)]

    def of(self, pid: int | None) -> Going | None:
        """Return what a process goes on with now, if anything."""
        return next((going for going in self.all() if going.pid == pid), None)

    def lost(self, pid: int | None) -> list[Going]:
        """Return what a process went on with that has died, and forget it."""
        found = [going for going in self.all() if going.pid == pid]
        for at in range(0, _SLOTS * _SIZE, _SIZE):
            if (going := self._read(at)) is not None and going in found:
                self._shared[at : at + 2] = b"\0\0"
        return found

    def _read(self, at: int) -> Going | None:
        length, pid, since_s = _HEAD.unpack_from(self._shared, at)
        if not length:
            return None
        text = self._shared[at + _HEAD.size : at + _HEAD.size + length].decode(errors="replace")
        task_id, task_type, kind = (*text.split("\n"), "", "")[:3]
        return Going(task_id, task_type, kind, pid, since_s)


class _GoingOnHere(AbstractContextManager[None]):
    """What a thread of the main process goes on with."""

    def __init__(self, threads: dict[int, Going], going: Going) -> None:
        self._threads = threads
        self._going = going
        self._thread = threading.get_ident()

    def __enter__(self) -> None:
        self._threads[self._thread] = self._going

    def __exit__(self, *_: object) -> None:
        # Another one may have begun inside, after this one had ended.
        self._threads.pop(self._thread, None)


class _GoingOnInChild(AbstractContextManager[None]):
    """What a child goes on with, written where its main process looks."""

    def __init__(self, shared: mmap.mmap, at: int, going: Going) -> None:
        self._shared = shared
        self._at = at
        self._going = going

    def __enter__(self) -> None:
        shared, at, going = self._shared, self._at, self._going
        text = f"{going.task_id}\n{going.task_type}\n{going.kind}".encode()[: _SIZE - _HEAD.size]
        # The length comes last: who reads meanwhile sees nothing, and looks again at the next heartbeat.
        shared[at : at + 2] = b"\0\0"
        shared[at + _HEAD.size : at + _HEAD.size + len(text)] = text
        shared[at : at + _HEAD.size] = _HEAD.pack(len(text), going.pid, going.since_s)

    def __exit__(self, *_: object) -> None:
        self._shared[self._at : self._at + 2] = b"\0\0"


class TaskEvents:
    """Sends the events of a delivery for a task that was not delivered. Made before the processes are forked.

    Args:
        hostname: The worker's name, as in the events that it sends itself.

    """

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

    @contextmanager
    def around(self, message: Message) -> Iterator[None]:
        """Tell that a message was received and starts, then that it has succeeded; its outcome is in the workflow."""
        sent = outgoing(message, "")
        began = time.monotonic()
        fields = {"name": task_name(sent.kind), "args": "()", "kwargs": readable(sent.kwargs), "retries": 0}
        self._tell(sent.task_id, {"task-received": fields, "task-started": {}})
        yield
        ended = {"result": "'continued'", "runtime": time.monotonic() - began}
        self._tell(sent.task_id, {"task-succeeded": ended})

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
