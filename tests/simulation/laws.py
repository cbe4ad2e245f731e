"""Laws that hold after every commit of every simulation, and those that hold when a workflow has ended."""

from collections import Counter
from collections.abc import Mapping

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.locks import Owner
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, Run
from stabilize_celery.engine.steps import (
    DeleteFields,
    Hash,
    Items,
    Members,
    Rank,
    SetFields,
    Slot,
    Snapshot,
    Unrank,
    workflow_slot,
)
from stabilize_celery.store.contract import Transaction
from stabilize_celery.testing import Simulation

FINAL = {"SUCCEEDED", "FAILED_CONTINUE", "SKIPPED", "STOPPED", "TERMINAL", "CANCELED"}
_RECORD, _LIVE, _COUNTERS, _DEFINITION = (
    Hash(places.WORKFLOW),
    Members(places.LIVE),
    Hash(places.COUNTERS),
    Hash(places.DEFINITION),
)
_NO_RUN: tuple[Mapping[str, bytes] | None, Run] = (None, Run())


class Laws:
    """Watches a simulation. What is broken is told in `broken`, which others may write to as well."""

    def __init__(self, simulation: Simulation, broken: list[str] | None = None) -> None:
        self.simulation = simulation
        self.statuses: dict[tuple[str, str], str] = {}
        self.started: Counter[tuple[str, str]] = Counter()
        self._runs: dict[tuple[str, str], tuple[Mapping[str, bytes], Run]] = {}
        self.broken: list[str] = [] if broken is None else broken
        simulation.observers.append(self.check)

    def check(self, slot: Slot, transaction: Transaction) -> None:
        """Written down, not raised: a handler's exception would only become a dead letter."""
        if slot.kind == "workflow":
            self._statuses(slot, transaction)
            self._started(slot, transaction)
            self._counts(slot)

    def _require(self, holds: bool, told: str) -> None:
        if not holds:
            self.broken.append(told)

    def _statuses(self, slot: Slot, transaction: Transaction) -> None:
        for change in transaction.changes:
            if isinstance(change, SetFields) and self._is_run(change.key) and "status" in change.fields:
                key, status = (slot.name, change.key), str(change.fields["status"])
                before = self.statuses.get(key, "")
                self._require(before not in FINAL, f"{key}: {before} -> {status}: a final status was left")
                self.statuses[key] = status

    @staticmethod
    def _is_run(key: str) -> bool:
        """Whether a key is a run's: a mutex section asks for its lock under a record that looks like one."""
        return key.startswith("r:") and key != places.run(section_thread("section"))

    def _started(self, slot: Slot, transaction: Transaction) -> None:
        for event in transaction.events:
            if event["kind"] == "stage.started":
                key = (slot.name, unpack(bytes(event["data"]))["thread"])  # type: ignore[arg-type]
                self.started[key] += 1
                self._require(self.started[key] == 1, f"{key} started {self.started[key]} times")

    def _counts(self, slot: Slot) -> None:
        """`act` counts live runs; an offer once for all its members; what waits for a milestone, and instances, never."""
        snapshot = self._look(slot.name, _RECORD, _COUNTERS, _LIVE)
        runs = self._look(slot.name, *(Hash(places.run(thread)) for thread in snapshot[_LIVE]))
        live = [self._decoded(slot.name, thread, runs[Hash(places.run(thread))]) for thread in snapshot[_LIVE]]
        offers = {run.offer for run in live if run.offer}
        moving = [run for run in live if run.instance is None and not run.offer and not run.held_for]
        act = int(snapshot[_COUNTERS].get("act", b"0"))
        told = f"{slot.name}: act is {act}, but {len(moving)} runs and {len(offers)} offers move"
        self._require(act == len(moving) + len(offers), told)
        if WORKFLOW_RECORD.decode(snapshot[_RECORD]).is_live:
            left = [run.ref for run in live if run.parent and run.parent not in snapshot[_LIVE]]
            self._require(not left, f"{slot.name}: {left} live on, though what they are part of has ended")

    def _decoded(self, workflow_id: str, thread: str, fields: Mapping[str, bytes]) -> Run:
        """Decode a run once for as long as it is the same."""
        before, run = self._runs.get((workflow_id, thread), _NO_RUN)
        if before is not fields:
            run = RUN.decode(fields)
            self._runs[workflow_id, thread] = fields, run
        return run

    def _look(self, workflow_id: str, *queries: object) -> Snapshot:
        store = self.simulation.store
        found: Snapshot = store.calmly(lambda: store.look(workflow_slot(workflow_id), queries))
        return found

    # -- at the end ----------------------------------------------------------------------------------------------------

    def owed(self, workflow_id: str) -> set[str]:
        """Names in the ledger of a workflow."""
        marker = f":{workflow_id}:m:"
        keys = [key.decode() for key in self.simulation.store._wire.scan("*")]
        return {key.split(marker, 1)[1] for key in keys if marker in key}

    def require_the_end(self, workflow_id: str) -> None:
        """Ended: nothing lives, nothing but the expiry is owed, every join's books are in order, no law was broken."""
        assert not self.broken, self.broken[:3]
        snapshot = self._look(workflow_id, _RECORD, _LIVE, _COUNTERS, _DEFINITION)
        record = WORKFLOW_RECORD.decode(snapshot[_RECORD])
        assert record.status in FINAL, f"{workflow_id} is {record.status}, owes {self.owed(workflow_id)}"
        assert snapshot[_LIVE] == set()
        assert int(snapshot[_COUNTERS].get("act", b"0")) == 0
        assert self.owed(workflow_id) == {"Expire"}
        assert self.simulation.store.dead_letters() == []
        self._require_statuses(workflow_id, snapshot)
        self._require_no_locks(workflow_id)

    def require_no_trace(self, workflow_id: str) -> None:
        """When its retention is over, no key of the workflow is left but what says that it is gone, for a while."""
        retention_ms, began_ms = self.simulation.settings.retention_ms, self.simulation.now_us // 1000
        for tenths in range(1, 21):
            if not self._kept(workflow_id):
                return
            self.simulation.drain(until_ms=began_ms + tenths * retention_ms // 10)
        kept = self._kept(workflow_id)
        assert kept == [], f"{workflow_id} was forgotten, but has left {kept}"

    def _kept(self, workflow_id: str) -> list[str]:
        left = [key.decode() for key in self.simulation.store._wire.scan("*")]
        return [key for key in left if f":{workflow_id}" in key and not key.endswith(":w")]

    def _require_no_locks(self, workflow_id: str) -> None:
        """What still stands in a lock is a ghost: its run has given it back, and the next who waits drops it."""
        for lock in self.simulation.store.locks():
            for owner in map(Owner.parse, [*lock.holders, *(waiter for waiter, _ in lock.waiters)]):
                if owner.workflow_id == workflow_id:
                    key = Hash(places.run(owner.thread))
                    run = RUN.decode(self._look(workflow_id, key)[key])
                    assert run.lock in ("", "done") or run.request != owner.request, (lock.name, run.ref, run.lock)

    def _require_statuses(self, workflow_id: str, snapshot: Snapshot) -> None:
        plans = [decode_plan(data) for name, data in snapshot[_DEFINITION].items() if name.startswith("s:")]
        lists = [Items(key) for plan in plans for key in (places.started(plan.ref), places.bypassed(plan.ref))]
        found = self._look(workflow_id, *lists)
        threads = [thread for query in lists for thread in found[query]]
        runs = self._look(workflow_id, *(Hash(places.run(thread)) for thread in threads))
        for thread in threads:
            run = RUN.decode(runs[Hash(places.run(thread))])
            assert run.status in FINAL, (run.ref, run.status)
            assert run.lock in ("", "done"), (run.ref, run.lock)


class LockLaws:
    """Laws of one lock's slot: never more than `limit`, first come first served, tokens only grow."""

    def __init__(self, simulation: Simulation, limit: int, broken: list[str] | None = None) -> None:
        self.limit = limit
        self.line: list[str] = []
        self.holders: dict[str, int] = {}
        self.last = 0
        self.broken: list[str] = [] if broken is None else broken
        simulation.observers.append(self.check)

    def check(self, slot: Slot, transaction: Transaction) -> None:
        if slot.kind == "lock":
            self._drops(transaction)
            self._grants(transaction)
            self._arrivals(transaction)

    def _drops(self, transaction: Transaction) -> None:
        for change in transaction.changes:
            if isinstance(change, DeleteFields) and change.key == "h":
                for owner in change.fields:
                    self.holders.pop(owner, None)
                self.line = [owner for owner in self.line if owner not in change.fields]

    def _grants(self, transaction: Transaction) -> None:
        for change in transaction.changes:
            if isinstance(change, SetFields) and change.key == "h":
                for owner, token in change.fields.items():
                    self._grant(owner, int(token))
            elif isinstance(change, Unrank):
                self.line = [owner for owner in self.line if owner != change.member]

    def _grant(self, owner: str, token: int) -> None:
        if not (owner == self.line[0] if self.line else True):
            self.broken.append(f"{owner} got the lock before {self.line[0]}")
        if token <= self.last:
            self.broken.append(f"token {token} is not above {self.last}")
        self.last = max(self.last, token)
        self.holders[owner] = token
        self.line = [other for other in self.line if other != owner]
        if len(self.holders) > self.limit:
            self.broken.append(f"{len(self.holders)} hold a lock of {self.limit}: {sorted(self.holders)}")

    def _arrivals(self, transaction: Transaction) -> None:
        for change in transaction.changes:
            if isinstance(change, Rank) and change.member not in self.line and change.member not in self.holders:
                self.line.append(change.member)
