"""What every store must do: the law that the memory store and the Redis store sit the same exam for.

A store keeps hashes, sets, lists, sorted sets and streams per slot, a ledger of owed messages per workflow, and one
`due` set per partition. A `Session` is WATCH, reads, and one EXEC on one slot (PROTOCOL sections 1, 4, 5).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import msgspec

from stabilize_celery.engine.steps import Change, Query, Slot, Snapshot, Value
from stabilize_celery.models.limits import DEFAULT_PRIORITY

__all__ = [
    "Bury",
    "Drop",
    "Due",
    "DueEntry",
    "Filter",
    "Group",
    "Kind",
    "LedgerChange",
    "Listed",
    "LockState",
    "Page",
    "Peek",
    "Post",
    "Put",
    "Session",
    "Store",
    "StoredEvent",
    "Take",
    "Transaction",
    "Undue",
    "partition_slot",
]


def partition_slot(partition: int) -> Slot:
    """Return the slot of a whole partition: keys `<workflow id>:<logical key>`, ledger names `<workflow id>/<name>`."""
    return Slot("partition", str(partition))


class Put(msgspec.Struct, frozen=True):
    """HSET m:<name> and ZADD due. `keep_earlier`: never later than it is due already (merge messages, ZADD LT).

    `is_well`, also below: the entry is known to be no dead letter. Else its name leaves those.
    """

    name: str
    fields: Mapping[str, Value]
    due_ms: int
    keep_earlier: bool = False
    is_well: bool = False


class Drop(msgspec.Struct, frozen=True):
    """DEL m:<name>, ZREM due (and from the dead letters)."""

    name: str
    is_well: bool = False


class Due(msgspec.Struct, frozen=True):
    """ZADD due of an entry that exists; with `only_if_due`, ZADD XX."""

    name: str
    due_ms: int
    only_if_due: bool = False
    is_well: bool = False


class Undue(msgspec.Struct, frozen=True):
    """ZREM due; the entry stays (parked, or buried)."""

    name: str


class Bury(msgspec.Struct, frozen=True):
    """ZREM due, ZADD dead with its time (ms): a dead letter. The entry stays."""

    name: str
    at_ms: int


Kind: TypeAlias = Literal["running", "ended"]
"""An index of a partition: workflows that have not ended, by start; or those that have, by end."""

LedgerChange: TypeAlias = Put | Drop | Due | Undue | Bury


class Post(msgspec.Struct, frozen=True):
    """LPUSH of broker messages, where the broker is the same server: they are sent if, and when, all else is written.

    Args:
        queue: The list's whole key, which is no key of ours.
        databases: Number of the broker's database, and of our own.

    """

    queue: str
    payloads: Sequence[str]
    databases: tuple[int, int] = (0, 0)


class Peek(msgspec.Struct):
    """EXISTS of the broker's lists after all else was written, where the broker is the same server.

    Args:
        lists: Whole keys of lists.
        databases: As of a `Post`.
        waiting: How many of them have anything, once that is known.

    """

    lists: Sequence[str]
    databases: tuple[int, int] = (0, 0)
    waiting: int | None = None

    @property
    def nothing_waits(self) -> bool:
        """Whether all are known to be empty."""
        return self.waiting == 0


class Take(msgspec.Struct):
    """BRPOP of a broker message after all else was written, where the broker is the same server; it does not wait.

    Args:
        lists: Whole keys of lists: what has been there for longest comes off the first that has anything.
        databases: As of a `Post`.
        others: What is looked at behind it.
        taken: The list and what came off it, once that is done. If the answer is lost, so is what was taken.

    """

    lists: Sequence[str]
    databases: tuple[int, int] = (0, 0)
    others: Peek | None = None
    taken: tuple[str, bytes] | None = None


class Transaction(msgspec.Struct, frozen=True):
    """One EXEC, in this order: changes, ledger, events (flat mappings, together in `ev`), posts, take, peek."""

    changes: Sequence[Change] = ()
    ledger: Sequence[LedgerChange] = ()
    events: Sequence[Mapping[str, Value]] = ()
    posts: Sequence[Post] = ()
    take: Take | None = None
    peek: Peek | None = None


class Session(Protocol):
    """WATCH, reads and one EXEC on one slot. Not shared between threads."""

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        """WATCH the keys (before reading), answer the queries, take TIME: one round trip. Watches add up."""
        ...

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        """EXEC. The results of the changes, one each; None: a watched key moved, or the answer was lost.

        Afterwards the session watches nothing. Every change is validated before MULTI: nothing half written.
        """
        ...

    def commit_and_read(
        self, transaction: Transaction, queries: Sequence[Query], watch: Sequence[str] = ()
    ) -> tuple[list[int | None], Snapshot] | None:
        """`commit`, then `read`, in one round trip. None as in `commit` (then nothing is watched)."""
        ...


class Group(Protocol):
    """WATCH, reads and one EXEC on several slots of one server. Not shared between threads."""

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> list[Snapshot] | None:
        """WATCH and read the same of each slot: one round trip. None: there are large values, to be read one by one."""
        ...

    def commit(self, transactions: Sequence[Transaction]) -> list[list[int | None]] | None:
        """EXEC of a transaction for each slot, all or none; the results as of `Session.commit`."""
        ...


@dataclass(frozen=True, slots=True)
class DueEntry:
    """A member of a partition's `due` set."""

    workflow_id: str
    name: str
    due_ms: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which workflows to list; None means any."""

    application: str | None = None
    name: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of a listing. Times in epoch ms."""

    id: str
    application: str
    name: str
    status: str
    started_ms: int
    ended_ms: int | None
    priority: int = DEFAULT_PRIORITY


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, newest first; `cursor` None at the end."""

    items: list[Listed]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of a workflow's stream. `id`, `<ms>-<n>`, says where it stands (store/event_stream.py)."""

    id: str
    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class LockState:
    """A lock with its holders (owner to fencing token) and waiters (owner, since when in ms), first first."""

    name: str
    limit: int
    holders: Mapping[str, int]
    waiters: Sequence[tuple[str, int]] = field(default_factory=tuple)


