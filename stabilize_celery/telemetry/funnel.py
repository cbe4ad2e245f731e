"""From the processes of a pool to the main process that forked them: counts, over a pipe that never makes them wait."""

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence

import msgpack

from stabilize_celery.telemetry.tally import Count, Tally

__all__ = ["Funnel"]

logger = logging.getLogger(__name__)

_ATOMIC_BYTES = 4_096
"""What one write may have so that those of several processes do not mix (PIPE_BUF of Linux)."""
_COUNTS_PER_WRITE = 20
_MOST_WAITING = 10_000
"""Counts that a process keeps while the pipe is full; older ones are lost."""


class Funnel:
    """Counts of this process and its children, in one tally. Made before they are forked, in the main process.

    Not to be started in a pool without children: a gevent pool's threads are greenlets, and a read of a pipe that
    nobody writes to stops them all.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._main_pid = os.getpid()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._waiting: deque[Count] = deque(maxlen=_MOST_WAITING)
        self._thread: threading.Thread | None = None

    def add(self, counts: Sequence[Count]) -> None:
        """Take counts: those of the main process at once, those of a child over the pipe."""
        if os.getpid() == self._main_pid:
            self._tally.add(counts)
            return
        self._waiting.extend(counts)
        self._send()

    def start(self) -> None:
        """Begin to read what children send."""
        self._thread = threading.Thread(target=self._read, name="stabilize-counts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End reading; what children have sent before is counted. Called in the main process, when they have ended."""
        if self._thread is not None:
            os.set_blocking(self._writing, True)
            os.write(self._writing, msgpack.packb(None))
            self._thread.join(1.0)
            self._thread = None
        os.close(self._writing)
        os.close(self._reading)

    def _send(self) -> None:
        while self._waiting:
            part = [self._waiting[at] for at in range(min(_COUNTS_PER_WRITE, len(self._waiting)))]
            packed = msgpack.packb(part)
            try:
                if len(packed) <= _ATOMIC_BYTES:
                    os.write(self._writing, packed)
            except OSError:
                # Full, or its reader is gone: they go with the next ones.
                return
            for _ in part:
                self._waiting.popleft()

    def _read(self) -> None:
        unpacker = msgpack.Unpacker(use_list=False)
        while True:
            try:
                unpacker.feed(os.read(self._reading, 1 << 16))
                for counts in unpacker:
                    if counts is None:
                        return
                    self._tally.add(counts)
            except Exception:
                # A process that was killed may have left half of a message.
                logger.exception("counts of a process could not be read; some are lost")
                unpacker = msgpack.Unpacker(use_list=False)
