"""The language between handlers and whoever runs them: reads, writes, decisions.

A handler is a generator (docs/decisions/006): it yields `Read`, `Commit` or `Plan` and gets the answer; what it
returns is the `Decision` for its own workflow. It never touches a store, so the same handler runs against Redis,
against the memory store, and in a simulator that stops it between any two steps.

Keys are logical (engine/places.py); a store puts the slot's prefix before them. Values of hash fields are stored as
Redis would: text, whole numbers in decimal, or bytes; they are read back as bytes.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

from stabilize_celery.models.messages import Message

__all__ = [
    "Add",
    "Append",
    "Change",
    "Commit",
    "Count",
    "Decision",
    "Delete",
    "DeleteFields",
    "Event",
    "Expire",
    "Fields",
    "Handling",
    "Hash",
    "Increment",
    "Index",
    "Items",
    "Look",
    "Members",
    "Owed",
    "PartlyReadable",
    "Plan",
    "Position",
    "Query",
    "Rank",
    "Ranked",
    "Read",
    "Remove",
    "SetFields",
    "Slot",
    "Snapshot",
    "UndeclaredReadError",
    "Unrank",
    "always",
    "drive",
    "lock_slot",
    "readable",
    "workflow_slot",
]

Value: TypeAlias = str | int | bytes
R = TypeVar("R")


class Slot(msgspec.Struct, frozen=True):
    """All keys that one transaction may touch: those of a workflow, or those of a lock."""

    kind: str
    """`workflow` or `lock`."""
    name: str


def workflow_slot(workflow_id: str) -> Slot:
    """Return the slot of a workflow."""
    return Slot("workflow", workflow_id)


def lock_slot(lock: str) -> Slot:
    """Return the slot of a lock, by its full name `SCOPE:key`."""
    return Slot("lock", lock)


# -- queries -----------------------------------------------------------------------------------------------------------


class Hash(msgspec.Struct, frozen=True, cache_hash=True):
    """A whole hash. Answer: dict of field name to bytes; empty if absent."""

    key: str


class Fields(msgspec.Struct, frozen=True, cache_hash=True):
    """Some fields of a hash. Answer: dict of the fields that exist."""

    key: str
    fields: tuple[str, ...]


class Members(msgspec.Struct, frozen=True):
    """A set. Answer: set of text."""

    key: str


class Items(msgspec.Struct, frozen=True):
    """A list. Answer: list of text, first first."""

    key: str


class Position(msgspec.Struct, frozen=True):
    """The index of `item` in a list. Answer: int from 0, or None."""

    key: str
    item: str


class Count(msgspec.Struct, frozen=True):
    """How many members a set has. Answer: int."""

    key: str


class Ranked(msgspec.Struct, frozen=True):
    """The first `limit` members of a sorted set (all if 0). Answer: list of (member, score), lowest score first."""

    key: str
    limit: int = 0


class Look(msgspec.Struct, frozen=True):
    """When each ledger name is due. Answer: dict of name to its time in ms, for those that are in `due`."""

    names: tuple[str, ...]
    key: str = "due"


Query: TypeAlias = Hash | Fields | Members | Items | Position | Count | Ranked | Look


# -- changes -----------------------------------------------------------------------------------------------------------


class SetFields(msgspec.Struct, frozen=True):
    """HSET."""

    key: str
    fields: Mapping[str, Value]


class DeleteFields(msgspec.Struct, frozen=True):
    """HDEL."""

    key: str
    fields: tuple[str, ...]


class Increment(msgspec.Struct, frozen=True):
    """HINCRBY. Result: the new value."""

    key: str
    field: str
    by: int


class Delete(msgspec.Struct, frozen=True):
    """UNLINK."""

    keys: tuple[str, ...]


class Add(msgspec.Struct, frozen=True):
    """SADD."""

    key: str
    members: tuple[str, ...]


class Remove(msgspec.Struct, frozen=True):
    """SREM."""

    key: str
    members: tuple[str, ...]


class Append(msgspec.Struct, frozen=True):
    """RPUSH. Result: the new length."""

    key: str
    item: str


class Rank(msgspec.Struct, frozen=True):
    """ZADD; with `if_absent`, ZADD NX."""

    key: str
    member: str
    score: float
    if_absent: bool = False


class Unrank(msgspec.Struct, frozen=True):
    """ZREM."""

    key: str
    member: str


class Expire(msgspec.Struct, frozen=True):
    """PEXPIRE of a key; `ttl_ms` 0 means PERSIST."""

    key: str
    ttl_ms: int


class Index(msgspec.Struct, frozen=True):
    """Where listings find a workflow: in by `status` (None: out of all listings).

    The store keeps one sorted set by start time for everything, and one each per application, name and status, plus
    the set of those that run and the set of those that ended (`ended_ms` not 0).
    """

    application: str
    workflow_name: str
    started_ms: int
    status: str | None
    ended_ms: int = 0
    was: str | None = None
    """The status that it is listed by until now, read under WATCH; empty: it is new. None: nobody looked."""


Change: TypeAlias = (
    SetFields | DeleteFields | Increment | Delete | Add | Remove | Append | Rank | Unrank | Expire | Index
)


def always(_results: Sequence[int | None]) -> bool:
    """Publish at once, whatever the results are."""
    return True


class Owed(msgspec.Struct, frozen=True):
    """A message written to the ledger and to `due` (OWE, or OWE? for a merge message).

    `publish`: decides from the results of the decision's changes (one per change, in order; None where a change has
    none) whether to publish at once; a message that is not published is only later: the keeper brings it back.
    `not_before_ms`: 0 means now.
    """

    message: Message
    not_before_ms: int = 0
    publish: Callable[[Sequence[int | None]], bool] = always
    fields: Mapping[str, Value] = {}
    """More fields of the ledger entry, e.g. `att`, `tries`."""
    queue: str = ""
    """Where to publish it, if that was decided before; else the settings say."""


class Event(msgspec.Struct, frozen=True):
    """One line of a workflow's history. `data`: short, JSON."""

    kind: str
    ref_id: str = ""
    data: Mapping[str, Any] = {}


