"""A transaction as commands, all of them checked before the first is sent."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any, NoReturn, TypeAlias

from stabilize_celery.engine.state import Entry, Run, WorkflowRecord
from stabilize_celery.engine.steps import (
    Add,
    Append,
    Change,
    Delete,
    DeleteFields,
    Expire,
    Increment,
    Index,
    Rank,
    Remove,
    SetFields,
    Unrank,
    Value,
)
from stabilize_celery.store import keys
from stabilize_celery.store.addresses import Address
from stabilize_celery.store.contract import Bury, Drop, Due, LedgerChange, Peek, Post, Put, Take, Transaction
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.event_stream import entries_of
from stabilize_celery.store.queries import int_of, list_of, popped_of
from stabilize_celery.store.values import MAX_SCORE, name_of, number_of, score_of, value_of
from stabilize_celery.store.wire import Command, Refused, Reply

__all__ = ["Plan", "plan"]

_COUNTED = (Increment, Append)
"""Changes whose reply is their result."""
_JOINING = (SetFields, Add)
"""Changes of which several of one key are one command."""
_Single: TypeAlias = Append | Delete | DeleteFields | Expire | Increment | Index | Rank | Remove | Unrank
"""Changes that have commands of their own."""


@dataclass(slots=True)
class Plan:
    """The commands of one EXEC; for each change, which reply is its result (None: it has none)."""

    commands: list[Command] = field(default_factory=list)
    places: list[int | None] = field(default_factory=list)
    beside: list[tuple[int, Take | Peek]] = field(default_factory=list)
    """Which replies are no change's, and who takes note of them."""

    def results(self, reply: Reply) -> list[int | None]:
        """Return one result per change from EXEC's reply.

        Raises:
            StoreError: a command failed inside EXEC; what stands beside it was written all the same.

        """
        replies = list_of(reply)
        for at, told in self.beside:
            # That nothing could be taken, or seen, is no reason to doubt what was written.
            replies = [*replies[:at], None, *replies[at + 1 :]] if _note(told, replies[at]) else replies
        if Refused in map(type, replies):
            self._tell(replies)
        return [None if place is None else int_of(replies[place]) for place in self.places]

    def _tell(self, replies: Sequence[Reply]) -> NoReturn:
        command, text = next(
            (command, answer.text)
            for command, answer in zip(self.commands, replies, strict=True)
            if isinstance(answer, Refused)
        )
        raise StoreError(
            f"{command[0]!s} {command[1]!s} failed inside EXEC ({text}); the rest of that transaction "
            "was written. A key holds something else than this version expects"
        )


def _note(beside: Take | Peek, reply: Reply) -> bool:
    """Take note of a reply; return whether it may be what looks like a failure."""
    if isinstance(beside, Peek):
        beside.waiting = reply if isinstance(reply, int) else None
    elif isinstance(reply, list):
        beside.taken = popped_of(reply)
    return isinstance(reply, Refused)


def plan(address: Address, transaction: Transaction) -> Plan:
    """Return what to send for `transaction`: changes, ledger, events, in this order, in as few commands as will do.

    Raises:
        StoreError: a value, name or number can't be stored, or the slot has no such thing.

    """
    planned = Plan()
    commands = planned.commands
    _plan_changes(planned, address, transaction.changes)
    if transaction.ledger:
        _plan_ledger(commands, address, transaction.ledger)
    if transaction.events:
        address.of_workflow()
        stream = keys.events(address.prefix)
        commands += [("XADD", stream, "*", *told) for told in _told(transaction.events)]
    _plan_lists(planned, transaction)
    return planned


def _plan_lists(planned: Plan, transaction: Transaction) -> None:
    """Add commands of the broker's lists, which may be in another database: there, and back at the end."""
    asked: list[tuple[Command, Post | Take | Peek]] = [
        (("LPUSH", post.queue, *post.payloads), post) for post in transaction.posts
    ]
    if (take := transaction.take) is not None:
        asked.append((("BRPOP", *take.lists, _NO_WAIT), take))
    peeks = (take.others if take is not None else None, transaction.peek)
    asked += [(("EXISTS", *peek.lists), peek) for peek in peeks if peek is not None]
    if not asked:
        return
    commands, (_, home) = planned.commands, asked[0][1].databases
    here = home
    for command, told in asked:
        if told.databases[0] != here:
            here = told.databases[0]
            commands.append(("SELECT", here))
        if not isinstance(told, Post):
            planned.beside.append((len(commands), told))
        commands.append(command)
    if here != home:
        commands.append(("SELECT", home))


def _told(events: Sequence[Mapping[str, Value]]) -> list[list[bytes | str | int]]:
    try:
        return [_flat(entry, "an event") for entry in entries_of(events)]
    except (ValueError, TypeError, OverflowError):
        # Which value it is, one by one: the first of them raises.
        for event in events:
            _flat(event, "an event")
        raise


