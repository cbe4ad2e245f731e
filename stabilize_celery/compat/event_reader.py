"""A workflow's events as upstream tells them: numbered from 1, with ids, names and types of stages and tasks."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from stabilize_celery.client.client import Client
from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.compat.event import EntityType, Event, EventMetadata, EventType
from stabilize_celery.compat.retold import retold
from stabilize_celery.compat.stream_item import StreamItem
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["EventReader"]

_CREATED, _STARTED = "workflow.created", "workflow.started"
_WITH_OUTPUTS = ("stage.completed", "task.completed")
_KNOWN = {one.value: one for one in EventType}
_NEAREST = {
    "stage.failed_continue": EventType.STAGE_FAILED,
    "stage.stopped": EventType.STAGE_FAILED,
    "task.failed_continue": EventType.TASK_FAILED,
    "task.stopped": EventType.TASK_FAILED,
    "stage.jumped": EventType.JUMP_EXECUTED,
    "stage.signaled": EventType.STAGE_RESUMED,
}
_STATUS = {
    "completed": "SUCCEEDED",
    "failed": "TERMINAL",
    "failed_continue": "FAILED_CONTINUE",
    "stopped": "STOPPED",
    "canceled": "CANCELED",
    "skipped": "SKIPPED",
}


class EventReader:
    """Reads the events of one workflow, in their order and each once."""

    def __init__(self, client: Client, workflow_id: str) -> None:
        self._client, self._workflow_id = client, workflow_id
        self._stages: dict[str, StageExecution | None] = {}
        self._number = 0
        self._began: dict[tuple[str, str], int] = {}
        """When a workflow, stage or task was last seen to start (ms), by kind and id."""

    def read(self, found: Iterable[WorkflowEvent]) -> Iterator[Event]:
        """Yield those that upstream has a name for. Raises UnreachableError."""
        for event in found:
            item = self.item(event, "replay")
            kind = _KNOWN.get(item.event_type) or _NEAREST.get(item.event_type)
            if kind is not None:
                self._number += 1
                yield Event(
                    kind,
                    EntityType.STAGE if kind is EventType.JUMP_EXECUTED else EntityType(item.entity_type),
                    item.entity_id,
                    self._workflow_id,
                    item.data,
                    self._number,
                    datetime.fromtimestamp(event.at_ms / 1000, UTC),
                    event.id,
                    metadata=EventMetadata(self._workflow_id, source_handler="engine"),
                )

    def item(self, event: WorkflowEvent, source: str) -> StreamItem:
        """Return one event, as streams tell it. Raises UnreachableError."""
        item = StreamItem.from_event(event, source, self._workflow_id)
        about = self._about(item.entity_type, event, has_ended=item.event_type in _WITH_OUTPUTS)
        entity_id = str(about.pop("id", item.entity_id))
        if item.event_type == EventType.CUSTOM.value:
            return replace(item, entity_id=entity_id)
        data = {
            **about,
            **self._times(item, event.at_ms, entity_id),
            **_ending(item.event_type, item.data),
            **item.data,
        }
        return replace(item, entity_id=entity_id, data=data)

    def _times(self, item: StreamItem, at_ms: int, entity_id: str) -> dict[str, int]:
        entity, _, what = item.event_type.partition(".")
        if what == "started":
            self._began[(entity, entity_id)] = at_ms
            return {"start_time": at_ms}
        if what not in _STATUS:
            return {}
        return {"end_time": at_ms, "duration_ms": at_ms - self._began.get((entity, entity_id), at_ms)}

    def _about(self, entity: str, event: WorkflowEvent, *, has_ended: bool) -> dict[str, Any]:
        """Return what is known of the workflow, stage or task that an event is about.

        Of what has ended well also the outputs, as they are when they are looked at: those of the whole stage.
        """
        if not event.ref_id:
            tell = {_CREATED: _created, _STARTED: _started}.get(event.kind)
            return {} if tell is None else tell(self._client.get(self._workflow_id))
        stage = self._stage(event.ref_id, has_ended=has_ended)
        if stage is None:
            return {"ref_id": event.ref_id, "name": event.ref_id}
        known = self._about_stage(entity, event, stage)
        return {**known, "outputs": dict(stage.outputs)} if has_ended else known

    @staticmethod
    def _about_stage(entity: str, event: WorkflowEvent, stage: StageExecution) -> dict[str, Any]:
        if entity != "task":
            parent = stage.parent_stage_id
            about = {"parent_stage_id": parent, "is_synthetic": parent is not None, "task_count": len(stage.tasks)}
            kind = {"type": stage.type} if stage.type else {}
            return {"id": stage.id, "ref_id": stage.ref_id, "name": stage.name, **kind, **about}
        task = next((one for one in stage.tasks if one.name == event.data.get("task")), None)
        about = {} if task is None else {"id": task.id, "implementing_class": task.implementing_class}
        return {"ref_id": stage.ref_id, "name": event.data.get("task"), "stage_id": stage.id, **about}

    def _stage(self, ref_id: str, *, has_ended: bool) -> StageExecution | None:
        """Return a stage; read anew if it has ended since it was read."""
        known = self._stages.get(ref_id)
        if ref_id not in self._stages or (has_ended and known is not None and not known.status.is_complete):
            workflow = retold(self._client.get(self._workflow_id))
            self._stages = {ref_id: None, **self._stages, **{stage.ref_id: stage for stage in workflow.stages}}
        return self._stages[ref_id]


def _created(workflow: Workflow) -> dict[str, Any]:
    return {
        "application": workflow.application,
        "name": workflow.name,
        "type": workflow.type.value,
        "trigger_type": workflow.trigger.type,
        "stage_count": len(workflow.stages),
        "initial_stage_count": len(workflow.initial_stages()),
    }


def _started(workflow: Workflow) -> dict[str, Any]:
    first = [stage.id for stage in workflow.initial_stages()]
    return {"context": dict(workflow.context), "initial_stage_ids": first}


def _ending(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "stage.signaled":
        return {"signal_name": data.get("signal")}
    status = _STATUS.get(kind.partition(".")[2])
    if status is None:
        return {}
    return {"status": status, **({"error": data["reason"]} if "reason" in data else {})}
