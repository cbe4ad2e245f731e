"""The keeper: looks after what is owed and brings back what was lost (PROTOCOL section 5). No threads, no clock."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.handler import unknown_in
from stabilize_celery.engine.places import WORKFLOW
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Delete, Fields, Hash, Look, SetFields
from stabilize_celery.errors import QueueError, UnreachableError
from stabilize_celery.runtime.contact import Contact
from stabilize_celery.runtime.flaws import UNREADABLE, read_entry
from stabilize_celery.runtime.ports import Outgoing, Publisher
from stabilize_celery.runtime.probes import Probes
from stabilize_celery.runtime.verdicts import (
    Doing,
    Found,
    Verdict,
    entry_key,
    judge,
    needs_probe_answers,
    published_again,
)
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Bury, DueEntry, Session, Store, Transaction, partition_slot
from stabilize_celery.store.errors import WrongKindError

__all__ = ["FULL_BATCH_PAUSE_MS", "Keeper", "KeeperStats"]

FULL_BATCH_PAUSE_MS = 20
"""Pause before the next look where more was due than one look takes (ms)."""
SOON_MS = 1_000
"""What is due within this time makes the keeper look often (ms)."""

logger = logging.getLogger("stabilize_celery")


@dataclass(slots=True)
class KeeperStats:
    """What a keeper has done since it was made."""

    published: int = 0
    """Messages sent for the first time since they became due."""
    again: int = 0
    """Messages sent again because they were lost."""
    reaped: int = 0
    """Claims ended because their lease ran out."""
    spared: int = 0
    """Claims left for a moment though their lease ran out: this keeper was cut off, and their worker may have been."""
    repaired: int = 0
    """Members of `due` without an entry; more than none is a bug or lost writes."""
    set_aside: int = 0
    """Corrupt entries that are dead letters now."""
    forgotten: int = 0
    """Entries of gone workflows that only a newer version would have known."""
    conflicts: int = 0
    """Transactions that lost against somebody else's."""
    probes: int = 0
    """Probes sent."""
    unpublished: int = 0
    """Messages that the broker did not take; they come round again."""


