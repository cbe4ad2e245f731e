"""Leases of running task attempts: heartbeats, lost children, hand-back at shutdown (PROTOCOL section 4.1)."""

from collections import defaultdict
from collections.abc import Sequence

from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Change, DeleteFields, Fields, Hash, Increment, Look, SetFields, workflow_slot
from stabilize_celery.errors import QueueError
from stabilize_celery.runtime.apart import for_each
from stabilize_celery.runtime.ports import Claim, Publisher
from stabilize_celery.runtime.verdicts import Found, entry_key, published_again
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Due, Session, Store, Transaction, partition_slot

__all__ = ["Leases", "is_owned_by"]


def is_owned_by(own: str, owner: str) -> bool:
    """Return whether the claim text `own` is of `owner`: the same text, or begun by it (`owner` is a worker's id)."""
    return bool(own) and own.startswith(owner) and not own[len(owner) : len(owner) + 1].isalnum()


class Leases:
    """What one worker does about the claims of its processes.

    A claim's `owner` may be the whole text in the ledger, or the worker's (or process') id that it begins with: a
    main process doesn't know what its children wrote behind it.
    """

    def __init__(self, store: Store, publisher: Publisher, settings: Settings, worker_id: str) -> None:
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._worker_id = worker_id

    def extend(self, claims: Sequence[Claim]) -> list[Claim]:
        """Extend the leases of `claims` by `lease_ms` from now; return those that are not (or no longer) ours.

        One transaction per partition. Where others' commits win every time, the lease stands until the next call.

        Raises:
            UnreachableError: Redis is away, or a node of it; leases that were not reached run on.

        """
        by_partition: dict[int, list[Claim]] = defaultdict(list)
        for claim in claims:
            by_partition[self._store.partition_of(claim.workflow_id)].append(claim)
        found = for_each(lambda own: self._extend_in(*own), sorted(by_partition.items()))
        return [foreign for foreigners in found for foreign in foreigners]

    def report_lost(self, workflow_id: str, name: str, owner: str, died: str = "") -> bool:
        """Take back a claim whose process has died (of what), counted as lost, and publish; False: not `owner`'s."""
        lost = (SetFields(ledger(name), {"died": died}), Increment(ledger(name), "lost", 1))
        return self._release(workflow_id, name, owner, lost)

    def hand_back(self, workflow_id: str, name: str, owner: str) -> bool:
        """Give up a claim at shutdown, not counted as lost, and publish; False: it is not `owner`'s."""
        return self._release(workflow_id, name, owner)

    def _extend_in(self, partition: int, claims: list[Claim]) -> list[Claim]:
        foreign: list[Claim] = []
        with self._store.session(partition_slot(partition)) as session:
            for _ in range(self._settings.commit_tries):
                ours, now_ms = _ours(session, claims)
                foreign = [claim for claim in claims if claim not in ours]
                until = now_ms + self._settings.lease_ms
                renewals = [Due(_member(claim), until, only_if_due=True) for claim in ours]
                # A lease of which little is left may run out before this is written, and a keeper then reads it: that
                # one WATCHes the entry, not its time, so the entry is touched. In time it is not: a body's result, too,
                # is decided on an entry that nobody has touched.
                late_ms = now_ms + self._settings.lease_ms // 3
                touched = [_claimed_anew(claim, own) for claim, (own, due_ms) in ours.items() if due_ms <= late_ms]
                if not renewals or session.commit(Transaction(touched, renewals)) is not None:
                    break
        return foreign

    def _release(self, workflow_id: str, name: str, owner: str, more: Sequence[Change] = ()) -> bool:
        key = ledger(name)
        found = None
        with self._store.session(workflow_slot(workflow_id)) as session:
            for _ in range(self._settings.commit_tries):
                snapshot = session.read((Hash(key),), (key,))
                entry = ENTRY.decode(snapshot.hash(key))
                if not is_owned_by(entry.own, owner):
                    return False
                changes = (DeleteFields(key, ("own",)), SetFields(key, {"pub": 0}), *more)
                # Published right below; if that fails, the keeper sees that it never was and does it then.
                due = Due(name, snapshot.now_ms + self._settings.republish_ms, only_if_due=True)
                if session.commit(Transaction(changes, (due,))) is not None:
                    found = Found(workflow_id, name, entry, due.due_ms)
                    break
        if found is None:
            return False
        self._publish(found)
        return True

    def _publish(self, found: Found) -> None:
        queue = found.entry.q or self._settings.work_queue
        try:
            self._publisher.publish([published_again(found, queue)])
        except QueueError:
            return


def _ours(session: Session, claims: Sequence[Claim]) -> tuple[dict[Claim, tuple[str, int]], int]:
    """Return which claims are ours, with the text of each in the ledger and the end of its lease; and the time."""
    queries = [Fields(_key(claim), ("own",)) for claim in claims]
    look = Look(tuple(map(_member, claims)))
    snapshot = session.read((*queries, look), [query.key for query in queries])
    owners = [snapshot[query].get("own", b"").decode() for query in queries]
    due = snapshot[look]
    ours = {
        claim: (own, due.get(_member(claim), snapshot.now_ms))
        for claim, own in zip(claims, owners, strict=True)
        if is_owned_by(own, claim.owner)
    }
    return ours, snapshot.now_ms


def _claimed_anew(claim: Claim, own: str) -> SetFields:
    return SetFields(_key(claim), {"own": own})


def _key(claim: Claim) -> str:
    return entry_key(claim.workflow_id, claim.name)


def _member(claim: Claim) -> str:
    return f"{claim.workflow_id}/{claim.name}"
