"""Waiting for events of many workflows in an event loop: one thread and one connection per partition, however many."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

from stabilize_celery.client.events import checked_event_id
from stabilize_celery.client.following import MAX_BATCH
from stabilize_celery.errors import UnreachableError
from stabilize_celery.store.contract import Store, StoredEvent
from stabilize_celery.store.event_stream import place_of, stands_behind

__all__ = ["Listener", "cancel_in_its_loop"]

_BLOCK_MS = 30_000
_CLOSING_S = 2.0
"""How long closing waits for threads that are cut off from the server."""


@dataclass(frozen=True, slots=True)
class _Wish:
    workflow_id: str
    after: str
    answer: "asyncio.Future[list[StoredEvent]]"


class Listener:
    """Hears what happens to workflows. Threads start when somebody waits, and end when nobody does.

    Args:
        store: Where the workflows are.

    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._name = uuid4().hex[:12]
        self._lock = threading.Lock()
        self._wishes: dict[int, list[_Wish]] = {}
        """By partition; a partition with an entry has a thread."""
        self._threads: dict[int, threading.Thread] = {}
        self._is_closed = False

    def want(
        self, workflow_id: str, after: str, loop: asyncio.AbstractEventLoop
    ) -> "asyncio.Future[list[StoredEvent]]":
        """Return a future of what happens after the event `after`. Does I/O: call it outside of the loop's thread.

        Raises:
            UnreachableError: the state server is away. The future may fail with it, too.
            RuntimeError: this listener is closed.
            ValueError: `after` is not the id of an event.

        """
        # Who waits beside it in the same call would get the server's refusal, too.
        wish = _Wish(workflow_id, checked_event_id(after), asyncio.Future(loop=loop))
        partition = self._store.partition_of(workflow_id)
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this client is closed")
            is_listening = partition in self._wishes
            self._wishes.setdefault(partition, []).append(wish)
            if not is_listening:
                name = f"stabilize-listener-{partition}"
                thread = threading.Thread(target=self._listen, args=(partition,), name=name, daemon=True)
                self._threads[partition] = thread
                thread.start()
        if is_listening:
            self._store.ring(partition, self._name)
        return wish.answer

    def close(self) -> None:
        """End all waiting; futures that wait are cancelled. Does I/O, and returns without a server that is away."""
        with self._lock:
            self._is_closed = True
            busy = dict(self._threads)
            waiting = [wish for wishes in self._wishes.values() for wish in wishes]
        for wish in waiting:
            cancel_in_its_loop(wish.answer)
        until = time.monotonic() + _CLOSING_S
        for partition in busy:
            # A thread that is not rung cannot reach the server either, and ends by that.
            with suppress(UnreachableError):
                if time.monotonic() < until:
                    self._store.ring(partition, self._name)
        for thread in busy.values():
            thread.join(max(0.0, until - time.monotonic()))

    def _listen(self, partition: int) -> None:
        while wanted := self._still_wanted(partition):
            try:
                found = self._store.first_events(partition, _oldest(wanted), self._name, _BLOCK_MS, MAX_BATCH)
            except Exception as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
                self._fail(partition, wanted, error)
            else:
                self._answer(partition, wanted, found)

    def _still_wanted(self, partition: int) -> list[_Wish]:
        with self._lock:
            wishes = self._wishes[partition]
            wanted = [wish for wish in wishes if not wish.answer.done()]
            if self._is_closed:
                wanted = []
            if not wanted:
                del self._wishes[partition], self._threads[partition]
            else:
                self._wishes[partition] = wanted
            return list(wanted)

    def _answer(self, partition: int, wanted: list[_Wish], found: Mapping[str, list[StoredEvent]]) -> None:
        for wish in wanted:
            news = [event for event in found.get(wish.workflow_id, ()) if stands_behind(event, wish.after)]
            if news:
                self._forget(partition, wish)
                _in_loop(wish.answer, partial(wish.answer.set_result, news))

    def _fail(self, partition: int, wanted: list[_Wish], error: Exception) -> None:
        for wish in wanted:
            self._forget(partition, wish)
            _in_loop(wish.answer, partial(wish.answer.set_exception, error))

    def _forget(self, partition: int, wish: _Wish) -> None:
        with self._lock:
            self._wishes[partition].remove(wish)


def cancel_in_its_loop(future: "asyncio.Future[Any]") -> None:
    """Cancel a future, from whatever thread."""
    _in_loop(future, future.cancel)


def _in_loop(future: "asyncio.Future[Any]", act: Callable[[], object]) -> None:
    def unless_done() -> None:
        if not future.done():
            act()

    # The loop may be closed by now, and then nobody waits.
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(unless_done)


def _oldest(wanted: list[_Wish]) -> dict[str, str]:
    found: dict[str, str] = {}
    for wish in wanted:
        known = found.get(wish.workflow_id)
        found[wish.workflow_id] = wish.after if known is None else min(known, wish.after, key=place_of)
    return found
