"""What lets a child wait for messages itself: its worker's main process can call it back, and learns what is done.

Made before the children are forked. The main process writes into memory that they share: that turns are to end (at
shutdown, or when other queues are to be consumed), and that a message waits in it for a process. The children write
into a pipe: that the delivery which their turn began with is done.
"""

import json
import mmap
import os
import select
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

from stabilize_celery.transport.consumed_queues import ConsumedQueues
from stabilize_celery.transport.turns import Delivered

__all__ = ["SLICE_S", "Recall", "Turn", "Waiting", "Waits"]

SLICE_S = 0.25
"""A process that waits looks after so long whether it is called back."""
_LONGEST_S = 10.0
"""The longest turn, unless one wait may last longer: Celery looks after a child's memory between its tasks."""
_HEAD = struct.Struct("=II")
_MOST_EARLY = 1_000
"""Deliveries of which a child has told before Celery did, that are kept (count)."""
_LONGEST_READ = 64 * 1024


@dataclass(frozen=True, slots=True)
class Recall:
    """How often children were called back: to end their turns at once, or to wait no longer."""

    at_once: int
    gently: int


class Waiting:
    """The worker's side of turns in which its children wait.

    Args:
        consumed: The queues that it consumes.
        has_children: Whether processes that it forked have turns, and not its own.

    """

    def __init__(self, consumed: ConsumedQueues, *, has_children: bool = True) -> None:
        self.has_children = has_children
        self._consumed = consumed
        self._shared = mmap.mmap(-1, _HEAD.size)
        self._main_pid = os.getpid()
        self._told, self._tells = os.pipe()
        for end in (self._told, self._tells):
            os.set_blocking(end, False)
        self._begun = b""
        self._early: dict[tuple[str, int], Delivered] = {}

    # -- in the main process -------------------------------------------------------------------------------------------

    @property
    def reader(self) -> int:
        """The file that becomes readable when children have told something; see `delivered`."""
        return self._told

    def end_turns(self) -> None:
        """Let all children end their turns after what they handle now."""
        recall = self.recall()
        self._write(Recall(recall.at_once + 1, recall.gently))

    def ask_for_a_process(self) -> None:
        """Let children wait no longer, and end their turns as those do that never wait: a message waits here."""
        recall = self.recall()
        self._write(Recall(recall.at_once, recall.gently + 1))

    def delivered(self) -> list[Delivered]:
        """Return what children have told since the last time."""
        with suppress(BlockingIOError):
            self._begun += os.read(self._told, _LONGEST_READ)
        *lines, self._begun = self._begun.split(b"\n")
        return [Delivered(**json.loads(line)) for line in lines]

    def keep_early(self, delivered: Delivered) -> None:
        """Keep what a child has told of a delivery before Celery says that this child has it."""
        self._early[delivered.task_id, delivered.pid] = delivered
        if len(self._early) > _MOST_EARLY:
            del self._early[next(iter(self._early))]

    def told_early(self, task_id: str, pid: int) -> Delivered | None:
        """Return, once, what was kept of a delivery that this child has."""
        return self._early.pop((task_id, pid), None)

    # -- in a child ----------------------------------------------------------------------------------------------------

    @property
    def is_here(self) -> bool:
        """Whether this process is a child, and does not hold up the main process whatever it does."""
        return self.has_children and os.getpid() != self._main_pid

    @property
    def is_orphan(self) -> bool:
        """Whether the main process has died: nobody extends leases any more."""
        return os.getppid() != self._main_pid

    def recall(self) -> Recall:
        """Return how often children were called back so far."""
        return Recall(*_HEAD.unpack_from(self._shared))

    def queues(self) -> tuple[str, ...]:
        """Return the queues that the worker consumes now."""
        return self._consumed.names()

    def tell(self, delivered: Delivered) -> None:
        """Let the main process know that a delivery is done; what can't be told now it learns when the turn ends."""
        line = json.dumps(asdict(delivered)).encode() + b"\n"
        # Longer ones would mix with those of other children.
        if len(line) <= select.PIPE_BUF:
            with suppress(BlockingIOError):
                os.write(self._tells, line)

    def _write(self, recall: Recall) -> None:
        self._shared[: _HEAD.size] = _HEAD.pack(recall.at_once, recall.gently)


@dataclass(frozen=True, slots=True)
class Waits:
    """How a turn waits: a child of a worker that has nothing to do asks the broker itself for a while.

    Where messages follow one another, none waits when the one before is done; Celery's main process would have each.
    """

    waiting: Waiting
    wait_ms: int
    """A turn ends when nothing has come for so long; 0: as soon as nothing waits."""
    looks: bool = False
    """Whether commits look if anything waits, so that a process goes on where nothing does (decision 021)."""


class Turn:
    """When a turn ends that begins now, and how long it waits; one that does not lasts for `turn_s`."""

    def __init__(self, clock_s: Callable[[], float], turn_s: float, waits: Waits | None) -> None:
        self._clock_s = clock_s
        self._waits = waits
        now = clock_s()
        self._usual_end_s = now + turn_s
        self._last_end_s = now + max(_LONGEST_S, waits.wait_ms / 1000 if waits is not None else 0.0)
        self._before = waits.waiting.recall() if waits is not None else None

    def is_over(self) -> bool:
        """Whether the process is to take no more."""
        if self._waits is None or self._before is None:
            return self._clock_s() >= self._usual_end_s
        recall = self._waits.waiting.recall()
        if self._calls_back(recall):
            return True
        may_wait = recall == self._before and self._waits.wait_ms
        return self._clock_s() >= (self._last_end_s if may_wait else self._usual_end_s)

    def was_called_back(self) -> bool:
        """Whether the main process wants turns to end, or is gone."""
        return self._waits is not None and self._calls_back(self._waits.waiting.recall())

    def _calls_back(self, recall: Recall) -> bool:
        if self._waits is None or self._before is None:
            return False
        return recall.at_once != self._before.at_once or self._waits.waiting.is_orphan

    def wait_s(self) -> float:
        """Return how long to wait for the next message (s)."""
        if self._waits is None or self._waits.waiting.recall() != self._before:
            return 0.0
        return self._waits.wait_ms / 1000
