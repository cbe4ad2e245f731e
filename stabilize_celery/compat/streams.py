"""WorkflowStream: a workflow's events under upstream's names; `handle.events(follow=True)` is the shorter way."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from stabilize_celery.client.client import Client
from stabilize_celery.client.events import ENDED, WorkflowEvent
from stabilize_celery.client.following import EventFeed
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.errors import WorkflowNotFoundError

__all__ = ["HasURL", "StreamItem", "WorkflowStream", "client_of"]

_BLOCK_S = 0.5
"""How long one look waits for an event (s): so long closing may take."""
_OF_UPSTREAM = {
    "workflow.succeeded": "workflow.completed",
    "workflow.skipped": "workflow.completed",
    "workflow.failed_continue": "workflow.completed",
    "workflow.terminal": "workflow.failed",
    "workflow.stopped": "workflow.failed",
}
_PER_MS = 1000
"""More events than this in one millisecond would have the same number (count)."""


class HasURL(Protocol):
    """Something that says where it is, such as a `RedisEventStore`."""

    url: str


@dataclass
class StreamItem:
    """One event. `entity_id`: a stage's `ref_id`, or the workflow's id; `source`: `replay` or `live`."""

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
        at, _, number = event.id.partition("-")
        kind = _OF_UPSTREAM.get(event.kind, event.kind)
        return cls(
            event_type=kind,
            entity_type="stage" if kind.startswith("custom") else kind.partition(".")[0],
            entity_id=event.ref_id or workflow_id,
            workflow_id=workflow_id,
            data=dict(event.data),
            sequence=int(at) * _PER_MS + int(number or 0),
            source=source,
        )


class WorkflowStream:
    """What happens to a workflow, in whichever process; what has happened is always there, too.

    Args:
        execution_id: The workflow's id.
        event_store: Where it is kept: a store of workflows or of events. Default: the store of this process that knows
            the workflow, its newest store, else `STABILIZE_REDIS_URL`.
        subscription_id: Accepted.

    """

    def __init__(
        self,
        execution_id: str,
        event_store: RedisWorkflowStore | HasURL | None = None,
        subscription_id: str | None = None,
    ) -> None:
        del subscription_id
        self.execution_id = execution_id
        self._given = event_store
        self._found: Client | None = None
        self._closed = threading.Event()
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _client(self) -> Client:
        """Looked for when it is needed: the workflow may be stored and started after the stream was made."""
        if self._found is None:
            self._found = client_of(self.execution_id, self._given)
        return self._found

    def replay(self) -> Iterator[StreamItem]:
        """Yield what has happened, oldest first."""
        for event in self._client.handle(self.execution_id).events():
            yield self._item(event, "replay")

    def on_event(self, callback: Callable[[StreamItem], Any], **more: Any) -> None:
        """Call this with each event from now on, in a thread, until the workflow ends; `more` is accepted."""
        del more
        feed = self._feed(include_history=False)
        self._listener = threading.Thread(target=self._listen, args=(feed, callback), daemon=True)
        self._listener.start()

    def follow(self, include_history: bool = False, timeout: float | None = None) -> Iterator[StreamItem]:
        """Yield events as they come, until the workflow ends, or nothing has happened for `timeout` seconds.

        Of a workflow that has ended, its end is yielded: there is nothing to wait for.
        """
        yield from self._follow(self._feed(include_history=include_history), timeout, include_history=include_history)

    def close(self) -> None:
        """Listen no more."""
        self._closed.set()
        if self._listener is not None and self._listener is not threading.current_thread():
            self._listener.join()

    def _feed(self, *, include_history: bool) -> EventFeed:
        history = [] if include_history else self._so_far()
        last = history[-1] if history else None
        if last is not None and last.kind in ENDED:
            last = history[-2] if len(history) > 1 else None
        return EventFeed(self._client.store, self.execution_id, last.id if last is not None else "0")

    def _so_far(self) -> list[WorkflowEvent]:
        try:
            return list(self._client.handle(self.execution_id).events())
        except WorkflowNotFoundError:
            return []  # it is not started yet

    def _follow(self, feed: EventFeed, timeout: float | None, *, include_history: bool) -> Iterator[StreamItem]:
        began_ms = self._client.store.time_ms()
        quiet_since = time.monotonic()
        while not self._closed.is_set():
            for event in feed.next_batch(_BLOCK_S if timeout is None else min(_BLOCK_S, timeout)):
                quiet_since = time.monotonic()
                yield self._item(event, "replay" if include_history and event.at_ms < began_ms else "live")
                if event.kind in ENDED:
                    return
            if timeout is not None and time.monotonic() - quiet_since >= timeout:
                return

    def _listen(self, feed: EventFeed, callback: Callable[[StreamItem], Any]) -> None:
        for item in self._follow(feed, None, include_history=False):
            callback(item)

    def _item(self, event: WorkflowEvent, source: str) -> StreamItem:
        return StreamItem.from_event(event, source, self.execution_id)


def client_of(workflow_id: str, given: RedisWorkflowStore | HasURL | None) -> Client:
    """Return a client of where a workflow is kept, or will be. Raises ConfigurationError: nobody said where."""
    if isinstance(given, RedisWorkflowStore):
        return given.client
    if given is not None and given.url.startswith("redis"):
        return Client(given.url)
    known = RedisWorkflowStore.knowing(workflow_id) or RedisWorkflowStore.newest()
    return known.client if known is not None else Client()
