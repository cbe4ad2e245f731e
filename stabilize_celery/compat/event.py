"""One thing that happened, under upstream's names."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Self

from ulid import ULID

__all__ = [
    "CURRENT_SCHEMA_VERSION",
    "EntityType",
    "Event",
    "EventMetadata",
    "EventType",
    "create_stage_event",
    "create_task_event",
    "create_workflow_event",
    "parse_event_type",
]


CURRENT_SCHEMA_VERSION = 1
"""Of the events that the engine tells of."""


class EventType(Enum):
    """What happened."""

    WORKFLOW_CREATED = "workflow.created"
    WORKFLOW_STARTED = "workflow.started"
    WORKFLOW_COMPLETED = "workflow.completed"
    WORKFLOW_FAILED = "workflow.failed"
    WORKFLOW_CANCELED = "workflow.canceled"
    WORKFLOW_PAUSED = "workflow.paused"
    WORKFLOW_RESUMED = "workflow.resumed"
    STAGE_STARTED = "stage.started"
    STAGE_COMPLETED = "stage.completed"
    STAGE_FAILED = "stage.failed"
    STAGE_SKIPPED = "stage.skipped"
    STAGE_CANCELED = "stage.canceled"
    STAGE_SUSPENDED = "stage.suspended"
    STAGE_RESUMED = "stage.resumed"
    TASK_STARTED = "task.started"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_RETRIED = "task.retried"
    TASK_SUSPENDED = "task.suspended"
    STATUS_CHANGED = "status.changed"
    CONTEXT_UPDATED = "context.updated"
    OUTPUTS_UPDATED = "outputs.updated"
    JUMP_EXECUTED = "jump.executed"
    CUSTOM = "custom.progress"
    UNKNOWN = "unknown.event"


def parse_event_type(value: str) -> EventType:
    """Return the type of that name; UNKNOWN where there is none: one event must not keep others from being read."""
    return EventType(value) if value in _NAMES else EventType.UNKNOWN


_NAMES = frozenset(one.value for one in EventType)


class EntityType(Enum):
    """What it happened to."""

    WORKFLOW = "workflow"
    STAGE = "stage"
    TASK = "task"


@dataclass(frozen=True)
class EventMetadata:
    """Whose event it is. `correlation_id`: usually the workflow's id; `actor`: who caused it."""

    correlation_id: str = ""
    causation_id: str | None = None
    actor: str = "system"
    source_handler: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return it of the known keys in `data`; missing ones have their defaults."""
        return cls(**{one.name: data[one.name] for one in fields(cls) if one.name in data})


@dataclass(frozen=True)
class Event:
    """One thing that happened. `entity_id`: whose, by its id; `sequence` grows with each."""

    event_type: EventType = EventType.STATUS_CHANGED
    entity_type: EntityType = EntityType.WORKFLOW
    entity_id: str = ""
    workflow_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    event_id: str = field(default_factory=lambda: str(ULID()))
    version: int = 0
    metadata: EventMetadata = field(default_factory=EventMetadata)
    schema_version: int = CURRENT_SCHEMA_VERSION

    def with_sequence(self, sequence: int) -> Self:
        """Return the event with another sequence number."""
        return replace(self, sequence=sequence)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        read = {
            "event_type": self.event_type.value,
            "entity_type": self.entity_type.value,
            "data": dict(self.data),
            "timestamp": self.timestamp.isoformat(),
            "metadata": self.metadata.to_dict(),
        }
        return {**vars(self), **read}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return an event of the known keys in `data`; missing ones have their defaults."""
        known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        read: dict[str, Callable[[Any], Any]] = {
            "event_type": parse_event_type,
            "entity_type": EntityType,
            "timestamp": datetime.fromisoformat,
            "metadata": EventMetadata.from_dict,
        }
        return cls(**{name: read[name](value) if name in read else value for name, value in known.items()})


def create_workflow_event(
    event_type: EventType, workflow_id: str, version: int, data: Mapping[str, Any], metadata: EventMetadata
) -> Event:
    """Return an event of a workflow."""
    return _made(event_type, EntityType.WORKFLOW, (workflow_id, workflow_id), version, data, metadata)


def create_stage_event(
    event_type: EventType,
    stage_id: str,
    workflow_id: str,
    version: int,
    data: Mapping[str, Any],
    metadata: EventMetadata,
) -> Event:
    """Return an event of a stage."""
    return _made(event_type, EntityType.STAGE, (stage_id, workflow_id), version, data, metadata)


def create_task_event(
    event_type: EventType,
    task_id: str,
    workflow_id: str,
    version: int,
    data: Mapping[str, Any],
    metadata: EventMetadata,
) -> Event:
    """Return an event of a task."""
    return _made(event_type, EntityType.TASK, (task_id, workflow_id), version, data, metadata)


def _made(
    event_type: EventType,
    entity_type: EntityType,
    ids: tuple[str, str],
    version: int,
    data: Mapping[str, Any],
    metadata: EventMetadata,
) -> Event:
    return Event(event_type, entity_type, *ids, data, version=version, metadata=metadata)
