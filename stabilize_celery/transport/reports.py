"""News from Celery's consumer about claims, for the heartbeat thread: it must not wait for Redis itself."""

import threading
from collections import deque
from dataclasses import dataclass

__all__ = ["Report", "Reports"]


@dataclass(frozen=True, slots=True)
class Report:
    """The process that ran a task attempt is gone (`is_lost`), or is about to be stopped at shutdown.

    `died`: What ended it, if that is known.
    `going`: Celery ids of what it went on with, as seen before it was stopped: that forgets it.
    """

    task_id: str
    pid: int | None
    is_lost: bool
    going: tuple[str, ...] = ()
    died: str = ""


class Reports:
    """Reports that nobody has acted on yet, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[Report] = deque()
        self._something = threading.Event()

    def add(self, report: Report) -> None:
        """Leave a report and wake who waits."""
        self._waiting.append(report)
        self._something.set()

    def wait(self, timeout_s: float) -> None:
        """Return at the next report or `wake`, at the latest after `timeout_s`."""
        self._something.wait(timeout_s)
        self._something.clear()

    def wake(self) -> None:
        """End a `wait` without a report."""
        self._something.set()

    def waiting(self) -> tuple[Report, ...]:
        """Return them; each stays until `done`."""
        return tuple(self._waiting)

    def done(self, report: Report) -> None:
        """Forget a report."""
        self._waiting.remove(report)
