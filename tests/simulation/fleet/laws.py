"""Laws that hold at every commit of every run of the fleet, whatever fails."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.steps import (
    Delete,
    DeleteFields,
    Handling,
    Hash,
    Increment,
    Look,
    Members,
    Read,
    SetFields,
    Slot,
    Snapshot,
    workflow_slot,
)
from stabilize_celery.runtime.inspection import Scope, inspect
from stabilize_celery.runtime.ports import Claim
from stabilize_celery.runtime.running import RunningBody
from stabilize_celery.store.contract import Drop, Put, Transaction
from tests.simulation.fleet.wire import FleetStore
from tests.simulation.laws import Laws, LockLaws

__all__ = ["FleetLaws"]

ONCE = ("stage.started", "stage.completed", "instance.started", "instance.completed", "stage.canceled")
"""Events that tell a transition of one thread: each comes once."""
_LOOK_MS = 9_000


class FleetLaws:
    """Watches a fleet. What is broken is written down with the time; the run ends there."""

    def __init__(self, store: FleetStore, fleet: Any) -> None:
        self._store = store
        self._fleet = fleet
        self.broken: list[str] = []
        self.runs = Laws(fleet, self.broken)
        self.locks: dict[str, LockLaws] = {}
        self.attempts = _Attempts(self.broken.append)
        self.seen: Counter[tuple[str, str, str]] = Counter()
        fleet.observers.append(self.check)

    def check(self, slot: Slot, transaction: Transaction) -> None:
        """Look at a commit that has just been applied."""
        self._ledger(slot, transaction)
        if slot.kind == "lock":
            self._lock(slot, transaction)
            return
        if slot.kind == "partition":
            self._reaped(slot, transaction)
        self.attempts.check(slot, transaction)
        if slot.kind == "workflow":
            self._once(slot, transaction)
            self._inspect(slot.name)

    # -- what a loss of writes takes with it -------------------------------------------------------------------------

    def remember(self) -> Callable[[], None]:
        """Return what makes the laws forget all that came after now."""
        kept = deepcopy((self.runs.statuses, self.runs.started, self.seen, self.attempts.state))
        lines = {name: deepcopy((law.line, law.holders)) for name, law in self.locks.items()}

        def forget() -> None:
            self.runs.statuses, self.runs.started, self.seen, self.attempts.state = kept
            for name, law in self.locks.items():
                # Tokens grow all the same.
                law.line, law.holders = lines.get(name, ([], {}))

        return forget

    # -- laws --------------------------------------------------------------------------------------------------------

    def _ledger(self, slot: Slot, transaction: Transaction) -> None:
        """No message is forgotten: each entry is due, or a dead letter, or parked; and nothing else is due."""
        names = {change.name for change in transaction.ledger}
        names |= {key for change in transaction.changes for key in _ledger_keys(slot, change)}
        if slot.kind == "lock" or not names:
            return
        by_workflow: dict[str, set[str]] = defaultdict(set)
        for name in names:
            workflow_id, _, own = name.partition("/") if slot.kind == "partition" else (slot.name, "", name)
            by_workflow[workflow_id].add(own)
        for workflow_id, owed in by_workflow.items():
            self._require_places(workflow_id, sorted(owed))

    def _require_places(self, workflow_id: str, names: Sequence[str]) -> None:
        entries = {name: Hash(places.ledger(name)) for name in names}
        due, dead, parked = Look(tuple(names)), Look(tuple(names), "dead"), Members(places.PARKED)
        seen = self._look(workflow_id, *entries.values(), due, dead, parked)
        for name, query in entries.items():
            found = [what for what, where in (("due", due), ("dead", dead), ("parked", parked)) if name in seen[where]]
            if seen[query] and not found:
                self.broken.append(f"{workflow_id} owes {name}, but nobody would ever look at it")
            if not seen[query] and set(found) - {"parked"}:
                self.broken.append(f"{name} of {workflow_id} is {found[0]}, but is not owed")
            if seen[query] and "t" not in seen[query]:
                self.broken.append(f"{name} of {workflow_id} came back as {seen[query]}")

    def _reaped(self, slot: Slot, transaction: Transaction) -> None:
        """A keeper takes no claim of a worker that lives, and that had the time to extend its lease."""
        for change in transaction.changes:
            is_reaped = isinstance(change, DeleteFields) and "own" in change.fields
            name = _entry_of(slot, change.key) if is_reaped else None
            owner = self.attempts.state["own"].get(name) if name else None
            if name and owner and self._fleet.is_in_touch(Claim(*name, owner)):
                self.broken.append(f"{name[1]} of {name[0]} is taken from {owner}, which lives and works on it")

    def _lock(self, slot: Slot, transaction: Transaction) -> None:
        law = self.locks.setdefault(slot.name, LockLaws(_Unwatched(), self._fleet.limit_of(slot.name), self.broken))
        if self._fleet.troubles.clock_falls_back:
            # Who came first is said by the clock.
            law.line.clear()
        law.check(slot, transaction)

    def _once(self, slot: Slot, transaction: Transaction) -> None:
        for event in transaction.events:
            if event["kind"] in ONCE:
                data = unpack(bytes(event["data"]))  # type: ignore[arg-type]
                thread = f"{data['thread']}.{data['instance']}" if "instance" in data else data.get("thread", "")
                key = (slot.name, str(event["kind"]), thread)
                self.seen[key] += bool(thread)
                if self.seen[key] > 1:
                    self.broken.append(f"{event['kind']} of {thread} of {slot.name} happened {self.seen[key]} times")

    def _inspect(self, workflow_id: str) -> None:
        """Whatever does not end has something owed to it, or a reason to wait; and what is counted is so."""
        for finding in _decided(self._look, workflow_id, inspect(workflow_id, _LOOK_MS, Scope())).findings:
            self.broken.append(f"{workflow_id}: {finding.told}")

    def _look(self, workflow_id: str, *queries: Any) -> Snapshot:
        return self._store.glass.look(workflow_slot(workflow_id), queries)


class _Unwatched:
    """Stands for a simulation where a law is asked by hand."""

    def __init__(self) -> None:
        self.observers: list[Any] = []


class _Attempts:
    """One claim at a time, numbers that only grow, and only the result of the newest attempt ever shows."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self.state: dict[str, dict[tuple[str, str], Any]] = {"own": {}, "att": {}, "by": {}, "recorded": {}}
        self.claims: dict[int, tuple[str, str, int]] = {}
        """Number of an execution to its workflow, ledger name, and attempt."""

    def began(self, number: int, claim: Claim, body: RunningBody) -> None:
        """Take note: a body is executed, under a claim."""
        self.claims[number] = (claim.workflow_id, claim.name, body.claimed.attempt)

    def check(self, slot: Slot, transaction: Transaction) -> None:
        before = dict(self.state["att"])
        for change in transaction.changes:
            if isinstance(change, SetFields | DeleteFields | Delete):
                self._entry(slot, change)
        for put in transaction.ledger:
            if isinstance(put, Put) and put.name.startswith("Run:"):
                self._put(slot, put)
            elif isinstance(put, Drop) and slot.kind == "workflow":
                self.state["own"].pop((slot.name, put.name), None)
                self.state["att"].pop((slot.name, put.name), None)
        for change in transaction.changes:
            if slot.kind == "workflow" and isinstance(change, SetFields) and change.key.startswith("r:"):
                self._recorded(slot.name, change, before)

    def _entry(self, slot: Slot, change: SetFields | DeleteFields | Delete) -> None:
        for key in change.keys if isinstance(change, Delete) else (change.key,):
            name = _entry_of(slot, key)
            if name is None:
                continue
            if isinstance(change, SetFields) and "own" in change.fields and "att" not in change.fields:
                self._kept(name, str(change.fields["own"]))
            elif isinstance(change, SetFields) and "own" in change.fields:
                self._claimed(name, str(change.fields["own"]), int(change.fields["att"]))
            elif isinstance(change, SetFields) and "att" in change.fields:
                self._numbered(name, int(change.fields["att"]))
            elif isinstance(change, DeleteFields) and "own" in change.fields:
                self.state["own"].pop(name, None)

    def _put(self, slot: Slot, put: Put) -> None:
        name = (slot.name, put.name)
        if put.fields.get("own"):
            # In fused modes it may be claimed in the commit that owes it.
            self._claimed(name, str(put.fields["own"]), int(put.fields["att"]))
        elif "att" in put.fields:
            self._numbered(name, int(put.fields["att"]))

    def _claimed(self, name: tuple[str, str], owner: str, attempt: int) -> None:
        holder = self.state["own"].get(name)
        if holder:
            self._complain(f"{owner} claims {name[1]} of {name[0]} while {holder} has it")
        self.state["own"][name] = owner
        if attempt <= self.state["att"].get(name, 0):
            self._complain(f"attempt {attempt} of {name} is claimed after {self.state['att'][name]}")
        self.state["att"][name] = attempt

    def _kept(self, name: tuple[str, str], owner: str) -> None:
        """A late heartbeat writes its claim anew, and no other one."""
        if owner != (holder := self.state["own"].get(name)):
            self._complain(f"{owner} keeps {name[1]} of {name[0]}, but {holder or 'nobody'} has it")

    def _numbered(self, name: tuple[str, str], attempt: int) -> None:
        if attempt < self.state["att"].get(name, 0):
            self._complain(f"the attempts of {name} fall from {self.state['att'][name]} to {attempt}")
        self.state["att"][name] = attempt

    def _recorded(self, workflow_id: str, change: SetFields, before: Mapping[tuple[str, str], int]) -> None:
        for what in ("outputs", "context"):
            if what not in change.fields:
                continue
            number = unpack(bytes(change.fields[what])).get("by")  # type: ignore[arg-type]
            place = (workflow_id, f"{change.key} {what}")
            if self.state["by"].get(place) == number or not self._is_of(number, workflow_id, change.key):
                continue
            self.state["by"][place] = number
            self._require_newest(number, what, before)

    def _is_of(self, number: object, workflow_id: str, run_key: str) -> bool:
        """Whether an execution is of that run: what instances and inner workflows leave comes to their caller, too."""
        owner, name, _ = self.claims.get(number, ("", "", 0)) if isinstance(number, int) else ("", "", 0)
        return owner == workflow_id and name.removeprefix("Run:").rsplit(".", 2)[0] == run_key.removeprefix("r:")

    def _require_newest(self, number: int, what: str, before: Mapping[tuple[str, str], int]) -> None:
        workflow_id, name, attempt = self.claims[number]
        key = (workflow_id, f"{number} {what}")
        if self.state["recorded"].get(key):
            self._complain(f"execution {number} of {name} of {workflow_id} is recorded twice")
        self.state["recorded"][key] = True
        if before.get((workflow_id, name), attempt) != attempt:
            newest = before[workflow_id, name]
            self._complain(f"attempt {attempt} of {name} of {workflow_id} shows, though attempt {newest} has begun")


def _entry_of(slot: Slot, key: str) -> tuple[str, str] | None:
    """Return workflow and name of the RunTask entry that a key is."""
    workflow_id, _, own = key.partition(":") if slot.kind == "partition" else (slot.name, "", key)
    return (workflow_id, own.removeprefix("m:")) if own.startswith("m:Run:") else None


def _ledger_keys(slot: Slot, change: Any) -> list[str]:
    """Return the ledger names that a change writes, as the slot names them."""
    keys = change.keys if isinstance(change, Delete) else [getattr(change, "key", "")]
    if not isinstance(change, SetFields | DeleteFields | Increment | Delete):
        return []
    if slot.kind != "partition":
        return [key.removeprefix("m:") for key in keys if key.startswith("m:")]
    parts = [key.partition(":") for key in keys]
    return [f"{workflow_id}/{own.removeprefix('m:')}" for workflow_id, _, own in parts if own.startswith("m:")]


def _decided(look: Callable[..., Snapshot], workflow_id: str, handling: Handling) -> Any:
    answer = None
    while True:
        try:
            step = handling.send(answer)
        except StopIteration as stop:
            return stop.value.call
        assert isinstance(step, Read)
        answer = look(step.slot.name if step.slot else workflow_id, *step.queries)
