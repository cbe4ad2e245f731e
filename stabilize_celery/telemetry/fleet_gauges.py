"""Numbers of a whole namespace, read from its state: the same wherever they are asked for."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Fields, Query
from stabilize_celery.errors import EngineError, QueueError
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.runtime.verdicts import entry_key
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import DueEntry, Store, partition_slot
from stabilize_celery.telemetry.tally import Count

__all__ = ["FleetGauges"]

logger = logging.getLogger(__name__)

_SAMPLE = 50
"""Entries of each partition that wait, of which the oldest is told (count)."""
_MOST = 3_200
"""Entries of each partition that are looked through for those: what runs stands among what waits (count)."""
_KEEP_S = 2.0
"""Scrapes within this time get the same answer (s)."""
_KEEP_LOCKS_S = 60.0
"""Locks are found by a walk over all keys: seldom (s)."""
_WORK = frozenset({"Begin", "Start", "Run", "Done", "Eval", "Continue"})
"""How the names of messages begin that wait for nothing but a worker, once they are due."""

Lengths = Callable[[Sequence[str]], Mapping[str, int]]


class FleetGauges:
    """Reads the numbers.

    Args:
        lengths: Returns how many messages wait in each of these queues; may raise QueueError.
        walks: Whether to look for locks: a walk over all keys, which a worker's user of Redis may not do.

    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        lengths: Lengths,
        *,
        walks: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._settings = settings
        self._lengths = lengths
        self._walks = walks
        self._clock = clock
        self._until = self._locks_until = 0.0
        self._gauges: list[Count] = []
        self._locks: list[Count] = []

    def read(self) -> list[Count]:
        """Return name, labels and value of every gauge; while Redis is away, or refuses, only that it is."""
        if self._clock() >= self._until:
            try:
                self._gauges = [("stabilize_up", (), 1.0), *self._read()]
            except EngineError as error:
                # What this process counts itself is shown all the same.
                logger.warning("metrics of the namespace can't be read: %s", error)
                self._gauges = [("stabilize_up", (), 0.0)]
            self._until = self._clock() + _KEEP_S
        return self._gauges

    def _read(self) -> Iterable[Count]:
        store = self._store
        statuses, dead = store.counts()
        yield from (("stabilize_workflows", (status,), float(count)) for status, count in sorted(statuses.items()))
        yield "stabilize_dead_letters", (), float(dead)
        now_ms, due = store.first_due(range(store.partitions()), _SAMPLE)
        first = min((entries[0].due_ms for entries in due.values() if entries), default=now_ms)
        yield "stabilize_overdue_seconds", (), max(0.0, (now_ms - first) / 1000)
        yield "stabilize_oldest_owed_seconds", (), self._oldest_s(now_ms, due)
        yield from self._fleet(now_ms)
        if self._walks:
            yield from self._waiting_for_locks(now_ms)

    def _fleet(self, now_ms: int) -> Iterable[Count]:
        settings = self._settings
        live = Fleet(self._store.fleet(), now_ms).live
        yield "stabilize_workers", (), float(len(live))
        listens = [name for worker in live for name in worker.queues]
        queues = sorted(
            {settings.control_queue, settings.work_queue, *settings.task_queues.values()}.union(
                name for name in listens if name.startswith(f"{settings.namespace}.")
            )
        )
        yield from (("stabilize_consumers", (queue,), float(listens.count(queue))) for queue in queues)
        try:
            lengths = self._lengths(queues)
        except QueueError:
            return
        yield from (("stabilize_queue_length", (queue,), float(length)) for queue, length in lengths.items())

    def _oldest_s(self, now_ms: int, due: Mapping[int, Sequence[DueEntry]]) -> float:
        """Return the age of the oldest message that waits for a worker (s).

        One that was published stands in `due` with the time of the next look at it: the longer it has waited, the later
        that is. So names tell what to read, not times. Where most of the first ones run, more are read.
        """
        waiting: dict[int, dict[Query, int]] = {number: {} for number in due}
        limit = _SAMPLE
        while due:
            for number, query, since_ms in self._waiting(due):
                if since_ms <= now_ms:
                    waiting[number][query] = since_ms
            full = [number for number, entries in due.items() if len(entries) >= limit]
            limit *= 4
            more = [number for number in full if len(waiting[number]) < _SAMPLE] if limit <= _MOST else []
            due = self._store.first_due(more, limit)[1] if more else {}
        return (now_ms - min((since for found in waiting.values() for since in found.values()), default=now_ms)) / 1000

    def _waiting(self, due: Mapping[int, Sequence[DueEntry]]) -> Iterator[tuple[int, Query, int]]:
        """Yield the partition of each entry that waits for a worker, what was read of it, and since when (ms)."""
        asked = {
            number: [_fields(entry) for entry in entries if entry.name.partition(":")[0] in _WORK]
            for number, entries in due.items()
        }
        numbers = [number for number, queries in asked.items() if queries]
        snapshots = self._store.look_many([(partition_slot(number), asked[number]) for number in numbers])
        for number, snapshot in zip(numbers, snapshots, strict=True):
            for query, found in snapshot.answers():
                entry = ENTRY.decode(found)
                since_ms = entry.nb or entry.pub
                if not entry.own and not entry.parked and since_ms:
                    yield number, query, since_ms

    def _waiting_for_locks(self, now_ms: int) -> list[Count]:
        if self._clock() >= self._locks_until:
            waiting = [since_ms for lock in self._store.locks() for _, since_ms in lock.waiters]
            self._locks = [
                ("stabilize_mutex_waiters", (), float(len(waiting))),
                ("stabilize_mutex_longest_wait_seconds", (), max(0.0, (now_ms - min(waiting, default=now_ms)) / 1000)),
            ]
            self._locks_until = self._clock() + _KEEP_LOCKS_S
        return self._locks


def _fields(entry: DueEntry) -> Query:
    return Fields(entry_key(entry.workflow_id, entry.name), ("nb", "pub", "own", "parked"))