_NO_WAIT = "0.001"
"""Inside EXEC nothing waits, whatever a command says."""


def _plan_changes(planned: Plan, address: Address, changes: Sequence[Change]) -> None:
    """Add commands of changes.

    What is set of a hash joins the HSET that it has, and what comes into a set its SADD, if nothing else came between.
    """
    joined: dict[str, list[SetFields | Add]] = {}
    begun: list[tuple[int, list[SetFields | Add]]] = []
    commands, places = planned.commands, planned.places
    for change in changes:
        places.append(len(commands) if type(change) in _COUNTED else None)
        if not isinstance(change, _JOINING):
            for key in change.keys if isinstance(change, Delete) else (getattr(change, "key", ""),):
                joined.pop(key, None)
            commands += _change(address, change)
        elif (together := joined.get(change.key)) is not None:
            together.append(change)
        elif change.fields if isinstance(change, SetFields) else change.members:
            joined[change.key] = together = [change]
            begun.append((len(commands), together))
            commands.append(())
    for at, together in begun:
        commands[at] = _together(address, together)


def _together(address: Address, changes: Sequence[SetFields | Add]) -> Command:
    """Return the command of changes of one key that set fields, or add members."""
    key = changes[0].key
    hashes = [change.fields for change in changes if isinstance(change, SetFields)]
    if hashes:
        fields = hashes[0] if len(hashes) == 1 else {name: value for one in hashes for name, value in one.items()}
        return ("HSET", address.key(key), *_flat(fields, key))
    members = chain.from_iterable(change.members for change in changes if isinstance(change, Add))
    return ("SADD", address.key(key), *_names(members, f"a member of {key}"))


def _change(address: Address, change: _Single) -> Iterable[Command]:  # noqa: PLR0911 - one row per kind
    match change:
        case Increment(key, name, by):
            step = number_of(by, f"the increment of {key}.{name}")
            return (("HINCRBY", address.key(key), name_of(name, f"a field of {key}"), step),)
        case Remove(key, members):
            return (("SREM", address.key(key), *_names(members, f"a member of {key}")),) if members else ()
        case Append(key, item):
            return (("RPUSH", address.key(key), name_of(item, f"an item of {key}")),)
        case DeleteFields(key, fields):
            return (("HDEL", address.key(key), *_names(fields, f"a field of {key}")),) if fields else ()
        case Delete(logical):
            return (("UNLINK", *map(address.key, logical)),) if logical else ()
        case Rank(key, member, score, if_absent):
            options = ("NX",) if if_absent else ()
            place = score_of(score, f"the score of {member!r} in {key}")
            return (("ZADD", address.key(key), *options, place, name_of(member, f"a member of {key}")),)
        case Unrank(key, member):
            return (("ZREM", address.key(key), name_of(member, f"a member of {key}")),)
        case Expire(key, ttl_ms):
            return (_expire(address.key(key), number_of(ttl_ms, f"the time to live of {key}")),)
        case Index():
            return _index(address, change)


def _plan_ledger(commands: list[Command], address: Address, changes: Sequence[LedgerChange]) -> None:
    """Add commands of ledger changes, in order; neighbours of one kind share theirs."""
    partition = address.of_partition()
    due, buried = keys.due(partition), keys.buried(partition)
    revived: dict[str, None] = {}
    for kind, group in groupby(changes, type):
        together = list(group)
        members = [address.entry(change.name) for change in together]
        names = [member for _, member in members]
        if kind is Put:
            commands += _puts(together, members, due)  # type: ignore[arg-type]  # groupby keeps no types
        elif kind is Drop:
            commands.append(("UNLINK", *[entry for entry, _ in members]))
            commands.append(("ZREM", due, *names))
        elif kind is Due:
            commands += _dues(together, names, due)  # type: ignore[arg-type]
        else:
            commands.append(("ZREM", due, *names))
        if kind is Bury:
            scores = [score_of(change.at_ms, f"at_ms of {change.name!r}") for change in together]  # type: ignore[union-attr]
            commands.append(("ZADD", buried, *chain.from_iterable(zip(scores, names, strict=True))))
            for name in names:
                revived.pop(name, None)
        else:
            revived |= {name: None for change, name in zip(together, names, strict=True) if _may_revive(change)}
    if revived:
        commands.append(("ZREM", buried, *revived))


def _may_revive(change: LedgerChange) -> bool:
    """Return whether a change takes its entry out of the dead letters, if it is one."""
    match change:
        case Put() | Drop():
            return not change.is_well
        case Due():
            return not (change.is_well or change.only_if_due)
    return False


