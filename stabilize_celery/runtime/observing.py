"""Observers: who learns what a process does, for metrics, traces and logs; without one nothing is called."""

from collections.abc import Callable, Sequence
from functools import partial

from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.engine.steps import Query, Slot, Snapshot
from stabilize_celery.models.messages import Message
from stabilize_celery.store.contract import Session, Transaction

__all__ = ["ObservedSession", "Observer", "Observers", "tell_of_commit", "tell_of_read"]


class Observer:
    """Hooks that do nothing. One object serves all threads of its process, and must not raise errors of its own."""

    def around_delivery(self, message: Message, handle: Callable[[], str]) -> str:  # noqa: ARG002 - for those who look
        """Let a delivery be handled; return its note."""
        return handle()

    def around_body(self, claimed: ClaimedTask, execute: Callable[[], TaskReturned]) -> TaskReturned:  # noqa: ARG002
        """Let a task's body be executed; return how it ended."""
        return execute()

    def saw(self, slot: Slot, snapshot: Snapshot) -> None:
        """Take note of what was read for a decision."""

    def committed(self, slot: Slot, transaction: Transaction) -> None:
        """Take note of what was written."""

    def conflicted(self, slot: Slot) -> None:
        """Take note that others were faster: nothing was written, and it is decided anew."""

    def failed(self, message: Message) -> None:
        """Take note that a handler raised: a bug."""


class Observers(Observer):
    """Several observers; the first is the outermost."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def around_delivery(self, message: Message, handle: Callable[[], str]) -> str:
        """Let a delivery be handled inside all of them."""
        for observer in reversed(self._observers):
            handle = partial(observer.around_delivery, message, handle)
        return handle()

    def around_body(self, claimed: ClaimedTask, execute: Callable[[], TaskReturned]) -> TaskReturned:
        """Let a body be executed inside all of them."""
        for observer in reversed(self._observers):
            execute = partial(observer.around_body, claimed, execute)
        return execute()

    def saw(self, slot: Slot, snapshot: Snapshot) -> None:
        """Tell all of them."""
        for observer in self._observers:
            observer.saw(slot, snapshot)

    def committed(self, slot: Slot, transaction: Transaction) -> None:
        """Tell all of them."""
        for observer in self._observers:
            observer.committed(slot, transaction)

    def conflicted(self, slot: Slot) -> None:
        """Tell all of them."""
        for observer in self._observers:
            observer.conflicted(slot)

    def failed(self, message: Message) -> None:
        """Tell all of them."""
        for observer in self._observers:
            observer.failed(message)


class ObservedSession:
    """A session whose reads and commits an observer is told of."""

    def __init__(self, session: Session, slot: Slot, observer: Observer) -> None:
        self._session = session
        self._slot = slot
        self._observer = observer

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        """See `Session`."""
        snapshot = self._session.read(queries, watch)
        tell_of_read(self._observer, self._slot, snapshot)
        return snapshot

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        """See `Session`."""
        results = self._session.commit(transaction)
        self._tell(transaction, is_written=results is not None)
        return results

    def commit_and_read(
        self, transaction: Transaction, queries: Sequence[Query], watch: Sequence[str] = ()
    ) -> tuple[list[int | None], Snapshot] | None:
        """See `Session`."""
        answer = self._session.commit_and_read(transaction, queries, watch)
        self._tell(transaction, is_written=answer is not None)
        if answer is not None:
            tell_of_read(self._observer, self._slot, answer[1])
        return answer

    def _tell(self, transaction: Transaction, *, is_written: bool) -> None:
        tell_of_commit(self._observer, self._slot, transaction, is_written=is_written)


def tell_of_read(observer: Observer, slot: Slot, snapshot: Snapshot) -> None:
    """Tell an observer what was read, as far as it can be opened here."""
    observer.saw(slot, snapshot.of_readable())


def tell_of_commit(observer: Observer, slot: Slot, transaction: Transaction, *, is_written: bool) -> None:
    """Tell an observer what became of a commit."""
    if is_written:
        observer.committed(slot, transaction)
    else:
        observer.conflicted(slot)
