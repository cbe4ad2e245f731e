"""The history of a workflow: one event per thing that happened, each readable as one line."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from stabilize_celery.client.why.locks import shown_key
from stabilize_celery.client.words import in_line
from stabilize_celery.engine.codec import unpack
from stabilize_celery.store.contract import StoredEvent

__all__ = ["ENDED", "EVENT_ID", "RunNumbers", "WorkflowEvent", "checked_event_id", "event_of"]

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
    "workflow.repaired": "repaired: {found}; {done}",
    "stage.buffered": "waits {until}",
    "stage.offered": "is offered in the choice {group!r}",
    "stage.chosen": "was chosen",
    "stage.started": "started",
    "stage.suspended": "waits for signal {signal!r}",
    "stage.signaled": "got signal {signal!r}",
    "stage.signal_kept": "signal {signal!r} kept: nobody waits for it yet",
    "stage.called": "called workflow {workflow_id}",
    "stage.returned": "called workflow {workflow_id} ended {status}",
    "stage.jumped": "jumps to {target}",
    "stage.timed_out": "timed out: {reason}",
    "stage.finalized": "finalizers ran",
    **{
        f"{whole}.{kind}": words
        for whole in ("stage", "instance")
        for kind, words in {
            "completed": "SUCCEEDED",
            "failed_continue": "FAILED_CONTINUE: {reason}",
            "skipped": "SKIPPED: {reason}",
            "stopped": "STOPPED: {reason}",
            "failed": "TERMINAL: {reason}",
            "canceled": "CANCELED: {reason}",
        }.items()
    },
    "instance.started": "started",
    "join.fired": "join fired, {branches} branches arrived",
    "lock.granted": "holds mutex {key!r}, token {token}",
    "lock.released": "released mutex {lock!r}",
    "task.started": "task {task}{whose} began on {worker}, attempt {attempt}",
    "task.completed": "task {task}{whose} SUCCEEDED",
    "task.skipped": "task {task}{whose} SKIPPED",
    "task.failed": "task {task}{whose} TERMINAL: {error}",
    "task.stopped": "task {task}{whose} STOPPED: {error}",
    "task.canceled": "task {task}{whose} CANCELED: {error}",
    "task.failed_continue": "task {task}{whose} FAILED_CONTINUE: {error}",
    "task.retried": "task {task}{whose} failed and is tried again: {error}",
    "task.suspended": "task {task}{whose} waits",
    "task.running": "task {task}{whose} calls a workflow",
    "task.cancel_told": "task {task}{whose} was notified of its cancellation",
    "task.parked": "{reason}",
    "custom.progress": "{message}",
    "message.replayed": "dead letter {message} is handled again",
}
_TOLD_BY_SENTENCE = ("task.", "join.", "workflow.", "message.")
"""Kinds whose sentence says itself whose they are, or which are nobody's; before the others stands the run."""


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
    run: int = field(default=0, compare=False)
    """Which run of its stage it is about, from 1; 0 where that is not known, or it is about none."""

    @property
    def told(self) -> str:
        """What happened, in words, on one line."""
        sentence = _SENTENCES.get(self.kind, "")
        subject = _subject(self.data, self.run)
        shown = _shortened(self.data) | {"whose": f" of {subject}" if subject else ""}
        told = sentence.format_map(_Told(shown)) if sentence else f"{self.kind} {_shown(self.data)}"
        first = "" if self.kind.startswith(_TOLD_BY_SENTENCE) else subject
        return " ".join(f"{first} {told}".split()).rstrip(" :")

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_ms / 1000).astimezone()
        return f"{at:%H:%M:%S}.{self.at_ms % 1000:03d}  {in_line(self.ref_id) or '-':<16}  {self.told}"


class _Told(dict[str, Any]):
    """The data of an event; what an older writer left out is empty."""

    def __missing__(self, name: str) -> str:
        return ""


def _shortened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data as people say it: a worker by its node, a lock by its key."""
    shown = dict(data)
    shown["until"] = f"for mutex {data.get('mutex_key', '')!r}"
    if "milestone" in shown:
        shown["until"] = f"for its milestone, stage {data['milestone']}"
    if "worker" in shown:
        shown["worker"] = str(shown["worker"]).partition("#")[0]
    if "lock" in shown:
        shown["lock"] = shown_key(str(shown["lock"]))
    return shown


def _subject(data: Mapping[str, Any], number: int) -> str:
    """Return which instance of which run it is about; a stage's first run needs no number."""
    run = f"run {number}" if number > 1 else ""
    instance = f"instance {data['instance']}" if data.get("instance") is not None else ""
    return " of ".join(filter(None, (instance, run)))


def _shown(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in data.items() if name not in ("thread", "instance"))


# Redis takes 64 bits: what 19 digits say is below that, and such a time is not before the year 300 million.
EVENT_ID = "[0-9]{1,19}(-[0-9]{1,19})?"
"""What an id of an event looks like, as a regular expression."""


def checked_event_id(text: str) -> str:
    """Return the id of an event. Raises ValueError: it is none."""
    if not isinstance(text, str) or not re.fullmatch(EVENT_ID, text):  # type: ignore[redundant-expr]  # users' code
        raise ValueError(f"{text!r} is not the id of an event: ids look like 1767225600000-0, and 0 is before all")
    return text


class RunNumbers:
    """Tells which run of their stage events are about (from 1), by counting starts: those read from the first event on.

    Args:
        from_id: The event behind which reading begins; without what was before it no number is known.

    Raises:
        ValueError: `from_id` is the id of no event.

    """

    def __init__(self, from_id: str = "0") -> None:
        self._is_known = checked_event_id(from_id) in ("0", "0-0")
        self._numbers: dict[tuple[str, str], int] = {}
        self._runs: Counter[str] = Counter()

    def told(self, events: Sequence[WorkflowEvent]) -> list[WorkflowEvent]:
        """Return the events with the number of their run, where they have one."""
        return [self._told(event) for event in events] if self._is_known else list(events)

    def _told(self, event: WorkflowEvent) -> WorkflowEvent:
        which = (event.ref_id, str(event.data.get("thread", "")))
        if event.kind == "stage.started":
            self._runs[event.ref_id] += 1
            self._numbers[which] = self._runs[event.ref_id]
        number = self._numbers.get(which)
        return event if number is None else replace(event, run=number)


def event_of(stored: StoredEvent) -> WorkflowEvent:
    """Return an event of a workflow's stream."""
    fields = stored.fields
    data = unpack(fields["data"]) if fields.get("data") else {}
    return WorkflowEvent(stored.id, fields["kind"].decode(), fields["ref"].decode(), int(fields["at"]), data)