def _puts(changes: Sequence[Put], members: Sequence[tuple[str, str]], due: str) -> list[Command]:
    commands: list[Command] = []
    moved: list[bytes | str | int] = []
    kept: list[bytes | str | int] = []
    for put, (entry, member) in zip(changes, members, strict=True):
        if not put.fields:
            raise StoreError(f"ledger entry {put.name!r} has no fields; nothing was written")
        commands.append(("HSET", entry, *_flat(put.fields, "a ledger entry")))
        (kept if put.keep_earlier else moved).extend((_due_of(put), member))
    if moved:
        commands.append(("ZADD", due, *moved))
    if kept:
        commands.append(("ZADD", due, "LT", *kept))
    return commands


def _due_of(change: Put | Due) -> str:
    """Return when an entry is due, as a score; text is made for people only where it is needed."""
    at_ms = change.due_ms
    is_plain = type(at_ms) is int and 0 <= at_ms <= MAX_SCORE
    return str(at_ms) if is_plain else score_of(at_ms, f"due_ms of {change.name!r}")


def _dues(changes: Sequence[Due], names: Sequence[str], due: str) -> Iterator[Command]:
    scored: dict[bool, list[str]] = {}
    for change, member in zip(changes, names, strict=True):
        scored.setdefault(change.only_if_due, []).extend((_due_of(change), member))
    for only_if_due, pairs in scored.items():
        yield ("ZADD", due, *(("XX",) if only_if_due else ()), *pairs)


def _index(address: Address, index: Index) -> Iterator[Command]:
    partition, workflow_id = address.of_workflow()
    if index.status is None:
        for key in (*_constant_indexes(address, index), *_status_indexes(partition), *_states(partition)):
            yield ("ZREM", key, workflow_id)
        return
    if index.status not in keys.STATUSES:
        raise StoreError(f"workflow {workflow_id}: status {index.status!r} is none of {', '.join(keys.STATUSES)}")
    started = score_of(index.started_ms, "started_ms")
    for key in () if index.was else _constant_indexes(address, index):
        yield ("ZADD", key, started, workflow_id)
    yield ("ZADD", keys.index_status(partition, index.status), started, workflow_id)
    for key in _left_behind(partition, index):
        yield ("ZREM", key, workflow_id)
    if index.ended_ms == 0:
        yield ("ZADD", keys.running(partition), started, workflow_id)
    else:
        yield ("ZADD", keys.ended(partition), score_of(index.ended_ms, "ended_ms"), workflow_id)


def _constant_indexes(address: Address, index: Index) -> Sequence[str]:
    """Return the indexes that a workflow is in from its beginning to the end of its retention."""
    partition, workflow_id = address.of_workflow()
    for text, what in ((index.application, "application"), (index.workflow_name, "name")):
        value_of(text, f"the {what} of workflow {workflow_id}")
    return (
        keys.index_every(partition),
        keys.index_application(partition, index.application),
        keys.index_name(partition, index.workflow_name),
    )


def _left_behind(partition: str, index: Index) -> Iterator[str]:
    """Yield the indexes that a workflow leaves: what it was listed by, or all that it might be if nobody looked."""
    if index.was != "":
        yield keys.ended(partition) if index.ended_ms == 0 else keys.running(partition)
    for status in keys.STATUSES if index.was is None else filter(None, (index.was,)):
        if status != index.status:
            yield keys.index_status(partition, status)


def _status_indexes(partition: str) -> Iterator[str]:
    return (keys.index_status(partition, status) for status in keys.STATUSES)


def _states(partition: str) -> Sequence[str]:
    return keys.running(partition), keys.ended(partition)


def _expire(key: str, ttl_ms: int) -> Command:
    if ttl_ms < 0:
        raise StoreError(f"the time to live of {key} is {ttl_ms} ms; use 0 to keep it for ever, Delete to remove it")
    return ("PEXPIRE", key, ttl_ms) if ttl_ms else ("PERSIST", key)


def _flat(fields: Mapping[str, Value], what: str) -> list[bytes | str | int]:
    if not fields:
        raise StoreError(f"{what} has no fields; nothing was written")
    flat: list[bytes | str | int] = []
    given: Mapping[str, Any] = fields
    for name, value in given.items():
        # Nearly all are plain; what is not is looked at closely.
        kind = type(value)
        if (name in _COMMON or name_of(name, f"a field of {what}")) and (
            kind is bytes or (value.isascii() if kind is str else kind is int and -_LARGE < value < _LARGE)
        ):
            flat += (name, value)
        else:
            flat += (name, value_of(value, f"{what}.{name}"))
    return flat


_COMMON = frozenset(name for record in (WorkflowRecord, Run, Entry) for name in record.__struct_fields__) | frozenset(
    {"kind", "ref", "at", "data", "all"}
)
"""Names of fields that are written all the time."""


_LARGE = 2**62
"""Whole numbers beyond are looked at closely."""


def _names(names: Iterable[str], what: str) -> list[str]:
    return [name_of(name, what) for name in names]
