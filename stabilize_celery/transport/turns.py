"""Messages that a process handles though Celery has not delivered them: its worker's main process learns of them here.

What runs is written into memory that it shares with its children: it extends their leases, and reports them lost if the
child dies.
"""

import mmap
import os
import struct
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

from billiard.process import current_process

__all__ = ["Delivered", "Going", "Turns"]

_SLOTS = 1_024
_SIZE = 1_024
_HEAD = struct.Struct("=HId")
_COUNT = struct.Struct("=Q")


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
    """A message that Celery has delivered to the process `pid` and that is done: its result as Flower shows it.

    Several deliveries may have one id at a time: an attempt that has lost its lease, and the one in its place.
    """

    task_id: str
    result: str
    took_s: float
    pid: int


class Turns:
    """What the processes of one worker go on with. Made before they are forked."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _SLOTS * _SIZE)
        self._counts = mmap.mmap(-1, _SLOTS * _COUNT.size)
        self._threads: dict[int, Going] = {}
        self._main_pid = os.getpid()

    def going_on(self, task_id: str, task_type: str, kind: str) -> AbstractContextManager[None]:
        """Make a message of a kind known, inside; `task_type` is that of the task that it is about, if any."""
        going = Going(task_id, task_type, kind, os.getpid(), time.time())
        slot = getattr(current_process(), "index", going.pid) % _SLOTS
        at = slot * _COUNT.size
        _COUNT.pack_into(self._counts, at, _COUNT.unpack_from(self._counts, at)[0] + 1)
        if going.pid == self._main_pid:
            return _GoingOnHere(self._threads, going)
        return _GoingOnInChild(self._shared, _SIZE * slot, going)

    def count(self) -> int:
        """Return how many there were since the worker began (count); threads that count at once may count as one."""
        return sum(count for (count,) in _COUNT.iter_unpack(self._counts[:]))

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