class Keeper:
    """Looks after the partitions it holds; two keepers on one partition are harmless."""

    def __init__(self, store: Store, publisher: Publisher, settings: Settings, worker_id: str) -> None:
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._worker_id = worker_id
        self._probes = Probes(worker_id)
        self._held: list[int] = []
        self._contacts: dict[int, Contact] = defaultdict(lambda: Contact(settings.lease_ms))
        self._came_back: Mapping[str, int] | None = None
        self.lease_ms = settings.lease_ms * 2 // 3
        """Life of a partition's lease; to be renewed every third of it. Shorter than a task's lease, so that what a
        dead worker has left is looked after by another one when its tasks fall due."""
        self.stats = KeeperStats()

    @property
    def held(self) -> tuple[int, ...]:
        """The partitions looked after since the last `renew`."""
        return tuple(self._held)

    def renew(self) -> None:
        """Take or renew the leases on all partitions that nobody else looks after.

        Raises:
            UnreachableError: Redis is away.

        """
        partitions = range(self._store.partitions())
        self._held, times = self._store.take_leases(self._worker_id, partitions, self.lease_ms)
        for partition, now_ms in times.items():
            self._contacts[partition].seen(now_ms)

    def leave_out(self, for_ms: int) -> None:
        """Be as if rounds had been done for so long (ms): for simulations, which leave out those that find nothing."""
        for contact in self._contacts.values():
            contact.seen_meanwhile(for_ms)

    def give_back(self) -> None:
        """Give up all leases, for another keeper to take at once.

        Raises:
            UnreachableError: Redis is away.

        """
        held, self._held = self._held, []
        if held:
            self._store.give_leases_back(self._worker_id, held)

    def tick(self) -> int:
        """Do one round over the held partitions; return when to do the next (ms from now).

        Raises:
            UnreachableError: Redis is away; what was not reached is still due. Of a cluster, no node answers, or one
                went away amid the round, which looked at all others.

        """
        if not self._held:
            return self._settings.keeper_idle_ms
        limit = self._settings.keeper_batch
        self._came_back = None
        now_ms, due = self._store.first_due(self._held, limit, partly=True)
        ripe = {partition: [e for e in entries if e.due_ms <= now_ms] for partition, entries in due.items()}
        self._look_at_all((partition, entries) for partition, entries in ripe.items() if entries)
        if any(len(entries) >= limit for entries in ripe.values()):
            return FULL_BATCH_PAUSE_MS
        is_busy = any(entries and entries[0].due_ms <= now_ms + SOON_MS for entries in due.values())
        return self._settings.keeper_busy_ms if is_busy else self._settings.keeper_idle_ms

    def _look_at_all(self, ripe: Iterable[tuple[int, Sequence[DueEntry]]]) -> None:
        """Look at each partition; what fails in one does not hold up the others, and is raised after them."""
        failures: list[Exception] = []
        for partition, entries in ripe:
            try:
                self._look(partition, entries)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
                failures.append(error)
        if failures:
            raise failures[0]

    def _look(self, partition: int, entries: Sequence[DueEntry]) -> None:
        """Look at entries; on a conflict by halves. A single entry in conflict is left: somebody is at it."""
        try:
            is_done = self._commit(partition, entries)
        except (WrongKindError, UnicodeDecodeError) as error:
            # Where an entry should be is something else; only alone does it show which.
            is_done = len(entries) == 1 and self._replace(partition, entries[0], error)
        if is_done:
            return
        self.stats.conflicts += 1
        if len(entries) > 1:
            middle = len(entries) // 2
            self._look(partition, entries[:middle])
            self._look(partition, entries[middle:])

    def _commit(self, partition: int, entries: Sequence[DueEntry]) -> bool:
        """Read, judge, commit and publish; False: a conflict, nothing was done."""
        with self._store.session(partition_slot(partition)) as session:
            found, now_ms = _read(session, entries)
            contact = self._contacts[partition]
            contact.seen(now_ms)
            came_back = self._probes_back() if any(map(needs_probe_answers, found)) else {}
            verdicts = self._judged(found, now_ms, came_back, contact)
            if self._probe(verdicts, now_ms, came_back):
                verdicts = self._judged(found, now_ms, came_back, contact)
            transaction = Transaction(
                tuple(change for _, verdict in verdicts for change in verdict.changes),
                tuple(change for _, verdict in verdicts for change in verdict.ledger),
            )
            if not transaction.ledger:
                return True
            if session.commit(transaction) is None:
                return False
        self._after_commit(verdicts)
        return True

    def _judged(
        self, found: Sequence[Found], now_ms: int, came_back: Mapping[str, int], contact: Contact
    ) -> list[tuple[Found, Verdict]]:
        def verdict(item: Found) -> Verdict:
            counts_from_ms = self._probes.counts_from_ms(self._queue(item), now_ms)
            return judge(item, now_ms, came_back, self._settings, contact.vouches_from_ms, counts_from_ms)

        return [(item, verdict(item)) for item in found]

    def _probe(self, verdicts: Sequence[tuple[Found, Verdict]], now_ms: int, came_back: Mapping[str, int]) -> bool:
        """Send the probes that are wanted; True: the broker takes something again, or no more, which changes ages."""
        waiting = {self._queue(found) for found, verdict in verdicts if verdict.doing is Doing.LOOK_LATER}
        ages = {queue: self._probes.counts_from_ms(queue, now_ms) for queue in waiting}
        for queue in sorted(waiting):
            if probe := self._probes.wanted(queue, now_ms, came_back.get(queue, 0)):
                self.stats.probes += 1
                if self._published([probe]):
                    self._probes.taken(queue, now_ms)
        return any(age != self._probes.counts_from_ms(queue, now_ms) for queue, age in ages.items())

    def _published(self, batch: Sequence[Outgoing]) -> bool:
        """Publish; False: the broker does not take it, or not all. The scores move all the same: it comes again."""
        try:
            self._publisher.publish(batch)
        except QueueError:
            self.stats.unpublished += len(batch)
            self._probes.refused(message.queue for message in batch)
            return False
        return True

    def _probes_back(self) -> Mapping[str, int]:
        """Return which probes had come back when this round first asked.

        They are kept on one node. While that one is away nobody knows of any: what was published is looked at later.
        """
        if self._came_back is None:
            try:
                self._came_back = self._store.probes()
            except UnreachableError:
                self._came_back = {}
        return self._came_back

    def _replace(self, partition: int, due: DueEntry, error: Exception) -> bool:
        """Make a dead letter of what is no entry at all; what stood there is gone, the reason stands in its place."""
        key = entry_key(due.workflow_id, due.name)
        told = f"the ledger entry {due.name} of workflow {due.workflow_id} is corrupt: {error}"
        fields = {**ENTRY.encode(t=UNREADABLE, error=told), "a": pack({})}
        with self._store.session(partition_slot(partition)) as session:
            now_ms = session.read((), (key,)).now_ms
            aside = Bury(f"{due.workflow_id}/{due.name}", now_ms)
            is_done = session.commit(Transaction((Delete((key,)), SetFields(key, fields)), (aside,))) is not None
        self.stats.set_aside += is_done
        if is_done:
            logger.error("set aside as a dead letter: %s", told)
        return is_done

    def _after_commit(self, verdicts: Sequence[tuple[Found, Verdict]]) -> None:
        self._count(verdicts)
        batch = [published_again(found, self._queue(found)) for found, verdict in verdicts if verdict.publishes]
        if batch:
            self._published(batch)

    def _count(self, verdicts: Sequence[tuple[Found, Verdict]]) -> None:
        for found, verdict in verdicts:
            self.stats.published += verdict.doing is Doing.PUBLISH
            self.stats.again += verdict.doing is Doing.AGAIN
            self.stats.reaped += verdict.doing is Doing.REAP
            self.stats.spared += verdict.doing is Doing.SPARE
            self.stats.repaired += verdict.doing is Doing.REPAIR
            self.stats.forgotten += verdict.doing is Doing.FORGET
            self.stats.set_aside += verdict.doing is Doing.SET_ASIDE
            if verdict.doing is Doing.SET_ASIDE and found.flawed:
                logger.error("set aside as a dead letter: %s", found.flawed.told)

    def _queue(self, found: Found) -> str:
        return found.entry.q or self._settings.control_queue


