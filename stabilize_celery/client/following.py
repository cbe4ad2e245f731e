"""Waiting for what happens next: on the event stream, without a polling loop."""

import time
from collections.abc import Iterator

from stabilize_celery.client.events import ENDED, WorkflowEvent, event_of
from stabilize_celery.client.outcomes import no_such_workflow
from stabilize_celery.engine import places
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.steps import Hash, Members, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.store.contract import Store

__all__ = ["EventFeed", "wait_for_end"]

_BATCH = 1_000
_BLOCK_S = 30.0
"""How long one wait for an event takes at most; then the workflow itself is looked at, too."""
_AWAY_S = 60.0
"""How long Redis may be away while somebody waits without a deadline."""
_CLEARING_S = 5.0
"""How long a follower waits for the stages of an ended workflow to be cancelled."""
_OVERLAP_MS = 1_000
_RETRY_S = 0.25
_LIVE = Members(places.LIVE)
_RECORD = Hash(places.WORKFLOW)


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
        block_ms = round(block_s * 1000) or None
        stored = self._store.events(self._workflow_id, self.position, block_ms, _BATCH)
        if stored:
            self.position = stored[-1].id
        return [event_of(one) for one in stored]

    def history(self) -> Iterator[WorkflowEvent]:
        """Yield what has happened until now. Raises WorkflowNotFoundError."""
        self._state()
        while batch := self.next_batch():
            yield from batch
            if len(batch) < _BATCH:
                return

    def follow(self) -> Iterator[WorkflowEvent]:
        """Yield what has happened and what happens, until the workflow has ended and its stages are cleared.

        Raises:
            WorkflowNotFoundError: there is no such workflow (any more).

        """
        self._state()
        ended_at = None
        while True:
            batch = self.next_batch(_BLOCK_S if ended_at is None else 0.25)
            yield from batch
            if any(event.kind in ENDED for event in batch) or not batch:
                is_over, is_clear = self._state()
                ended_at = (ended_at or time.monotonic()) if is_over else None
                if ended_at and not batch and (is_clear or time.monotonic() > ended_at + _CLEARING_S):
                    return

    def _state(self) -> tuple[bool, bool]:
        snapshot = self._store.look(workflow_slot(self._workflow_id), [_RECORD, _LIVE])
        record = workflow_of(snapshot)
        if not record.exists:
            raise no_such_workflow(self._workflow_id)
        return not record.is_live, not snapshot[_LIVE]


def wait_for_end(store: Store, workflow_id: str, timeout_s: float | None) -> None:
    """Return once the workflow has ended; a server that is away for a while is waited for.

    Raises:
        TimeoutError: it has not ended within `timeout_s`.
        WorkflowNotFoundError: there is no such workflow (any more).
        UnreachableError: no deadline was given, and Redis is away for longer than 60 s.

    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    feed, away_since = None, None
    while True:
        try:
            feed = feed or _feed_from_now(store, workflow_id)
            if feed is None:
                return
            batch = feed.next_batch(_block_s(deadline))
            away_since = None
            if not batch or any(event.kind in ENDED for event in batch):
                feed = None
        except UnreachableError:
            away_since = away_since or time.monotonic()
            if deadline is None and time.monotonic() > away_since + _AWAY_S:
                raise
            _pause(deadline)
        if deadline is not None and time.monotonic() >= deadline and not _has_ended(store, workflow_id):
            raise TimeoutError(
                f"workflow {workflow_id} has not ended within {timeout_s:g} s; `why` says what it waits for"
            )


def _feed_from_now(store: Store, workflow_id: str) -> EventFeed | None:
    """Return a feed of what happens after the status was read; None: the workflow has ended."""
    snapshot = store.look(workflow_slot(workflow_id), [_RECORD])
    record = workflow_of(snapshot)
    if not record.exists:
        raise no_such_workflow(workflow_id)
    return EventFeed(store, workflow_id, f"{max(0, snapshot.now_ms - _OVERLAP_MS)}-0") if record.is_live else None


def _has_ended(store: Store, workflow_id: str) -> bool:
    try:
        return _feed_from_now(store, workflow_id) is None
    except UnreachableError:
        return False


def _block_s(deadline: float | None) -> float:
    left_s = _BLOCK_S if deadline is None else deadline - time.monotonic()
    return min(_BLOCK_S, max(0.001, left_s))


def _pause(deadline: float | None) -> None:
    left_s = _RETRY_S if deadline is None else deadline - time.monotonic()
    time.sleep(max(0.0, min(_RETRY_S, left_s)))
