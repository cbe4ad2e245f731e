"""What waits in vain: messages in queues that no running worker listens on, tasks of types that none knows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.state import ENTRY, Entry
from stabilize_celery.engine.steps import Fields
from stabilize_celery.errors import PayloadError
from stabilize_celery.models.messages import RunTask
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.runtime.lanes import queue_and_step
from stabilize_celery.runtime.rates import RATE_LIMIT
from stabilize_celery.runtime.verdicts import entry_key
from stabilize_celery.store.contract import DueEntry, Store, partition_slot

__all__ = ["Unattended", "unattended"]

_AT_ONCE = 1_000
"""Ledger entries that are read in one round trip (count)."""
_ALL = 1_000_000
_NEEDED = ("t", "v", "a", "nb", "pub", "q", "own", "parked")


@dataclass(frozen=True, slots=True)
class Unattended:
    """How many messages wait in vain, by queue, and how many tasks by their type."""

    by_queue: Counter[str] = field(default_factory=Counter)
    by_type: Counter[str] = field(default_factory=Counter)


def unattended(store: Store, fleet: Fleet) -> Unattended:
    """Return what waits in vain, by what is owed: that tells every queue, also one that only a producer has named.

    Raises:
        UnreachableError: the state server is away.

    """
    found = Unattended()
    for number in range(store.partitions()):
        now_ms, due = store.first_due([number], _ALL)
        entries = due[number]
        for first in range(0, len(entries), _AT_ONCE):
            for workflow_id, entry in _read(store, number, entries[first : first + _AT_ONCE]):
                # What rests for want of a worker that knows it is to be looked at again later, as are retries.
                if not entry.own and (entry.parked or entry.nb <= now_ms):
                    _count(found, fleet, workflow_id, entry)
    return found


def _read(store: Store, number: int, entries: Sequence[DueEntry]) -> Iterator[tuple[str, Entry]]:
    queries = {Fields(entry_key(one.workflow_id, one.name), _NEEDED): one.workflow_id for one in entries}
    try:
        (snapshot,) = store.look_many([(partition_slot(number), tuple(queries))])
        read = [(workflow_id, ENTRY.decode(snapshot[query])) for query, workflow_id in queries.items()]
    except PayloadError:
        # That it can't be read here is another check's to tell.
        return
    yield from read


def _count(found: Unattended, fleet: Fleet, workflow_id: str, entry: Entry) -> None:
    queue, _ = queue_and_step(entry.q)
    if entry.pub and not entry.parked and not fleet.listening(queue):
        found.by_queue[queue] += 1
        return
    message = message_of(entry, workflow_id)
    if isinstance(message, RunTask) and not fleet.knows(message.task_type) and not entry.parked.startswith(RATE_LIMIT):
        found.by_type[message.task_type] += 1
