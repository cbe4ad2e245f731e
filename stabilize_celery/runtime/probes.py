"""When to send a probe through a queue, to learn whether it was drained (PROTOCOL section 5)."""

from collections.abc import Iterable
from dataclasses import dataclass

from stabilize_celery.runtime.lanes import shown
from stabilize_celery.runtime.ports import Outgoing

__all__ = ["FIRST_PAUSE_MS", "LONGEST_PAUSE_MS", "PROBE", "REFUSED_MS", "Probes"]

PROBE = "Probe"
FIRST_PAUSE_MS = 1_000
LONGEST_PAUSE_MS = 300_000
REFUSED_MS = 10_000
"""How often what waits in a queue is looked at that the broker refuses (ms); a try is made twice as often."""


@dataclass(slots=True)
class _Sent:
    at_ms: int
    pause_ms: int


class Probes:
    """One keeper's memory of its probes: per queue at most one per 1, 2, 4 .. 300 s while none comes back.

    And of the broker's refusals: it may have lost all that it had, which only a probe can tell that it takes again.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._sent: dict[str, _Sent] = {}
        self._refused: set[str] = set()
        self._taken_again_ms: dict[str, int] = {}

    def wanted(self, queue: str, now_ms: int, came_back_ms: int) -> Outgoing | None:
        """Return the probe to send through `queue` now, or None: one is on its way.

        `came_back_ms` is when the newest probe was sent that came back through the queue; 0: none did.
        """
        last = self._sent.get(queue)
        pause_ms = FIRST_PAUSE_MS
        if last is not None:
            longest_ms = REFUSED_MS // 2 if queue in self._refused else LONGEST_PAUSE_MS
            is_back = came_back_ms >= last.at_ms
            if now_ms - last.at_ms < (FIRST_PAUSE_MS if is_back else min(last.pause_ms, longest_ms)):
                return None
            pause_ms = FIRST_PAUSE_MS if is_back else min(2 * last.pause_ms, longest_ms)
        self._sent[queue] = _Sent(now_ms, pause_ms)
        task_id = f"probe/{shown(queue)}/{now_ms}/{self._worker_id}"
        return Outgoing(PROBE, task_id, {"queue": queue, "sent_ms": now_ms}, queue)

    def refused(self, queues: Iterable[str]) -> None:
        """Know that the broker did not take what was sent through these."""
        self._refused.update(queues)

    def taken(self, queue: str, now_ms: int) -> None:
        """Know that the broker has taken a probe."""
        if queue in self._refused:
            self._refused.discard(queue)
            self._sent[queue] = _Sent(now_ms, FIRST_PAUSE_MS)
            self._taken_again_ms[queue] = now_ms

    def counts_from_ms(self, queue: str, now_ms: int) -> int:
        """Return from when on the age of what waits in a queue counts, whatever it was before; 0: it counts all.

        While the broker refuses, all is young: it is looked at often. So it is when the broker takes something again.
        """
        return now_ms - REFUSED_MS if queue in self._refused else self._taken_again_ms.get(queue, 0)
