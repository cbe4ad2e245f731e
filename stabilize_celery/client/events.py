"""The history of a workflow: one event per thing that happened, each readable as one line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stabilize_celery.client.why.locks import shown_key
from stabilize_celery.engine.codec import unpack
from stabilize_celery.store.contract import StoredEvent

__all__ = ["ENDED", "WorkflowEvent", "event_of"]

ENDED = frozenset(
    f"workflow.{status}" for status in ("succeeded", "terminal", "canceled", "stopped", "failed_continue", "skipped")
)
"""Kinds of the event that a workflow ends with."""

_SENTENCES: Mapping[str, str] = {
    "workflow.created": "workflow {name!r} created",
    "workflow.started": "workflow started",
    "workflow.paused": "workflow paused by {by}",
    "workflow.resumed": "workflow resumed",
    "workflow.restarted": "workflow restarted from here, {stages} stages run again",
    "workflow.succeeded": "workflow SUCCEEDED",
    "workflow.terminal": "workflow TERMINAL: {reason}",
    "workflow.canceled": "workflow CANCELED: {reason}",
    "stage.buffered": "waits for mutex {mutex_key!r}",
    "stage.started": "started",
    "stage.suspended": "waits for signal {signal!r}",
    "stage.signaled": "got signal {signal!r}",
    "stage.signal_kept": "signal {signal!r} kept: nobody waits for it yet",
    "stage.called": "called workflow {workflow_id}",
    "stage.returned": "called workflow {workflow_id} ended {status}",
    "stage.jumped": "jumps to {target}",
    "stage.timed_out": "timed out: {reason}",
    "stage.finalized": "finalizers ran",
    "stage.completed": "SUCCEEDED",
    "stage.failed_continue": "FAILED_CONTINUE: {reason}",
    "stage.skipped": "SKIPPED: {reason}",
    "stage.stopped": "STOPPED: {reason}",
    "stage.failed": "TERMINAL: {reason}",
    "stage.canceled": "CANCELED: {reason}",
    "instance.started": "instance {instance} started",
    "instance.completed": "instance {instance} SUCCEEDED",
    "instance.failed_continue": "instance {instance} FAILED_CONTINUE: {reason}",
    "instance.skipped": "instance {instance} SKIPPED: {reason}",
    "instance.stopped": "instance {instance} STOPPED: {reason}",
    "instance.failed": "instance {instance} TERMINAL: {reason}",
    "instance.canceled": "instance {instance} CANCELED: {reason}",
    "join.fired": "join fired, {branches} branches arrived",
    "lock.granted": "holds mutex {key!r}, token {token}",
    "lock.released": "gave back mutex {lock!r}",
    "task.started": "task {task} began on {worker}, attempt {attempt}",
    "task.completed": "task {task} SUCCEEDED",
    "task.failed": "task {task} TERMINAL: {error}",
    "task.failed_continue": "task {task} FAILED_CONTINUE: {error}",
    "task.retried": "task {task} failed and is tried again: {error}",
    "task.suspended": "task {task} waits",
    "task.cancel_told": "task {task} was told that it is cancelled",
    "task.parked": "{reason}",
    "message.replayed": "dead letter {message} is handled again",
}


@dataclass(frozen=True, slots=True)
class WorkflowEvent:
    """One thing that happened. `ref_id` is empty where it is about the whole workflow; `at_ms` is epoch ms.

    `id` says where it stands in the history: `events(from_id=event.id)` goes on behind it.
    """

    id: str
    kind: str
    ref_id: str
    at_ms: int
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """What happened, in words, on one line."""
        sentence = _SENTENCES.get(self.kind, "")
        told = sentence.format_map(_Told(_shortened(self.data))) if sentence else f"{self.kind} {_shown(self.data)}"
        return " ".join(told.split()).rstrip(" :")

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_ms / 1000).astimezone()
        return f"{at:%H:%M:%S}.{self.at_ms % 1000:03d}  {self.ref_id or '-':<16}  {self.told}"


class _Told(dict[str, Any]):
    """The data of an event; what an older writer left out is empty."""

    def __missing__(self, name: str) -> str:
        return ""


def _shortened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data as people say it: a worker by its node, a lock by its key."""
    shown = dict(data)
    if "worker" in shown:
        shown["worker"] = str(shown["worker"]).partition("#")[0]
    if "lock" in shown:
        shown["lock"] = shown_key(str(shown["lock"]))
    return shown


def _shown(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in data.items() if name != "thread")


def event_of(stored: StoredEvent) -> WorkflowEvent:
    """Return an event of a workflow's stream."""
    fields = stored.fields
    data = unpack(fields["data"]) if fields.get("data") else {}
    return WorkflowEvent(stored.id, fields["kind"].decode(), fields["ref"].decode(), int(fields["at"]), data)
