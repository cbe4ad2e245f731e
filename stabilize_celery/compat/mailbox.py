"""Messages that a program pushes before their time, or polls itself: kept in this process, by the queue object."""

import heapq
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from stabilize_celery.compat.control import ControlMessage

__all__ = ["Delay", "Mailbox", "seconds_of"]

Delay = timedelta | float | None
"""How much later; a number is seconds."""


@dataclass(slots=True)
class _Kept:
    message: ControlMessage
    due_s: float


@dataclass(slots=True)
class _Dead:
    number: int
    message: ControlMessage
    error: str
    moved_at: datetime

    def told(self) -> dict[str, Any]:
        """Return it as upstream's rows of dead letters."""
        kind, fields = type(self.message).__name__, asdict(self.message)
        about = {"id": self.number, "original_id": fields["message_id"], "message_type": kind, "payload": fields}
        return {**about, **fields, "error": self.error, "moved_at": self.moved_at}


class Mailbox:
    """A queue of messages with delays, locks and dead letters. Thread-safe; ends with this process.

    Args:
        lock_duration: How long nobody else gets a message that was polled and not acknowledged; default: a minute.
        max_attempts: How often a message is polled before `check_and_move_expired` puts it aside (count).

    """

    def __init__(self, lock_duration: timedelta | None = None, max_attempts: int = 10) -> None:
        self.lock_duration = timedelta(minutes=1) if lock_duration is None else lock_duration
        self.max_attempts = max_attempts
        self._clock_s = time.monotonic
        self._guard = threading.RLock()
        self._numbers = count(1)
        self._kept: dict[int, _Kept] = {}
        self._order: list[tuple[float, int]] = []
        self._dead: dict[int, _Dead] = {}

    def keep(self, message: ControlMessage, delay: Delay = None) -> None:
        """Keep a message; it can be polled after the delay."""
        with self._guard:
            allowed = replace(message, max_attempts=self.max_attempts)
            self._keep(next(self._numbers), allowed, seconds_of(delay))

    def poll_one(self) -> ControlMessage | None:
        """Return the message that is due first, and keep it from others until it is acknowledged, or a while long.

        One that was polled as often as it may is not polled any more.
        """
        with self._guard:
            while self._order and self._order[0][0] <= self._clock_s():
                due_s, number = heapq.heappop(self._order)
                kept = self._kept.get(number)
                if kept is not None and kept.due_s == due_s and kept.message.attempts < kept.message.max_attempts:
                    polled = replace(kept.message, message_id=str(number), attempts=kept.message.attempts + 1)
                    self._keep(number, polled, seconds_of(self.lock_duration))
                    return polled
            return None

    def poll(self, callback: Callable[[ControlMessage], Any]) -> None:
        """Call this with the message that is due first, if there is one, and forget it then."""
        message = self.poll_one()
        if message is not None:
            callback(message)
            self.ack(message)

    def ack(self, message: ControlMessage) -> None:
        """Forget a message that was polled."""
        with self._guard:
            self._kept.pop(_number_of(message.message_id), None)

    def reschedule(self, message: ControlMessage, delay: Delay) -> None:
        """Let a message that was polled come again after the delay."""
        with self._guard:
            if (number := _number_of(message.message_id)) in self._kept:
                self._keep(number, self._kept[number].message, seconds_of(delay))

    def ensure(self, message: ControlMessage, delay: Delay) -> None:
        """Keep a message unless an equal one is kept; `reschedule` it if it is this one."""
        with self._guard:
            if _number_of(message.message_id) in self._kept:
                self.reschedule(message, delay)
            elif not any(_content(message) == _content(kept.message) for kept in self._kept.values()):
                self.keep(message, delay)

    def size(self) -> int:
        """Return how many messages are kept, whenever they are due."""
        return len(self._kept)

    def is_due_within(self, seconds: float) -> bool:
        """Return whether a message can be polled so soon."""
        with self._guard:
            return any(kept.due_s <= self._clock_s() + seconds for kept in self._kept.values())

    def has_pending_message_for_execution(self, execution_id: str) -> bool:
        """Return whether a message about a workflow is kept."""
        with self._guard:
            return any(kept.message.execution_id == execution_id for kept in self._kept.values())

    def has_pending_message_for_stage(self, stage_id: str) -> bool:
        """Return whether a message about a stage is kept."""
        with self._guard:
            return any(kept.message.stage_id == stage_id for kept in self._kept.values())

    def has_pending_message_for_task(self, task_id: str) -> bool:
        """Return whether a message about a task is kept."""
        with self._guard:
            return any(getattr(kept.message, "task_id", None) == task_id for kept in self._kept.values())

    def extend_lock(self, message: ControlMessage, duration: timedelta | None = None) -> bool:
        """Keep a message that was polled from others for longer; default: as at first. False: it is acknowledged."""
        with self._guard:
            number = _number_of(message.message_id)
            if number in self._kept:
                lock_s = seconds_of(self.lock_duration if duration is None else duration)
                self._keep(number, self._kept[number].message, lock_s)
            return number in self._kept

    def clear(self) -> None:
        """Forget all messages but the dead ones."""
        with self._guard:
            self._kept.clear()
            self._order.clear()

    # -- dead letters --------------------------------------------------------------------------------------------------

    def move_to_dlq(self, message_id: int | str | None, error: str | None = None) -> bool:
        """Put a message aside. False: there is none of that number."""
        with self._guard:
            kept = self._kept.pop(_number_of(message_id), None)
            if kept is not None:
                place = next(self._numbers)
                self._dead[place] = _Dead(place, kept.message, error or "", datetime.now(UTC))
            return kept is not None

    def check_and_move_expired(self) -> int:
        """Put messages aside that were polled as often as they may; return how many."""
        with self._guard:
            many = [number for number, kept in self._kept.items() if kept.message.attempts >= kept.message.max_attempts]
            return sum(self.move_to_dlq(number, "it was tried as often as it may") for number in many)

    def list_dlq(self, limit: int = 100, message_type: str | None = None) -> list[dict[str, Any]]:
        """Return what was put aside, newest first."""
        with self._guard:
            told = [one.told() for one in reversed(self._dead.values())]
        return [one for one in told if message_type in (None, one["message_type"])][:limit]

    def dlq_size(self) -> int:
        """Return how many messages were put aside."""
        return len(self._dead)

    def replay_dlq(self, dlq_id: int) -> bool:
        """Keep a dead message anew. False: there is none of that number."""
        with self._guard:
            one = self._dead.pop(dlq_id, None)
            if one is not None:
                self.keep(replace(one.message, attempts=0))
            return one is not None

    def clear_dlq(self) -> int:
        """Forget what was put aside; return how many that were."""
        with self._guard:
            many = len(self._dead)
            self._dead.clear()
            return many

    def _keep(self, number: int, message: ControlMessage, delay_s: float) -> None:
        due_s = self._clock_s() + delay_s
        self._kept[number] = _Kept(replace(message, message_id=str(number)), due_s)
        heapq.heappush(self._order, (due_s, number))


def seconds_of(delay: Delay) -> float:
    """Return a delay in seconds."""
    return delay.total_seconds() if isinstance(delay, timedelta) else float(delay or 0)


def _number_of(message_id: int | str | None) -> int:
    text = str(message_id)
    return int(text) if text.isdecimal() else 0


def _content(message: ControlMessage) -> tuple[Any, ...]:
    own = {name: value for name, value in vars(message).items() if name not in _OF_DELIVERY}
    return (type(message), own)


_OF_DELIVERY = frozenset({"message_id", "created_at", "attempts", "max_attempts", "last_error", "last_error_type"})
