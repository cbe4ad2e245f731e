"""History in few lines: what many instances of a stage do alike is told for the first ones, then counted."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from stabilize_celery.cli.plain import padded, plain
from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.client.words import in_line

__all__ = ["TOLD_ONE_BY_ONE", "folded_events"]

TOLD_ONE_BY_ONE = 3
"""So many events of a kind are told for the instances of a stage before they are counted (count)."""
_TELL_AFTER_MS = 10_000
"""How long they are counted before it is said how many there were (ms between events)."""
_NAME_WIDTH = 16
_COUNTED = {
    "instance.started": "instances started",
    "instance.completed": "instances SUCCEEDED",
    "instance.failed_continue": "instances FAILED_CONTINUE",
    "instance.failed": "instances TERMINAL",
    "instance.stopped": "instances STOPPED",
    "instance.skipped": "instances SKIPPED",
    "instance.canceled": "instances CANCELED",
    "stage.suspended": "wait for a signal",
    "stage.signaled": "got a signal",
    "task.started": "tasks began",
    "task.completed": "tasks SUCCEEDED",
    "task.failed": "tasks TERMINAL",
    "task.failed_continue": "tasks FAILED_CONTINUE",
    "task.retried": "tasks failed and are tried again",
    "task.suspended": "tasks wait",
}


def folded_events(events: Iterable[WorkflowEvent]) -> Iterator[str]:
    """Yield a line per event; of each kind, only the first ones of a stage's instances, then how many more there were.

    The count is told when something else happens, every few seconds while instances go on, and at the end.
    """
    fold = _Fold()
    for event in events:
        yield from fold.lines(event)
    yield from fold.held_back()


class _Fold:
    """What was told and what was held back, by stage and kind."""

    def __init__(self) -> None:
        self._told: Counter[tuple[str, str]] = Counter()
        self._with_instances: set[str] = set()
        self._held: dict[str, Counter[str]] = {}
        self._since_ms = 0
        self._last_ms = 0

    def lines(self, event: WorkflowEvent) -> Iterator[str]:
        """Yield what is to be told now that this has happened."""
        if event.kind == "instance.started":
            self._with_instances.add(event.ref_id)
        is_alike = event.ref_id in self._with_instances and event.kind in _COUNTED
        if is_alike and self._told[event.ref_id, event.kind] >= TOLD_ONE_BY_ONE:
            self._hold(event)
            if self._last_ms - self._since_ms >= _TELL_AFTER_MS:
                yield from self.held_back()
            return
        if is_alike:
            self._told[event.ref_id, event.kind] += 1
        else:
            yield from self.held_back()
        yield _line(event.at_ms, event.ref_id, event.told)

    def _hold(self, event: WorkflowEvent) -> None:
        if not self._held:
            self._since_ms = event.at_ms
        self._last_ms = event.at_ms
        self._held.setdefault(event.ref_id, Counter())[event.kind] += 1

    def held_back(self) -> Iterator[str]:
        """Yield how many events were not told, a line per stage."""
        for ref_id, kinds in self._held.items():
            counts = ", ".join(f"+{kinds[kind]:,} {words}" for kind, words in _COUNTED.items() if kinds[kind])
            yield _line(self._last_ms, ref_id, counts)
        self._held = {}


def _line(at_ms: int, ref_id: str, told: str) -> str:
    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    name = padded(plain(in_line(ref_id)) or "-", _NAME_WIDTH)
    return f"{at:%H:%M:%S}.{at_ms % 1000:03d}  {name}  {told}"
