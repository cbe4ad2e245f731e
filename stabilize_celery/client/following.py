"""Waiting for what happens next, as steps that a driver carries out: in this thread, or in an event loop.

Nothing polls: who waits, waits for an event of the workflow's stream. The order of steps is written once, without I/O.
"""

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from stabilize_celery.client.events import ENDED, RunNumbers, WorkflowEvent, event_of
from stabilize_celery.client.outcomes import no_such_workflow
from stabilize_celery.engine import places
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.steps import Hash, Members, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.problems import shown
from stabilize_celery.store.contract import Store

__all__ = [
    "MAX_BATCH",
    "EventFeed",
    "Following",
    "LookAt",
    "NextEvents",
    "Pause",
    "Seen",
    "Tell",
    "follow",
    "history",
    "look_at",
    "wait",
    "walk",
]

MAX_BATCH = 1_000
"""How many events are read at once, at most (count)."""
_BLOCK_S = 30.0
"""How long one wait for an event takes at most; then the workflow itself is looked at, too."""
_AWAY_S = 60.0
"""How long Redis may be away while somebody waits without a deadline, or follows."""
_CLEARING_S = 5.0
"""How long a follower waits for the stages of an ended workflow to be cancelled."""
_OVERLAP_MS = 1_000
_GATHERED_SHARE = 1 / 64
_GATHERED_S = 0.02
"""Events that are no end gather for so long, or for this share of what was waited so far if that is less: else who
waits for 10,000 stages would wake at each."""
_RETRY_S = 0.25
_LIVE = Members(places.LIVE)
_RECORD = Hash(places.WORKFLOW)


@dataclass(frozen=True, slots=True)
class LookAt:
    """Look at the workflow itself; answered by `Seen`."""