class Decision(msgspec.Struct):
    """Everything that one EXEC writes. Order of writing: changes, forgotten entries, owed entries, events."""

    changes: list[Change] = []
    forgets: list[str] = []
    owes: list[Owed] = []
    nudges: list[Message] = []
    """Entries of this slot that exist (read and WATCHed) and are made due now and published."""
    defers: dict[str, int] = {}
    """Ledger name to the time (ms) of the next look at it; the entry stays."""
    parks: list[str] = []
    """Ledger names that leave `due` but keep their entry (paused: they are in the set `pk`)."""
    events: list[Event] = []
    keeps_entry: bool = False
    """The handled message's own entry stays owed; else it is forgotten in the same EXEC."""
    note: str = ""
    """For the log: why it was decided so."""
    call: Any = None
    """What the caller gets once it is committed: the task that is claimed, the answer to an outside event, …"""
    priority: int | None = None
    """Of the workflow that it creates; None: it creates none."""

    def change(self, change: Change) -> int:
        """Add a change; return its position, to find its result by."""
        self.changes.append(change)
        return len(self.changes) - 1

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write (the own entry aside)."""
        return not (
            self.changes or self.forgets or self.owes or self.nudges or self.defers or self.parks or self.events
        )


# -- steps of a handler ------------------------------------------------------------------------------------------------


class Read(msgspec.Struct, frozen=True):
    """WATCH and read in one round trip, with the time of that slot's server. Watches add up until the commit."""

    queries: tuple[Query, ...]
    watch: tuple[str, ...] = ()
    slot: Slot | None = None
    """None: the workflow of the message."""


class Commit(msgspec.Struct, frozen=True):
    """EXEC in `slot` what was decided on reads of that slot. A conflict restarts the whole handler."""

    decision: Decision
    slot: Slot


class Plan(msgspec.Struct, frozen=True):
    """Ask user code: the stage builders for the work of a stage, or a task how long it may take.

    See runtime/planning.py, runtime/attempts.py, runtime/claiming.py.
    """

    phase: str
    """`start` or `failure` of a stage; `timeout` of the task that is about to be executed."""
    frame: Any
    """The run, as engine/moves.Frame."""