def _read(session: Session, entries: Sequence[DueEntry]) -> tuple[list[Found], int]:
    hashes = [Hash(entry_key(e.workflow_id, e.name)) for e in entries]
    look = Look(tuple(f"{e.workflow_id}/{e.name}" for e in entries))
    snapshot = session.read((*hashes, look), tuple(query.key for query in hashes))
    due: Mapping[str, int] = snapshot[look]
    found = []
    for e, query, member in zip(entries, hashes, look.names, strict=True):
        entry, flawed = read_entry(e.workflow_id, e.name, snapshot.hash(query.key))
        found.append(Found(e.workflow_id, e.name, entry, due.get(member), flawed))
    return _orphans_marked(session, found), snapshot.now_ms


def _orphans_marked(session: Session, found: list[Found]) -> list[Found]:
    """Mark what no worker of this version would ever forget, though its workflow is gone; one more look, if any is."""
    strange = {item.workflow_id for item in found if _is_strange(item)}
    if not strange:
        return found
    records = {name: Fields(f"{name}:{WORKFLOW}", ("status",)) for name in sorted(strange)}
    snapshot = session.read(tuple(records.values()), tuple(query.key for query in records.values()))
    gone = {name for name, query in records.items() if snapshot[query].get("status", b"GONE") == b"GONE"}
    return [replace(item, is_orphan=item.workflow_id in gone and _is_strange(item)) for item in found]


def _is_strange(item: Found) -> bool:
    return item.entry.exists and item.flawed is None and bool(unknown_in(item.entry))
