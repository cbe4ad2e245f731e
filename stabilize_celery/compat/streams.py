"""WorkflowStream: a workflow's events under upstream's names; `handle.events(follow=True)` is the shorter way."""

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import uuid4

from stabilize_celery.client.client import Client
from stabilize_celery.client.events import ENDED, WorkflowEvent
from stabilize_celery.client.following import EventFeed
from stabilize_celery.compat.event import EntityType, Event, EventType
from stabilize_celery.compat.event_bus import get_event_bus
from stabilize_celery.compat.event_reader import EventReader
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.compat.stream_item import StreamItem
from stabilize_celery.errors import ConfigurationError, WorkflowNotFoundError
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks import progress
from stabilize_celery.tasks.call import bound_call

__all__ = ["HasURL", "WorkflowStream", "client_of", "emit_progress"]

_BLOCK_S = 0.5
"""How long one look waits for an event (s): so long closing may take."""


class HasURL(Protocol):
    """Something that says where it is, such as a `RedisEventStore`."""

    url: str


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
        self._reader: EventReader | None = None
        self._closed = threading.Event()
        self._listener: threading.Thread | None = None
        self._subscriptions: list[str] = []

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
        """Call this with each event from now on, in a thread, until the workflow ends; `more` is accepted.

        What `emit_progress` tells outside of a workflow, as in unit tests of tasks, it is called with at once.
        """
        del more
        name = f"stream-{uuid4()}"
        get_event_bus().subscribe(name, _Direct(callback), [EventType.CUSTOM], workflow_filter=self.execution_id)
        self._subscriptions.append(name)
        try:
            feed = self._feed(include_history=False)
        except ConfigurationError:
            return  # nothing is kept anywhere
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
        for name in self._subscriptions:
            get_event_bus().unsubscribe(name)
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
        if self._reader is None:
            self._reader = EventReader(self._client, self.execution_id)
        return self._reader.item(event, source)


class _Direct:
    """Hands on what was told to the bus itself; a workflow's own events come from its history."""

    def __init__(self, callback: Callable[[StreamItem], Any]) -> None:
        self._callback = callback

    def __call__(self, event: Event) -> None:
        if event.sequence == 0:
            about = ("stage", event.entity_id, event.workflow_id, dict(event.data))
            self._callback(StreamItem(event.event_type.value, *about, 0, "live"))


def emit_progress(stage: StageExecution, message: str = "", *, recorder: Any = None, **data: Any) -> None:
    """Tell how far a task is: to the workflow's events, and outside of a workflow to this process' bus.

    Raises:
        TypeError: in a workflow, `data` is no JSON; the text names the key.
        UnreachableError: Redis is away.

    """
    if bound_call() is not None:
        progress.emit_progress(stage, message, recorder=recorder, **data)
    elif stage.has_execution():
        told = {"message": message, "stage_ref_id": stage.ref_id, **data}
        event = Event(EventType.CUSTOM, EntityType.STAGE, stage.id, stage.execution.id, told)
        get_event_bus().publish(event)


def client_of(workflow_id: str, given: RedisWorkflowStore | HasURL | None) -> Client:
    """Return a client of where a workflow is kept, or will be. Raises ConfigurationError: nobody said where."""
    if isinstance(given, RedisWorkflowStore):
        return given.client
    if given is not None and given.url.startswith("redis"):
        return Client(given.url)
    known = RedisWorkflowStore.knowing(workflow_id) or RedisWorkflowStore.newest()
    return known.client if known is not None else Client()
