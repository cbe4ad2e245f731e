"""Views that grow with each event, under upstream's names: `get_event_bus().subscribe("name", projection.apply)`.

A whole history makes one as well: `for event in store.get_events_for_workflow(id): projection.apply(event)`.
"""

import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from typing_extensions import override

from stabilize_celery.compat.event import EntityType, Event, EventType

__all__ = [
    "ActivityMetrics",
    "Projection",
    "StageMetricsProjection",
    "TimelineEntry",
    "WorkflowTimeline",
    "WorkflowTimelineProjection",
]

_BEGINS = frozenset({EventType.WORKFLOW_STARTED, EventType.STAGE_STARTED, EventType.TASK_STARTED})
_FAILS = frozenset({"stage.failed", "task.failed", "workflow.failed", "workflow.canceled"})
_UNTOLD = frozenset({EventType.STATUS_CHANGED, EventType.CONTEXT_UPDATED, EventType.OUTPUTS_UPDATED})
_WORKFLOW_ENDS: Mapping[EventType, str] = {
    EventType.WORKFLOW_COMPLETED: "SUCCEEDED",
    EventType.WORKFLOW_FAILED: "TERMINAL",
    EventType.WORKFLOW_CANCELED: "CANCELED",
}
_COUNTS: Mapping[EventType, str] = {
    EventType.STAGE_STARTED: "execution_count",
    EventType.STAGE_COMPLETED: "success_count",
    EventType.STAGE_FAILED: "failure_count",
    EventType.STAGE_SKIPPED: "skip_count",
    EventType.TASK_STARTED: "execution_count",
    EventType.TASK_COMPLETED: "success_count",
    EventType.TASK_FAILED: "failure_count",
    EventType.TASK_RETRIED: "retry_count",
}
_FEW = 20
"""Of fewer durations the largest is told as the 95th percentile (count)."""


class Projection(ABC):
    """A view of events. An event that it has seen already changes nothing, if it has a sequence number."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, int]] = set()
        self._began: dict[tuple[str, str], datetime] = {}

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called."""

    @abstractmethod
    def apply(self, event: Event) -> None:
        """Take an event in."""

    def handles_event_type(self, event: Event) -> bool:  # noqa: ARG002 -- a hook
        """Return whether events like this one are for it. Default: all are."""
        return True

    @abstractmethod
    def get_state(self) -> Any:
        """Return the view."""

    def reset(self) -> None:
        """Forget everything."""
        self._seen.clear()
        self._began.clear()

    def _is_new(self, event: Event) -> bool:
        place = (event.workflow_id, event.sequence)
        is_new = event.sequence == 0 or place not in self._seen
        self._seen.add(place)
        return is_new

    def _duration_ms(self, event: Event) -> int | None:
        """Return how long that took which ends with an event: as it says itself, or since it began."""
        place = (event.workflow_id, f"{event.entity_type.value}:{event.entity_id}")
        if event.event_type in _BEGINS:
            self._began[place] = event.timestamp
            return None
        told = event.data.get("duration_ms")
        began = self._began.get(place)
        if told is not None or began is None:
            return None if told is None else int(told)
        return round((event.timestamp - began).total_seconds() * 1000)


@dataclass
class ActivityMetrics:
    """How often stages of a type, or tasks of a name, ran, how they ended, how long they took (ms)."""

    name: str
    execution_count: int = 0
    success_count: int = 0
    failure_count: int = 0
    skip_count: int = 0
    retry_count: int = 0
    durations: list[int] = field(default_factory=list)

    @property
    def success_rate(self) -> float:
        """The share of those that succeeded among those that ended (percent)."""
        return self._share(self.success_count)

    @property
    def failure_rate(self) -> float:
        """The share of those that failed among those that ended (percent)."""
        return self._share(self.failure_count)

    @property
    def avg_duration_ms(self) -> float:
        """Their mean duration; 0: none has ended."""
        return statistics.mean(self.durations or [0])

    @property
    def median_duration_ms(self) -> float:
        """Their median duration."""
        return statistics.median(self.durations or [0])

    @property
    def p95_duration_ms(self) -> float:
        """What 95 % of them stay below; of few, the longest."""
        found = sorted(self.durations or [0])
        return found[-1] if len(found) < _FEW else found[int(len(found) * 0.95)]

    @property
    def min_duration_ms(self) -> int:
        """The shortest."""
        return min(self.durations, default=0)

    @property
    def max_duration_ms(self) -> int:
        """The longest."""
        return max(self.durations, default=0)

    def to_dict(self) -> dict[str, Any]:
        """Return counts, rates and durations as JSON has them."""
        counts = {name: value for name, value in asdict(self).items() if name != "durations"}
        rates = ("success_rate", "failure_rate", "avg_duration_ms", "median_duration_ms", "p95_duration_ms")
        ends = {"min_duration_ms": self.min_duration_ms, "max_duration_ms": self.max_duration_ms}
        return {**counts, **{name: round(getattr(self, name), 2) for name in rates}, **ends}

    def _share(self, number: int) -> float:
        return 100 * number / ((self.success_count + self.failure_count) or 1)