class Store(Protocol):
    """State of one namespace."""

    @property
    def newest_key(self) -> str:
        """Name of the key that payloads are encrypted with from now on; empty: they are not encrypted."""
        ...

    def partition_of(self, workflow_id: str) -> int:
        """Return the partition of a workflow: crc16(id) mod the namespace's number of partitions."""
        ...

    def partitions(self) -> int:
        """Return the namespace's number of partitions (written once per namespace)."""
        ...

    def session(self, slot: Slot) -> AbstractContextManager[Session]:
        """Check a connection out for one unit of work; what is still watched at the end is unwatched."""
        ...

    def groups(self, slots: Sequence[Slot]) -> list[list[Slot]]:
        """Return the slots in groups that one EXEC can span: all in one but on a cluster, where keys lie apart."""
        ...

    def group(self, slots: Sequence[Slot]) -> AbstractContextManager[Group]:
        """Check a connection out for one unit of work on all slots of a group."""
        ...

    # -- the keeper's and the fleet's side ---------------------------------------------------------------------------

    def first_due(
        self, partitions: Sequence[int], limit: int, *, partly: bool = False
    ) -> tuple[int, dict[int, list[DueEntry]]]:
        """Return the server's time (ms) and the first `limit` entries of each partition's `due`, in one round trip.

        Members that are no ledger names, which somebody else wrote, are taken out: nobody could handle them.
        `partly`: partitions on a node that does not answer are left out, as long as another one does.
        """
        ...

    def indexed(self, kind: Kind, first: Mapping[int, int], limit: int) -> dict[int, list[str]]:
        """Return up to `limit` workflow ids per partition, oldest first, from rank `first[partition]` on: one trip."""
        ...

    def owed(self) -> Iterator[tuple[str, str]]:
        """Yield (workflow id, ledger name) of every entry there is; one may come twice. Reads all keys: for repair."""
        ...

    def take_leases(self, owner: str, partitions: Sequence[int], ttl_ms: int) -> tuple[list[int], dict[int, int]]:
        """Take or renew the keeper's lease on each partition, in one round trip.

        Return those that `owner` holds now, and the time (ms) of each partition's server. A partition on a node that
        does not answer is in neither, as long as another node does.
        """
        ...

    def give_leases_back(self, owner: str, partitions: Sequence[int]) -> None:
        """Give up leases that `owner` holds; those on a node that does not answer stand, as long as another does."""
        ...

    def announce(self, worker: str, fields: Mapping[str, Value], now_alive: Iterable[str] = ()) -> None:
        """Write a worker's line of the fleet registry, with the server's time as `seen`; drop those older than 60 s.

        Existing lines in `now_alive` count as seen now, too.
        """
        ...

    def retire(self, worker: str) -> None:
        """Remove a worker's line."""
        ...

    def fleet(self) -> dict[str, dict[str, bytes]]:
        """Return the lines of all workers seen in the last 60 s, by worker id; each has `seen` (ms)."""
        ...

    def probe_came_back(self, queue: str, sent_ms: int) -> None:
        """Remember that a probe sent at `sent_ms` came back through `queue` (only grows)."""
        ...

    def probes(self) -> dict[str, int]:
        """Return the newest probe that came back, per queue (ms)."""
        ...

    # -- reading -------------------------------------------------------------------------------------------------------

    def time_ms(self) -> int:
        """Return the server's time."""
        ...

    def look(self, slot: Slot, queries: Sequence[Query], *, without_payloads: bool = False) -> Snapshot:
        """Read without WATCH, in one round trip; one more for large values.

        `without_payloads`: fields of hashes that `places.is_payload` names are absent where their values are large
        enough to be kept apart: nothing of them is fetched.
        """
        ...

    def look_many(
        self, requests: Sequence[tuple[Slot, Sequence[Query]]], *, without_payloads: bool = False
    ) -> list[Snapshot]:
        """Read several slots, each as `look` does; one round trip on a single server."""
        ...

    def listing(self, wanted: Filter, limit: int, cursor: str | None) -> Page:
        """Return workflows, newest first, over all partitions."""
        ...

    def events(self, workflow_id: str, after: str, block_ms: int | None, limit: int) -> list[StoredEvent]:
        """Return events after the stream id `after` ("0": from the beginning); waits up to `block_ms` for the first."""
        ...

    def first_events(
        self, partition: int, after: Mapping[str, str], listener: str, block_ms: int, limit: int
    ) -> dict[str, list[StoredEvent]]:
        """Return new events of workflows of one partition, by workflow id; waits for the first, or for the bell.

        Args:
            partition: Where all of them are.
            after: Workflow id to the stream id after which events are new.
            listener: Whose bell ends the wait.
            block_ms: How long it waits at most (ms).
            limit: At most so many events of each (count).

        """
        ...

    def ring(self, partition: int, listener: str) -> None:
        """End the `first_events` of a listener: the one that waits now, else the next one."""
        ...

    def locks(self) -> list[LockState]:
        """Return every lock that is held or waited for."""
        ...

    def dead_letters(self) -> list[DueEntry]:
        """Return all buried entries, with the time of their burial as `due_ms`."""
        ...

    def counts(self) -> tuple[dict[str, int], int]:
        """Return how many workflows are listed in each status that any is in, and how many dead letters there are."""
        ...

    def health(self) -> dict[str, str]:
        """Return what `doctor` looks at: redis_version, appendonly, appendfsync, maxmemory_policy, ping_ms, url.

        The URL is without its password.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
