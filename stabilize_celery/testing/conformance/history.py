"""What happened in the workflow executions of one scenario, and in which order, from the engine's own events."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["History", "Mark", "Span", "precedes"]

_ENDS: Mapping[str, str] = {
    "completed": "SUCCEEDED",
    "failed_continue": "FAILED_CONTINUE",
    "skipped": "SKIPPED",
    "stopped": "STOPPED",
    "failed": "TERMINAL",
    "canceled": "CANCELED",
}
"""Kind of the event that a run or an instance ends with, to its status."""

_WELL = ("SUCCEEDED", "FAILED_CONTINUE")


@dataclass(frozen=True, slots=True)
class Mark:
    """When something happened: `index` counts the events of one execution, `at` is a clock over all of them."""

    workflow_id: str
    index: int
    at: int


def precedes(first: Mark, second: Mark) -> bool:
    """Return whether one event came before the other; two executions' events of one clock tick do both ways."""
    if first.workflow_id == second.workflow_id:
        return first.index < second.index
    return first.at <= second.at


@dataclass(slots=True)
class Span:
    """A run of a stage, or an instance of one, from its start to its end."""

    workflow_id: str
    ref_id: str
    thread: str
    start: Mark
    end: Mark | None = None
    status: str = ""
    """Status that it ended with; empty while it has not."""

    @property
    def ended_well(self) -> bool:
        """Whether it SUCCEEDED, or failed and went on."""
        return self.status in _WELL


@dataclass(slots=True)
class _Stage:
    runs: dict[str, Span]
    instances: dict[tuple[str, int], Span]
    completed: int = 0


class History:
    """Events of all executions, in order. Events of one execution are told in its own order."""

    def __init__(self) -> None:
        self._lengths: dict[str, int] = defaultdict(int)
        self._stages: dict[tuple[str, str], _Stage] = defaultdict(lambda: _Stage({}, {}))

    def tell(self, workflow_id: str, kind: str, ref_id: str, data: Mapping[str, Any], at: int) -> None:
        """Take note of an event of an execution."""
        self._lengths[workflow_id] += 1
        mark = Mark(workflow_id, self._lengths[workflow_id], at)
        about, _, what = kind.partition(".")
        thread = str(data.get("thread", ""))
        if not thread or about not in ("stage", "instance"):
            return
        stage = self._stages[workflow_id, ref_id]
        if about == "stage":
            _extend(stage.runs, thread, Span(workflow_id, ref_id, thread, mark), what)
            stage.completed += _ENDS.get(what) in _WELL
        else:
            _extend(stage.instances, (thread, int(data["instance"])), Span(workflow_id, ref_id, thread, mark), what)

    def length(self, workflow_id: str) -> int:
        """Return how many events an execution has told."""
        return self._lengths[workflow_id]

    def runs(self, workflow_ids: Iterable[str], ref_id: str) -> list[Span]:
        """Return the runs of a stage whose work began, in order of starting within each execution."""
        return [run for one in workflow_ids for run in self._stages[one, ref_id].runs.values()]

    def instances(self, workflow_ids: Iterable[str], ref_id: str) -> list[tuple[int, Span]]:
        """Return the instances of a stage over all its runs, with their index."""
        return [(key[1], span) for one in workflow_ids for key, span in self._stages[one, ref_id].instances.items()]

    def completed(self, workflow_ids: Iterable[str], ref_id: str) -> int:
        """Return how many runs of a stage have ended SUCCEEDED or FAILED_CONTINUE."""
        return sum(self._stages[one, ref_id].completed for one in workflow_ids)


def _extend(spans: dict[Any, Span], key: Any, fresh: Span, what: str) -> None:
    if what == "started":
        spans[key] = fresh
    elif what in _ENDS and (span := spans.get(key)) is not None:
        span.end, span.status = fresh.start, _ENDS[what]