@dataclass(frozen=True, slots=True)
class NextEvents:
    """Return what happened after the event `after`, waiting up to `block_s` for the first; answered by a list."""

    after: str
    block_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Let some time pass before trying again (s)."""

    pause_s: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Give these events to who follows."""

    events: list[WorkflowEvent]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the workflow showed. `is_clear`: none of its stages is at work. Time of the server in ms."""

    is_over: bool
    is_clear: bool
    now_ms: int


Step: TypeAlias = LookAt | NextEvents | Pause | Tell
Following: TypeAlias = Generator[Step, Any, None]


def history(from_id: str) -> Following:
    """Tell what has happened until now."""
    numbers = RunNumbers(from_id)
    yield LookAt()
    while batch := (yield NextEvents(from_id, 0.0)):
        yield Tell(numbers.told(batch))
        if len(batch) < MAX_BATCH:
            return
        from_id = batch[-1].id


def follow(from_id: str) -> Following:
    """Tell what has happened and what happens, until the workflow has ended and its stages are cleared.

    A server that goes away for a while is waited for; nothing is told twice.

    Raises:
        UnreachableError: Redis is away at the first look, or for longer than 60 s.

    """
    numbers = RunNumbers(from_id)
    yield LookAt()
    ended_at = away_since = None
    while True:
        try:
            batch: list[WorkflowEvent] = yield NextEvents(from_id, _BLOCK_S if ended_at is None else 0.25)
            away_since = None
            if batch:
                from_id = batch[-1].id
                yield Tell(numbers.told(batch))
            if not batch or _has_end(batch):
                seen: Seen = yield LookAt()
                ended_at = (ended_at or time.monotonic()) if seen.is_over else None
                if ended_at and not batch and (seen.is_clear or time.monotonic() > ended_at + _CLEARING_S):
                    return
        except UnreachableError:
            away_since = away_since or time.monotonic()
            if time.monotonic() > away_since + _AWAY_S:
                raise
            yield Pause(_RETRY_S)


def wait(workflow_id: str, timeout_s: float | None) -> Following:
    """Go on until the workflow has ended; a server that is away for a while is waited for.

    Raises:
        TimeoutError: it has not ended within `timeout_s`.
        UnreachableError: no deadline was given, and Redis is away for longer than 60 s.
        TypeError: `timeout_s` is not a number.
        ValueError: it is NaN.

    """
    if not isinstance(timeout_s, int | float | None):  # users' code is not checked
        raise TypeError(f"timeout_s must be a number of seconds, or None to wait for ever, not {shown(timeout_s)}")
    if timeout_s is not None and math.isnan(timeout_s):
        raise ValueError("timeout_s is NaN: give seconds, or None to wait for ever")
    began = time.monotonic()
    deadline = None if timeout_s is None else began + timeout_s
    after, away_since = "", None
    while True:
        try:
            if not after:
                seen: Seen = yield LookAt()
                if seen.is_over:
                    return
                # Events carry the server's time, of a moment before their commit.
                after = f"{max(0, seen.now_ms - _OVERLAP_MS)}-0"
            batch: list[WorkflowEvent] = yield NextEvents(after, _left_s(deadline, _BLOCK_S))
            after, away_since = ("" if not batch or _has_end(batch) else batch[-1].id), None
            if after:
                yield Pause(min(_GATHERED_S, _GATHERED_SHARE * (time.monotonic() - began)))
        except UnreachableError:
            away_since = away_since or time.monotonic()
            if deadline is None and time.monotonic() > away_since + _AWAY_S:
                raise
            yield Pause(_left_s(deadline, _RETRY_S))
        if deadline is not None and time.monotonic() >= deadline and not (yield from _has_ended()):
            raise TimeoutError(
                f"workflow {workflow_id} has not ended within {timeout_s:g} s; `why` says what it waits for"
            )


def _has_end(batch: list[WorkflowEvent]) -> bool:
    return any(event.kind in ENDED for event in batch)


def _has_ended() -> Generator[Step, Any, bool]:
    try:
        seen: Seen = yield LookAt()
    except UnreachableError:
        return False
    return seen.is_over


def _left_s(deadline: float | None, at_most_s: float) -> float:
    left_s = at_most_s if deadline is None else deadline - time.monotonic()
    return min(at_most_s, max(0.001, left_s))


def look_at(store: Store, workflow_id: str) -> Seen:
    """Return how a workflow is. Raises WorkflowNotFoundError."""
    snapshot = store.look(workflow_slot(workflow_id), [_RECORD, _LIVE])
    record = workflow_of(snapshot)
    if not record.exists:
        raise no_such_workflow(workflow_id)
    return Seen(not record.is_live, not snapshot[_LIVE], snapshot.now_ms)


class EventFeed:
    """A place in a workflow's history that moves forward."""

    def __init__(self, store: Store, workflow_id: str, from_id: str = "0") -> None:
        self._store = store
        self._workflow_id = workflow_id
        self.position = from_id

    def next_batch(self, block_s: float = 0.0) -> list[WorkflowEvent]:
        """Return what happened since, oldest first; waits up to `block_s` for the first event.

        Raises:
            UnreachableError: the state server is away; nothing is skipped when this is called again.

        """
        batch = self.after(self.position, block_s)
        if batch:
            self.position = batch[-1].id
        return batch

    def after(self, event_id: str, block_s: float = 0.0) -> list[WorkflowEvent]:
        """Return what happened after an event, wherever this feed is; waits up to `block_s` for the first."""
        stored = self._store.events(self._workflow_id, event_id, round(block_s * 1000) or None, MAX_BATCH)
        return [event_of(one) for one in stored]


def walk(steps: Following, store: Store, workflow_id: str) -> Iterator[WorkflowEvent]:
    """Carry the steps out in this thread; yield what they tell.

    Raises:
        WorkflowNotFoundError: there is no such workflow (any more).

    """
    feed = EventFeed(store, workflow_id)
    answer: Any = None
    lost: UnreachableError | None = None
    while True:
        try:
            step = steps.send(answer) if lost is None else steps.throw(lost)
        except StopIteration:
            return
        answer, lost = None, None
        try:
            match step:
                case Tell():
                    yield from step.events
                case LookAt():
                    answer = look_at(store, workflow_id)
                case NextEvents():
                    answer = feed.after(step.after, step.block_s)
                case Pause():
                    time.sleep(step.pause_s)
        except UnreachableError as error:
            lost = error