class PartlyReadable(Mapping[str, bytes]):
    """A hash with values that can't be opened here: who takes one gets the error; all others are as in any hash.

    Args:
        fields: What can be read.
        closed: By field, why it can't be.

    """

    __slots__ = ("_closed", "fields")

    def __init__(self, fields: Mapping[str, bytes], closed: Mapping[str, Exception]) -> None:
        self.fields = fields
        self._closed = closed

    def __getitem__(self, name: str) -> bytes:
        if name in self._closed:
            raise self._closed[name]
        return self.fields[name]

    def __contains__(self, name: object) -> bool:
        return name in self.fields or name in self._closed

    def __iter__(self) -> Iterator[str]:
        yield from self.fields
        yield from self._closed

    def __len__(self) -> int:
        return len(self.fields) + len(self._closed)


def readable(fields: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return a hash without what can't be opened here, for those who need not know it, or end what nobody can read."""
    return fields.fields if isinstance(fields, PartlyReadable) else fields


class UndeclaredReadError(Exception):
    """A handler asked a snapshot for something that it did not read."""


class Snapshot:
    """What a `Read` answered. Asking for anything else raises `UndeclaredReadError`."""

    __slots__ = ("_answers", "_made", "_records", "now_us")

    _answers: Mapping[Query, Any]

    def __init__(self, answers: Mapping[Query, Any], now_us: int, records: dict[str, Any] | None = None) -> None:
        """Keep answers. `records`: hashes that are decoded already, by key; those that are asked for are added."""
        self._answers = answers
        self._records: dict[str, Any] = {} if records is None else records
        self._made: dict[str, Any] = {}
        self.now_us = now_us

    @property
    def now_ms(self) -> int:
        """Time of the slot's server, in ms."""
        return self.now_us // 1000

    def __getitem__(self, query: Query) -> Any:
        try:
            return self._answers[query]
        except KeyError:
            raise UndeclaredReadError(f"{query} was not declared in the handler's reads") from None

    def get(self, query: Query, default: Any) -> Any:
        """Return the answer to a query that may not have been asked."""
        return self._answers.get(query, default)

    def answers(self) -> Iterable[tuple[Query, Any]]:
        """Return all queries with their answers."""
        return self._answers.items()

    def hash(self, key: str) -> Mapping[str, bytes]:
        """Return a whole hash; empty if absent."""
        found: Mapping[str, bytes] = self[Hash(key)]
        return found

    def record(self, key: str, decode: Callable[[Mapping[str, bytes]], R]) -> R:
        """Return a whole hash as `decode` reads it, once per key: always give the same one for a key."""
        found: R | None = self._records.get(key)
        if found is None:
            found = self._records[key] = decode(self[Hash(key)])
        return found

    def once(self, name: str, make: Callable[[], R]) -> R:
        """Return what `make` made of this snapshot the first time; `name` is always for the same thing."""
        found: R | None = self._made.get(name)
        if found is None:
            found = self._made[name] = make()
        return found

    def of_readable(self) -> "Snapshot":
        """Return the same without values that can't be opened here: for those who only look on."""
        parts = {query: readable(a) for query, a in self._answers.items() if isinstance(a, PartlyReadable)}
        return Snapshot({**self._answers, **parts}, self.now_us) if parts else self

    def later(self, by_us: int) -> "Snapshot":
        """Return the same answers at a later time: nothing of them has changed, or the commit will fail."""
        return Snapshot(self._answers, self.now_us + by_us)

    def and_known(self, answers: Mapping[Query, Any]) -> "Snapshot":
        """Return a snapshot that also answers what need not be read."""
        return Snapshot({**self._answers, **answers}, self.now_us)

    def merged(self, other: "Snapshot") -> "Snapshot":
        """Return a snapshot that answers for both; the later reading's time counts."""
        return Snapshot({**self._answers, **other._answers}, other.now_us)  # noqa: SLF001 - its own class


Handling: TypeAlias = Generator[Read | Commit | Plan, Any, Decision]
"""A handler at work: yields steps, returns the decision for its own workflow."""


def drive(handling: Handling, answer: Callable[[Read | Commit | Plan], Any]) -> Decision:
    """Run a handler to its decision; what `answer` raises about a step ends it."""
    given: Any = None
    while True:
        try:
            step = handling.send(given)
        except StopIteration as stop:
            decision: Decision = stop.value
            return decision
        given = answer(step)
