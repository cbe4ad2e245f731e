"""A story that can be damaged, and mended by the repair sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.state import RUN
from stabilize_celery.engine.steps import (
    Change,
    Hash,
    Items,
    Members,
    SetFields,
    Slot,
    lock_slot,
    workflow_slot,
)
from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.survey import survey
from stabilize_celery.runtime.sweep import ROUND_MS, Sweep
from stabilize_celery.store.contract import LedgerChange, Transaction
from tests.simulation.stories import CALM, Story, stage

MOVERS = ("Start:", "Run:", "Done:", "Continue:", "Inst:", "Lock:", "Child:", "ChildDone:", "Settle")
"""Kinds of entries without which a live run, or its workflow, would stand still for ever."""


class Clinic(Story):
    """A story that can be damaged, and mended."""

    def __init__(self, seed: int = 0, **more: Any) -> None:
        super().__init__(seed, **more)
        simulation = self.simulation
        self.sweep = Sweep(simulation.store, simulation, simulation.settings)
        self.clock_ms = 0

    def swept(self) -> list[Finding]:
        """One round of the sweep over every workflow that runs."""
        found: list[Finding] = []
        self.clock_ms += ROUND_MS
        for _ in range(20):
            found += self.sweep.step(range(self.simulation.store.partitions()), self.clock_ms)
        return found

    def surveyed(self, *, mends: bool = False) -> list[Finding]:
        simulation = self.simulation
        return survey(simulation.store, simulation, simulation.settings, mends=mends)

    def write(self, *changes: Change, ledger: Iterable[LedgerChange] = (), slot: Slot | None = None) -> None:
        with self.simulation.store.session(slot or workflow_slot(self.id)) as session:
            assert session.commit(Transaction(changes, tuple(ledger))) is not None

    def owed(self, *kinds: str) -> list[str]:
        names = {name for workflow_id, name in self.simulation.store.owed() if workflow_id == self.id}
        return sorted(name for name in names if name.startswith(kinds or ("",)))

    def run_of(self, ref_id: str) -> tuple[str, Any]:
        store = self.simulation.store
        live = Members(places.LIVE)
        for thread in sorted(store.look(workflow_slot(self.id), (live,))[live]):
            key = Hash(places.run(thread))
            run = RUN.decode(store.look(workflow_slot(self.id), (key,))[key])
            if run.ref == ref_id:
                return thread, run
        raise AssertionError(f"no run of {ref_id} is live")

    def run_until(self, *kinds: str) -> str:
        """Go on until something of a kind is owed; return its name."""
        for _ in range(10_000):
            if found := self.owed(*kinds):
                return found[0]
            if not self.simulation.step():
                break
        raise AssertionError(f"nothing of {kinds} was ever owed")

    def recovered(self) -> Clinic:
        """Go on with a sweep now and then, as the keeper makes it."""
        for _ in range(6):
            self.simulation.run(self.id)
            if self.workflow.status.is_complete:
                break
            self.swept()
        return self


def clinic(seed: int = 0, faults: Any = CALM) -> Clinic:
    return Clinic(seed, faults=faults)


def gate(ref_id: str, *after: str, **more: Any) -> Any:
    """A stage that waits for the signal `go`."""
    return stage(ref_id, *after, does="approval", context={"signal": "go"}, **more)


def shapes() -> dict[str, Callable[[], list[Any]]]:
    """Workflows whose runs wait in every way that there is."""
    return {
        "chain": lambda: [stage("a"), stage("b", "a", does=["work", "work"]), stage("c", "b")],
        "diamond": lambda: [stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c")],
        "mutex": lambda: [stage("a", mutex_key="k"), stage("b", mutex_key="k")],
        "section": lambda: [
            stage("a", mutex_key="k", mutex_section="s"),
            stage("b", "a", mutex_key="k", mutex_section="s"),
        ],
        "around": around,
    }


def around() -> list[Any]:
    main = stage("main")
    before = stage("before", synthetic_stage_owner=SyntheticStageOwner.STAGE_BEFORE, parent_stage_id=main.id)
    after = stage("after", synthetic_stage_owner=SyntheticStageOwner.STAGE_AFTER, parent_stage_id=main.id)
    return [main, before, after]


def holding(patient: Clinic, owner: str, *, lock: str = "GLOBAL:k") -> None:
    patient.write(SetFields("h", {owner: 5}), SetFields("meta", {"limit": 1, "last": 5}), slot=lock_slot(lock))


def threads(patient: Clinic, ref_id: str) -> list[str]:
    started = Items(places.started(ref_id))
    found: list[str] = patient.simulation.store.look(workflow_slot(patient.id), (started,))[started]
    return found
