"""Inspects workflows, ledger entries and locks; proves what looks wrong, and mends it (PROTOCOL 11).

First many are looked at in a few round trips, without locks: who looks wrong there is only suspected. Each suspect is
then inspected alone, with WATCH on all that is read: what is found again was so at one moment, and is mended in the
EXEC that proves it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from stabilize_celery.engine.steps import Handling, Hash, Ranked, lock_slot, workflow_slot
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.inspection import Scope, inspect, inspect_entries
from stabilize_celery.runtime.lock_audit import audit_owner
from stabilize_celery.runtime.lookover import LookedOver, Subject, look_over
from stabilize_celery.runtime.ports import Publisher
from stabilize_celery.runtime.sessions import Sessions
from stabilize_celery.runtime.unit import Conflict, UnitOfWork
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store, Transaction

__all__ = ["Mender"]

_FIRST_IN_LINE = 10
"""How many waiters of a lock are looked at unless all are asked for (count)."""


@dataclass(frozen=True, slots=True)
class Mender:
    """Looks for what no commit would have left; `mends`: and mends it, else only tells."""

    store: Store
    publisher: Publisher
    settings: Settings
    mends: bool

    def workflows(self, workflow_ids: Iterable[str], scope: Scope) -> tuple[list[Finding], set[str]]:
        """Inspect workflows; return what was found, and the names of all locks that they wait for.

        Raises:
            UnreachableError: the state server is away.

        """

        def inspection(subject: Subject) -> Handling:
            return inspect(subject.workflow_id, self.settings.lease_ms, scope)

        seen, findings = self._inspected(map(Subject, workflow_ids), inspection)
        return findings, {lock for inspected in seen.found.values() for lock in inspected.locks}

    def entries(self, names: Mapping[str, Sequence[str]]) -> list[Finding]:
        """Inspect ledger entries, given by workflow: whether anybody would ever look at them.

        Raises:
            UnreachableError: the state server is away.

        """

        def inspection(subject: Subject) -> Handling:
            return inspect_entries(subject.workflow_id, self.settings.lease_ms, names[subject.workflow_id])

        return self._inspected(map(Subject, names), inspection)[1]

    def waited_for(self, locks: Iterable[str]) -> list[Finding]:
        """Inspect who holds these locks, and who waits for them in the first places. Raises as `workflows`."""
        line, names = Ranked("q", _FIRST_IN_LINE), sorted(locks)
        asked = [(lock_slot(name), (Hash("h"), line)) for name in names]
        owners: dict[str, str] = {}
        for name, state in zip(names, self.store.look_many(asked) if asked else (), strict=True):
            owners |= dict.fromkeys((*state[Hash("h")], *(member for member, _ in state[line])), name)
        return self.owners(owners)

    def owners(self, owners: Mapping[str, str]) -> list[Finding]:
        """Inspect who stands in a lock, given as owner to lock. Raises as `workflows`."""
        subjects = [Subject(owner.partition("/")[0], owner) for owner in owners]
        return self._inspected(
            subjects,
            lambda subject: audit_owner(owners[subject.name], subject.name, mends=False),
            lambda subject: audit_owner(owners[subject.name], subject.name, mends=self.mends),
        )[1]

    def _inspected(
        self,
        subjects: Iterable[Subject],
        inspection: Callable[[Subject], Handling],
        alone: Callable[[Subject], Handling] | None = None,
    ) -> tuple[LookedOver, list[Finding]]:
        seen = look_over(self.store, {subject: inspection(subject) for subject in subjects})
        findings = list(seen.failures)
        for subject in seen.suspects:
            findings += self._proven(subject, alone or inspection)
        return seen, findings

    def _proven(self, subject: Subject, inspection: Callable[[Subject], Handling]) -> list[Finding]:
        """Return what is found under WATCH; nothing where others commit in between every time: that does not stand."""
        slot = workflow_slot(subject.workflow_id)
        unit = UnitOfWork(self.store, self.publisher, self.settings, lambda _: {}, lambda _: None)
        for _ in range(self.settings.commit_tries):
            with ExitStack() as stack:
                sessions = Sessions(self.store, stack)
                try:
                    decision = unit.drive(inspection(subject), slot, sessions)
                    found: Sequence[Finding] = decision.call.findings
                    if found and self.mends and not decision.is_empty:
                        unit.commit(decision, slot, sessions, None)
                    elif found and sessions.of(slot).commit(Transaction()) is None:
                        continue
                except Conflict:
                    continue
            return [replace(one, is_mended=self.mends and bool(one.mends)) for one in found]
        return []
