"""One event of a workflow as upstream's streams tell it."""

from dataclasses import dataclass
from typing import Any, Self

from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.store.event_stream import PER_ENTRY, place_of

__all__ = ["StreamItem"]

_OF_UPSTREAM = {
    "workflow.succeeded": "workflow.completed",
    "workflow.skipped": "workflow.completed",
    "workflow.failed_continue": "workflow.completed",
    "workflow.terminal": "workflow.failed",
    "workflow.stopped": "workflow.failed",
}
_PER_MS = 1_000 * PER_ENTRY
"""Numbers of events in one millisecond: of a thousand commits (count)."""


@dataclass
class StreamItem:
    """One event. `entity_id`: of the stage, task or workflow that it is about; `source`: `replay` or `live`."""

    event_type: str
    entity_type: str
    entity_id: str
    workflow_id: str
    data: dict[str, Any]
    sequence: int
    source: str

    @classmethod
    def from_event(cls, event: WorkflowEvent, source: str, workflow_id: str = "") -> Self:
        """Return an event of a workflow as an item."""
        ms, number = place_of(event.id)
        kind = _OF_UPSTREAM.get(event.kind, event.kind)
        return cls(
            event_type=kind,
            entity_type="stage" if kind.startswith("custom") else kind.partition(".")[0],
            entity_id=event.ref_id or workflow_id,
            workflow_id=workflow_id,
            data=dict(event.data),
            sequence=ms * _PER_MS + number,
            source=source,
        )
