"""When to send a probe through a queue, to learn whether it was drained (PROTOCOL section 5)."""

from dataclasses import dataclass

from stabilize_celery.runtime.lanes import shown
from stabilize_celery.runtime.ports import Outgoing

__all__ = ["FIRST_PAUSE_MS", "LONGEST_PAUSE_MS", "PROBE", "Probes"]

PROBE = "Probe"
FIRST_PAUSE_MS = 1_000
LONGEST_PAUSE_MS = 300_000


@dataclass(slots=True)
class _Sent:
    at_ms: int
    pause_ms: int


class Probes:
    """One keeper's memory of its probes: per queue at most one per 1, 2, 4 .. 300 s while none comes back."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._sent: dict[str, _Sent] = {}

    def wanted(self, queue: str, now_ms: int, came_back_ms: int) -> Outgoing | None:
        """Return the probe to send through `queue` now, or None: one is on its way.

        `came_back_ms` is when the newest probe was sent that came back through the queue; 0: none did.
        """
        last = self._sent.get(queue)
        pause_ms = FIRST_PAUSE_MS
        if last is not None:
            is_back = came_back_ms >= last.at_ms
            if now_ms - last.at_ms < (FIRST_PAUSE_MS if is_back else last.pause_ms):
                return None
            pause_ms = FIRST_PAUSE_MS if is_back else min(2 * last.pause_ms, LONGEST_PAUSE_MS)
        self._sent[queue] = _Sent(now_ms, pause_ms)
        task_id = f"probe/{shown(queue)}/{now_ms}/{self._worker_id}"
        return Outgoing(PROBE, task_id, {"queue": queue, "sent_ms": now_ms}, queue)
