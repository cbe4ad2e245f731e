"""A memory store whose sessions let the simulation interfere between any two steps of a handler."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from stabilize_celery.engine.steps import Query, Slot, Snapshot
from stabilize_celery.store.contract import Group, Session, Transaction
from stabilize_celery.store.memory import MemoryStore

__all__ = ["InterruptedStore", "Interrupting"]


class Interrupting(Protocol):
    """What the store asks of the simulation."""

    now_us: int

    def clock_us(self) -> int:
        """Return the time, and let a little of it pass."""
        ...

    def interrupt(self) -> None:
        """Do what happens between two steps."""
        ...

    def noticed(self, slot: Slot, transaction: Transaction, results: object) -> None:
        """Take note of a commit."""
        ...


class InterruptedStore(MemoryStore):
    """A memory store of a simulation."""

    def __init__(self, simulation: Interrupting, partitions: int) -> None:
        super().__init__(simulation.clock_us, partitions=partitions)
        self._simulation = simulation

    def session(self, slot: Slot) -> AbstractContextManager[Session]:
        """Check a session out that can be interrupted."""
        return self._interrupted(slot)

    @contextmanager
    def _interrupted(self, slot: Slot) -> Iterator[Session]:
        with super().session(slot) as session:
            yield _InterruptedSession(slot, session, self._simulation)

    def group(self, slots: Sequence[Slot]) -> AbstractContextManager[Group]:
        """Check several slots out that can be interrupted."""
        return self._interrupted_group(slots)

    @contextmanager
    def _interrupted_group(self, slots: Sequence[Slot]) -> Iterator[Group]:
        with super().group(slots) as group:
            yield _InterruptedGroup(slots, group, self._simulation)

    def calmly(self, look: Callable[[], Any]) -> Any:
        """Look without moving the clock."""
        before = self._simulation.now_us
        try:
            return look()
        finally:
            self._simulation.now_us = before


@dataclass(frozen=True, slots=True)
class _InterruptedSession:
    slot: Slot
    inner: Session
    simulation: Interrupting

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        self.simulation.interrupt()
        return self.inner.read(queries, watch)

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        self.simulation.interrupt()
        results = self.inner.commit(transaction)
        self.simulation.noticed(self.slot, transaction, results)
        self.simulation.interrupt()
        return results

    def commit_and_read(
        self, transaction: Transaction, queries: Sequence[Query], watch: Sequence[str] = ()
    ) -> tuple[list[int | None], Snapshot] | None:
        self.simulation.interrupt()
        answer = self.inner.commit_and_read(transaction, queries, watch)
        self.simulation.noticed(self.slot, transaction, answer)
        self.simulation.interrupt()
        return answer


@dataclass(frozen=True, slots=True)
class _InterruptedGroup:
    slots: Sequence[Slot]
    inner: Group
    simulation: Interrupting

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> list[Snapshot] | None:
        self.simulation.interrupt()
        return self.inner.read(queries, watch)

    def commit(self, transactions: Sequence[Transaction]) -> list[list[int | None]] | None:
        self.simulation.interrupt()
        results = self.inner.commit(transactions)
        for at, (slot, transaction) in enumerate(zip(self.slots, transactions, strict=True)):
            self.simulation.noticed(slot, transaction, None if results is None else results[at])
        self.simulation.interrupt()
        return results
