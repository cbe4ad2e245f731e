"""A small world for the keeper and the leases: a store in memory, a clock in the hand, a publisher that keeps a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY, Entry
from stabilize_celery.engine.steps import Delete, Hash, Look, SetFields, Value, workflow_slot
from stabilize_celery.errors import QueueError
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.leases import Leases
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Drop, Put, Transaction
from stabilize_celery.store.memory import MemoryStore

START_MS = 1_700_000_000_000
WORK = "stabilize.work"


@dataclass
class RecordingPublisher:
    """Keeps what was published, batch by batch; refuses while `is_away`."""

    batches: list[list[Outgoing]] = field(default_factory=list)
    is_away: bool = False

    def publish(self, batch: Sequence[Outgoing]) -> None:
        if self.is_away:
            raise QueueError("the broker is away")
        self.batches.append(list(batch))

    def take(self, kind: str | None = None) -> list[Outgoing]:
        """Return and forget what was published (of one kind)."""
        found = [message for batch in self.batches for message in batch]
        self.batches.clear()
        return [message for message in found if kind in (None, message.kind)]


class World:
    """One namespace of two partitions, looked after by keepers."""

    def __init__(self, **settings: Any) -> None:
        self.now_ms = START_MS
        self.settings = Settings(**settings)
        self.store = MemoryStore(lambda: self.now_ms * 1000, partitions=2)
        self.publisher = RecordingPublisher()
        self._renew_at_ms = 0
        self.keeper = self.new_keeper("worker-1")

    def new_keeper(self, worker_id: str, store: Any = None) -> Keeper:
        """Return a keeper that holds what it could take."""
        keeper = Keeper(store or self.store, self.publisher, self.settings, worker_id)
        keeper.renew()
        return keeper

    def new_leases(self, store: Any = None) -> Leases:
        return Leases(store or self.store, self.publisher, self.settings, "worker-1")

    def owe(self, workflow_id: str, name: str, due_ms: int = 0, **fields: Value) -> None:
        """Write an entry as a handler would, by default published now and looked at after R."""
        thread = name.removeprefix("Run:").partition(".")[0] if name.startswith("Run:") else "t"
        arguments = {"ref_id": "pay", "thread": thread, "task_index": 0, "task_type": "charge"}
        entry: dict[str, Value] = {"t": "RunTask", "v": 1, "a": pack(arguments), "nb": 0, "pub": self.now_ms, "q": WORK}
        due = due_ms or self.now_ms + self.settings.republish_ms
        self.write(workflow_id, Transaction(ledger=[Put(name, {**entry, **fields}, due)]))

    def begin(self, workflow_id: str, status: str = "RUNNING") -> None:
        """Write the workflow's own record."""
        self.write(workflow_id, Transaction([SetFields("w", {"status": status})]))

    def write(self, workflow_id: str, transaction: Transaction) -> None:
        with self.store.session(workflow_slot(workflow_id)) as session:
            assert session.commit(transaction) is not None

    def forget(self, workflow_id: str, name: str) -> None:
        """Do what the entry owes: it is gone."""
        self.write(workflow_id, Transaction(ledger=[Drop(name)]))

    def lose_hash(self, workflow_id: str, name: str) -> None:
        """Take the entry away, but not its time: what lost writes may leave."""
        self.write(workflow_id, Transaction([Delete((ledger(name),))]))

    def entry(self, workflow_id: str, name: str) -> Entry:
        return ENTRY.decode(self.store.look(workflow_slot(workflow_id), [Hash(ledger(name))]).hash(ledger(name)))

    def raw(self, workflow_id: str, name: str) -> dict[str, bytes]:
        return self.store.look(workflow_slot(workflow_id), [Hash(ledger(name))]).hash(ledger(name))

    def due_in(self, workflow_id: str, name: str) -> int | None:
        """Return when the entry is due (ms from now); None: it is not in `due`."""
        look = Look((name,))
        due = self.store.look(workflow_slot(workflow_id), [look])[look].get(name)
        return None if due is None else due - self.now_ms

    def run_for(self, seconds: float) -> None:
        """Let the keeper tick as it asks to, and renew its leases, for this long."""
        end = self.now_ms + int(seconds * 1000)
        while self.now_ms < end:
            if self.now_ms >= self._renew_at_ms:
                self.keeper.renew()
                self._renew_at_ms = self.now_ms + self.keeper.lease_ms // 3
            self.now_ms += min(self.keeper.tick(), end - self.now_ms)