class StageMetricsProjection(Projection):
    """Counts and durations of stages by type (without one, by `ref_id`), and of tasks by name."""

    def __init__(self) -> None:
        super().__init__()
        self._metrics: dict[EntityType, dict[str, ActivityMetrics]] = {EntityType.STAGE: {}, EntityType.TASK: {}}

    @property
    @override
    def name(self) -> str:
        return "stage-metrics"

    @override
    def apply(self, event: Event) -> None:
        if event.entity_type not in self._metrics or not self._is_new(event):
            return
        key = (event.data.get("type") or event.data.get("ref_id")) if event.entity_type is EntityType.STAGE else None
        key = str(key or event.data.get("name") or "unknown")
        metrics = self._metrics[event.entity_type].setdefault(key, ActivityMetrics(key))
        duration_ms = self._duration_ms(event)
        counted = _COUNTS.get(event.event_type)
        if counted is not None:
            setattr(metrics, counted, getattr(metrics, counted) + 1)
        if duration_ms is not None and counted in ("success_count", "failure_count"):
            metrics.durations.append(duration_ms)

    @override
    def get_state(self) -> dict[str, ActivityMetrics]:
        return dict(self._metrics[EntityType.STAGE])

    def get_task_state(self) -> dict[str, ActivityMetrics]:
        """Return those of tasks, by name."""
        return dict(self._metrics[EntityType.TASK])

    def get_metrics_for_type(self, stage_type: str) -> ActivityMetrics | None:
        """Return those of one type of stages; None: there was none."""
        return self.get_state().get(stage_type)

    def get_task_metrics_for_name(self, task_name: str) -> ActivityMetrics | None:
        """Return those of one task; None: there was none."""
        return self.get_task_state().get(task_name)

    def get_top_slowest_stages(self, n: int = 10) -> list[tuple[str, float]]:
        """Return the `n` types of stages that take longest, with their mean duration (ms)."""
        found = [(key, one.avg_duration_ms) for key, one in self.get_state().items() if one.durations]
        return sorted(found, key=lambda pair: -pair[1])[:n]

    def get_top_failing_stages(self, n: int = 10) -> list[tuple[str, float]]:
        """Return the `n` types of stages that fail most often, with their rate (percent)."""
        found = [(key, one.failure_rate) for key, one in self.get_state().items() if one.execution_count]
        return sorted(found, key=lambda pair: -pair[1])[:n]

    @override
    def reset(self) -> None:
        super().reset()
        for metrics in self._metrics.values():
            metrics.clear()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        kinds = {"stages": self.get_state(), "tasks": self.get_task_state()}
        return {kind: {key: one.to_dict() for key, one in found.items()} for kind, found in kinds.items()}


@dataclass
class TimelineEntry:
    """A line of a time line."""

    timestamp: datetime
    event_type: str
    entity_type: str
    entity_id: str
    entity_name: str | None = None
    status: str | None = None
    duration_ms: int | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "timestamp": self.timestamp.isoformat()}


@dataclass
class WorkflowTimeline:
    """What happened to a workflow, in order."""

    workflow_id: str
    entries: list[TimelineEntry] = field(default_factory=list)
    total_duration_ms: int | None = None
    status: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        times = {name: at.isoformat() if (at := getattr(self, name)) else None for name in ("start_time", "end_time")}
        return {**vars(self), **times, "entries": [entry.to_dict() for entry in self.entries]}


class WorkflowTimelineProjection(Projection):
    """The time line of one workflow."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__()
        self._timeline = WorkflowTimeline(workflow_id)

    @property
    @override
    def name(self) -> str:
        return f"workflow-timeline-{self._timeline.workflow_id}"

    @override
    def apply(self, event: Event) -> None:
        if event.workflow_id != self._timeline.workflow_id or not self._is_new(event):
            return
        duration_ms = self._duration_ms(event)
        if event.event_type not in _UNTOLD:
            self._timeline.entries.append(_entry(event, duration_ms))
        if event.event_type is EventType.WORKFLOW_STARTED:
            self._timeline.start_time = event.timestamp
        elif event.event_type in _WORKFLOW_ENDS:
            self._timeline.end_time, self._timeline.total_duration_ms = event.timestamp, duration_ms
            self._timeline.status = event.data.get("status") or _WORKFLOW_ENDS[event.event_type]

    @override
    def get_state(self) -> WorkflowTimeline:
        return self._timeline

    def get_stages(self) -> list[TimelineEntry]:
        """Return what happened to stages."""
        return [entry for entry in self._timeline.entries if entry.entity_type == EntityType.STAGE.value]

    def get_tasks(self) -> list[TimelineEntry]:
        """Return what happened to tasks."""
        return [entry for entry in self._timeline.entries if entry.entity_type == EntityType.TASK.value]

    def get_failures(self) -> list[TimelineEntry]:
        """Return what went wrong, or was cancelled."""
        return [entry for entry in self._timeline.entries if entry.event_type in _FAILS]

    @override
    def reset(self) -> None:
        super().reset()
        self._timeline = WorkflowTimeline(self._timeline.workflow_id)


def _entry(event: Event, duration_ms: int | None) -> TimelineEntry:
    told = ("name", "ref_id", "status", "duration_ms")
    return TimelineEntry(
        event.timestamp,
        event.event_type.value,
        event.entity_type.value,
        event.entity_id,
        event.data.get("name") or event.data.get("ref_id"),
        event.data.get("status"),
        duration_ms,
        {name: value for name, value in event.data.items() if name not in told},
    )
