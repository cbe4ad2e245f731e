"""Answers to outside events: accepted once, refused in words, and the same again for the same event."""

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.steps import Decision, Hash, Read, SetFields, Snapshot

__all__ = ["EVENT_IDS", "RECORD", "Answer", "Asking", "Hindrance", "accept", "known", "opening_of", "refuse"]

MAX_EVENT_IDS = 1000

RECORD = Hash(places.WORKFLOW)
EVENT_IDS = Hash(places.OUTSIDE_EVENTS)


class Hindrance(Enum):
    """Why an event had no effect, where the caller does something about it."""

    NO_WORKFLOW = "no_workflow"
    CLEARING = "clearing"
    """The workflow has ended, and what was cut short is still being cleared away: it may succeed in a moment."""
    BUSY = "busy"
    """Others' commits came first at each try: it may succeed in a moment."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether an outside event took effect, and what happened or why not, in words."""

    took_effect: bool
    told: str
    hindrance: Hindrance | None = None


Asking: TypeAlias = Generator[Read, Snapshot, Decision]


def refuse(told: str, hindrance: Hindrance | None = None) -> Decision:
    """Return the decision that an event has no effect."""
    return Decision(keeps_entry=True, call=Answer(False, told, hindrance))


def accept(decision: Decision, snapshot: Snapshot, event_id: str, told: str) -> Decision:
    """Let a decision take effect under the event's id."""
    decision.keeps_entry = True
    decision.call = Answer(True, told)
    if len(snapshot[EVENT_IDS]) < MAX_EVENT_IDS:
        decision.change(SetFields(places.OUTSIDE_EVENTS, {event_id: told}))
    return decision


def opening_of(*keys: str) -> Read:
    """Return the first read of an outside event."""
    return Read((RECORD, EVENT_IDS, *map(Hash, keys)), (places.WORKFLOW, places.OUTSIDE_EVENTS, *keys))


def known(snapshot: Snapshot, event_id: str) -> Decision | None:
    """Return the answer that the event had before, or that there is no such workflow."""
    record = workflow_of(snapshot)
    if not record.exists:
        return refuse("there is no such workflow", Hindrance.NO_WORKFLOW)
    if event_id in snapshot[EVENT_IDS]:
        return Decision(keeps_entry=True, call=Answer(True, snapshot[EVENT_IDS][event_id].decode()))
    return None
