"""A workflow's state as its events tell it, at any point of its history, under upstream's names.

`store.retrieve(id)` has the state of now and needs no replay; this answers what it was at some time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from stabilize_celery.compat.event import EntityType, Event, EventType
from stabilize_celery.compat.event_migrator import get_event_migrator
from stabilize_celery.compat.history import EventQuery, RedisEventStore

__all__ = ["EventReplayer", "WorkflowState"]

_BEGINS = frozenset({EventType.WORKFLOW_STARTED, EventType.STAGE_STARTED, EventType.TASK_STARTED})
_ENDS = frozenset(
    {
        EventType.WORKFLOW_COMPLETED,
        EventType.WORKFLOW_FAILED,
        EventType.WORKFLOW_CANCELED,
        EventType.STAGE_COMPLETED,
        EventType.STAGE_FAILED,
        EventType.STAGE_CANCELED,
        EventType.TASK_COMPLETED,
        EventType.TASK_FAILED,
    }
)
_STATUS: Mapping[str, str] = {
    "started": "RUNNING",
    "resumed": "RUNNING",
    "completed": "SUCCEEDED",
    "failed": "TERMINAL",
    "canceled": "CANCELED",
    "paused": "PAUSED",
    "skipped": "SKIPPED",
    "suspended": "SUSPENDED",
}
"""What a kind of event makes of a status, unless the event says it itself."""


@dataclass
class WorkflowState:
    """What is known of a workflow; its stages and tasks by the ids that their events have."""

    workflow_id: str
    status: str | None = None
    application: str | None = None
    name: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    context: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        times = {"start_time": self.start_time, "end_time": self.end_time}
        return {**asdict(self), **{name: time and time.isoformat() for name, time in times.items()}}

    def apply(self, event: Event) -> None:
        """Take in what one event tells."""
        if event.entity_type is EntityType.WORKFLOW:
            self._of_workflow(event)
        else:
            parts = self.stages if event.entity_type is EntityType.STAGE else self.tasks
            _of_part(parts.setdefault(event.entity_id, {"id": event.entity_id}), event)

    def _of_workflow(self, event: Event) -> None:
        self.application = event.data.get("application", self.application)
        self.name = event.data.get("name", self.name)
        self.context.update(event.data.get("context", {}))
        self.status = _status(event) or self.status
        if event.event_type in _BEGINS:
            self.start_time = event.timestamp
        if event.event_type in _ENDS:
            self.end_time = event.timestamp


def _of_part(part: dict[str, Any], event: Event) -> None:
    told = ("ref_id", "type", "name", "stage_id", "outputs", "error", "retry_count")
    part.update({name: event.data[name] for name in told if name in event.data})
    if "reason" in event.data:
        part["skip_reason"] = event.data["reason"]
    if status := _status(event):
        part["status"] = status
    if event.event_type in _BEGINS:
        part["start_time"] = event.timestamp.isoformat()
    if event.event_type in _ENDS:
        part["end_time"] = event.timestamp.isoformat()


def _status(event: Event) -> str | None:
    told: str | None = event.data.get("status")
    return told or _STATUS.get(event.event_type.value.partition(".")[2])


class EventReplayer:
    """Reads histories.

    Args:
        event_store: Whose.
        snapshot_store: Accepted; histories are short enough to be read whole.

    """

    def __init__(self, event_store: RedisEventStore, snapshot_store: object = None) -> None:
        del snapshot_store
        self._events = event_store

    def rebuild_workflow_state(self, workflow_id: str, as_of_sequence: int | None = None) -> dict[str, Any]:
        """Return the state of a workflow, now or when an event had happened. Raises WorkflowNotFoundError."""
        return self._state(workflow_id, EventQuery(to_sequence=as_of_sequence))

    def time_travel_query(self, workflow_id: str, as_of_time: datetime) -> dict[str, Any]:
        """Return the state of a workflow at some time. Raises WorkflowNotFoundError."""
        return self._state(workflow_id, EventQuery(to_timestamp=as_of_time))

    def compare_states(self, workflow_id: str, sequence1: int, sequence2: int) -> dict[str, Any]:
        """Return the states when each of two events had happened. Raises WorkflowNotFoundError."""
        return {
            "before": self.rebuild_workflow_state(workflow_id, sequence1),
            "after": self.rebuild_workflow_state(workflow_id, sequence2),
            "sequence_range": {"from": sequence1, "to": sequence2},
        }

    def replay_workflow_from_checkpoint(
        self, workflow_id: str, checkpoint_sequence: int, event_handler: Callable[[Event], Any]
    ) -> None:
        """Call `event_handler` with each event behind a sequence number. Raises WorkflowNotFoundError."""
        for event in self._events.get_events_for_workflow(workflow_id, checkpoint_sequence):
            event_handler(event)

    def get_entity_history(self, entity_type: EntityType, entity_id: str) -> list[dict[str, Any]]:
        """Return the events of a workflow, or of what was appended to the store, as JSON has them.

        Raises:
            WorkflowNotFoundError: there is no such workflow.
            ValueError: nobody said whose stage or task it is.

        """
        return [event.to_dict() for event in self._events.get_events_for_entity(entity_type, entity_id)]

    def _state(self, workflow_id: str, query: EventQuery) -> dict[str, Any]:
        history = self._events.get_events_for_workflow(workflow_id)
        return _fold(workflow_id, filter(query.wants, history))


def _fold(workflow_id: str, events: Iterable[Event]) -> dict[str, Any]:
    state = WorkflowState(workflow_id)
    migrator = get_event_migrator()
    for event in events:
        state.apply(migrator.migrate(event, strict=False))
    return state.to_dict()
