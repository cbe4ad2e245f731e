"""The store, written once in commands; what carries them out is a `Wire` (Redis, or memory)."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import msgpack

from stabilize_celery.engine.steps import Query, Slot, Snapshot, Value, workflow_slot
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.settings import MAX_PARTITIONS, check_namespace
from stabilize_celery.store import keys
from stabilize_celery.store.addresses import Address, address_of
from stabilize_celery.store.contract import DueEntry, Filter, Group, Kind, LockState, Page, Session, StoredEvent
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.event_stream import events_of, reading_from, stands_behind
from stabilize_celery.store.listing import Listing
from stabilize_celery.store.queries import bytes_of, int_of, list_of, pairs_of, scored, text_of, time_us, whole
from stabilize_celery.store.session import (
    READ_TRIES,
    PackedGroup,
    PackedSession,
    Reading,
    lost_blob,
    refusal,
    refuses_writes,
    unreachable,
)
from stabilize_celery.store.values import name_of, number_of, score_of, value_of
from stabilize_celery.store.vault import PLAIN, Vault
from stabilize_celery.store.wire import MAX_BLOCK_MS, Batch, Command, LinkLostError, Refused, Reply, Wire

__all__ = ["FLEET_MEMORY_MS", "CommandStore"]

FLEET_MEMORY_MS = 60_000
"""How long a worker that was not heard of stays in the fleet registry (ms)."""

logger = logging.getLogger(__name__)

_BELL_MS = 60_000
"""How long the bell of a listener that has died stays (ms)."""

_SETTINGS = ("appendonly", "appendfsync", "maxmemory-policy")


class CommandStore:
    """State of one namespace. `round_trips` counts packed sends of this process."""

    def __init__(self, wire: Wire, namespace: str, partitions: int, vault: Vault = PLAIN) -> None:
        self._vault = vault
        if not 1 <= partitions <= MAX_PARTITIONS:
            raise ConfigurationError(f"{partitions} partitions: use 1 to {MAX_PARTITIONS}")
        self.namespace = check_namespace(namespace)
        self._wire = wire
        self._new_partitions = partitions
        self._partition_count = 0
        self._other_count: Reply = None
        """What was found in place of it, and told."""
        self._believed_leases: set[tuple[str, int]] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._wire.url!r}, namespace={self.namespace!r})"

    @property
    def round_trips(self) -> int:
        """Packed sends so far, in this process."""
        return self._wire.round_trips

    def partition_of(self, workflow_id: str) -> int:
        """Return the partition of a workflow."""
        return keys.partition_of(workflow_id, self.partitions())

    @property
    def newest_key(self) -> str:
        """Name of the key that payloads are encrypted with from now on; empty: they are not encrypted."""
        return self._vault.newest_key

    def partitions(self) -> int:
        """Return the namespace's number of partitions; the first client of a namespace writes it, for ever."""
        if not self._partition_count:
            key = keys.partitions(self.namespace)
            (stored,) = self._one(key, ("GET", key))
            if stored is None:
                # Not asked of those who only look: they may not write, and find a namespace that is there.
                _, stored = self._one(key, ("SET", key, self._new_partitions, "NX"), ("GET", key))
            self._partition_count = _partition_count(key, bytes_of(stored))
        return self._partition_count

    def session(self, slot: Slot) -> AbstractContextManager[Session]:
        """Check a connection out for one unit of work; what is still watched at the end is unwatched."""
        return PackedSession(self._wire, self._address(slot), self._vault)

    def groups(self, slots: Sequence[Slot]) -> list[list[Slot]]:
        """Return the slots in groups that one EXEC can span: all in one but on a cluster, where keys lie apart."""
        if not self._wire.is_sharded:
            return [list(slots)] if slots else []
        found: dict[str, list[Slot]] = {}
        for slot in slots:
            address = self._address(slot)
            found.setdefault(address.partition or address.prefix, []).append(slot)
        return list(found.values())

    def group(self, slots: Sequence[Slot]) -> AbstractContextManager[Group]:
        """Check a connection out for one unit of work on all slots of a group."""
        return PackedGroup(self._wire, [self._address(slot) for slot in slots], self._vault)

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    # -- the keeper's side ---------------------------------------------------------------------------------------------

    def first_due(
        self, partitions: Sequence[int], limit: int, *, partly: bool = False
    ) -> tuple[int, dict[int, list[DueEntry]]]:
        """Return the server's time (ms) and the first `limit` entries of each partition's `due`."""
        count = keys.partitions(self.namespace)
        batches = [Batch(count, [("TIME",), ("GET", count)])]
        for number in partitions:
            key = keys.due(self._prefix(number))
            batches.append(Batch(key, [("ZRANGE", key, 0, limit - 1, "WITHSCORES")] if limit > 0 else []))
        time, *answers = self._reached(batches) if partly else self._gather(batches)
        entries: dict[int, list[DueEntry]] = {}
        for number, answer in zip(partitions, answers, strict=True):
            if answer is None:
                continue
            entries[number], strays = _ledger_names(answer)
            if strays:
                key = keys.due(self._prefix(number))
                self._one(key, ("ZREM", key, *strays))
                logger.error("taken out of %s, no ledger names: %.500r", key, strays)
        if time is None:
            # The node that all others take the time from is away: then that of any other must do.
            time = self._one(keys.due(self._prefix(next(iter(entries)))), ("TIME",))
        else:
            self._hold_on_to_count(time[1])
        return time_us(time[0]) // 1000, entries

    def _hold_on_to_count(self, stored: Reply) -> None:
        """Write the number of partitions back where it was lost: keys lie where this process computes them to be."""
        key, count = keys.partitions(self.namespace), self.partitions()
        if stored is None:
            logger.error(
                "%s was lost, with all else that Redis has lost (FLUSHALL? restarted without a log?): now %d again",
                key, count,
            )  # fmt: skip
            self._one(key, ("SET", key, count, "NX"))
        elif bytes_of(stored) != b"%d" % count and stored != self._other_count:
            self._other_count = stored
            logger.error(
                "%s is %s now, and this process counts %d: they look for workflows in different places. Stop what has "
                "written it since Redis lost its data (STABILIZE_PARTITIONS differs there?), and restart the workers",
                key, bytes_of(stored).decode(errors="replace"), count,
            )  # fmt: skip

    def indexed(self, kind: Kind, first: Mapping[int, int], limit: int) -> dict[int, list[str]]:
        """Return up to `limit` workflow ids per partition, oldest first, from rank `first[partition]` on."""
        index = {"running": keys.running, "ended": keys.ended}[kind]
        batches = []
        for number, rank in first.items():
            key = index(self._prefix(number))
            batches.append(Batch(key, [("ZRANGE", key, rank, rank + limit - 1, "WITHSCORES")]))
        answers = self._gather(batches)
        return {number: [name for name, _ in scored(ids)] for number, (ids,) in zip(first, answers, strict=True)}

    def owed(self) -> Iterator[tuple[str, str]]:
        """Yield (workflow id, ledger name) of every entry there is; one may come twice."""
        try:
            for key in self._wire.scan(keys.entry_pattern(self.namespace)):
                workflow_id, _, name = keys.entry_name(self.namespace, key.decode(errors="replace")).partition("/")
                if name:
                    yield workflow_id, name
        except LinkLostError as lost:
            raise unreachable(self._wire, lost) from None

    def take_leases(self, owner: str, partitions: Sequence[int], ttl_ms: int) -> tuple[list[int], dict[int, int]]:
        """Take or renew the keeper's lease on each partition; return those that `owner` holds now, and all times."""
        name_of(owner, "lease owner")
        batches = [Batch(self._lease(number), self._take(owner, number, ttl_ms)) for number in partitions]
        held, times = [], {}
        for number, replies in zip(partitions, self._reached(batches), strict=True):
            if replies is not None:
                times[number] = time_us(replies[0]) // 1000
            if replies is not None and replies[-1] == owner.encode():
                held.append(number)
                self._believed_leases.add((owner, number))
            else:
                self._believed_leases.discard((owner, number))
        return held, times

    def _take(self, owner: str, number: int, ttl_ms: int) -> list[Command]:
        key = self._lease(number)
        commands: list[Command] = [("TIME",), ("SET", key, owner, "NX", "PX", ttl_ms), ("GET", key)]
        if (owner, number) in self._believed_leases:
            # Should it be another's by now, that one's lease lives a little longer: harmless, and no second trip.
            commands.insert(2, ("PEXPIRE", key, ttl_ms))
        return commands

    def give_leases_back(self, owner: str, partitions: Sequence[int]) -> None:
        """Give up leases that `owner` holds."""
        holders = self._reached([Batch(self._lease(number), [("GET", self._lease(number))]) for number in partitions])
        mine = [number for number, held in zip(partitions, holders, strict=True) if held == [owner.encode()]]
        self._reached([Batch(self._lease(number), [("UNLINK", self._lease(number))]) for number in mine])
        self._believed_leases.difference_update((owner, number) for number in partitions)

    def announce(self, worker: str, fields: Mapping[str, Value], now_alive: Iterable[str] = ()) -> None:
        """Write a worker's line, with the server's time as `seen`; those in `now_alive` count as seen as well."""
        line = {name_of(name, "field of a worker"): value_of(value, name) for name, value in fields.items()}
        key = keys.workers(self.namespace)
        now_ms, lines = self._lines()
        fresh = {name_of(worker, "worker"): line}
        fresh |= {other: lines[other] for other in now_alive if other in lines and other != worker}
        commands: list[Command] = []
        for name, content in fresh.items():
            commands.append(("HSET", key, name, msgpack.packb({**content, "seen": b"%d" % now_ms})))
        too_old = [name for name, content in lines.items() if name not in fresh and _is_lost(content, now_ms)]
        if too_old:
            commands.append(("HDEL", key, *too_old))
        self._one(key, *commands)

    def retire(self, worker: str) -> None:
        """Remove a worker's line."""
        key = keys.workers(self.namespace)
        self._one(key, ("HDEL", key, name_of(worker, "worker")))

    def fleet(self) -> dict[str, dict[str, bytes]]:
        """Return the lines of all workers seen in the last 60 s, by worker id; each has `seen` (ms)."""
        now_ms, lines = self._lines()
        return {name: line for name, line in lines.items() if not _is_lost(line, now_ms)}

    def _lines(self) -> tuple[int, dict[str, dict[str, bytes]]]:
        key = keys.workers(self.namespace)
        now, packed = self._one(key, ("TIME",), ("HGETALL", key))
        lines = {text_of(name): msgpack.unpackb(bytes_of(line)) for name, line in pairs_of(packed)}
        return time_us(now) // 1000, lines

    def probe_came_back(self, queue: str, sent_ms: int) -> None:
        """Remember that a probe sent at `sent_ms` came back through `queue` (only grows)."""
        key = keys.probes(self.namespace)
        self._one(key, ("ZADD", key, "GT", score_of(sent_ms, "sent_ms"), name_of(queue, "queue")))

    def probes(self) -> dict[str, int]:
        """Return the newest probe that came back, per queue (ms)."""
        key = keys.probes(self.namespace)
        (reply,) = self._one(key, ("ZRANGE", key, 0, -1, "WITHSCORES"))
        return {queue: int(sent) for queue, sent in scored(reply)}

    # -- reading -------------------------------------------------------------------------------------------------------

    def time_ms(self) -> int:
        """Return the server's time."""
        (now,) = self._one(keys.partitions(self.namespace), ("TIME",))
        return time_us(now) // 1000

    def look(self, slot: Slot, queries: Sequence[Query], *, without_payloads: bool = False) -> Snapshot:
        """Read without WATCH, in one round trip; one more for large values, which payloads may be left out of."""
        return self.look_many([(slot, queries)], without_payloads=without_payloads)[0]

    def look_many(
        self, requests: Sequence[tuple[Slot, Sequence[Query]]], *, without_payloads: bool = False
    ) -> list[Snapshot]:
        """Read several slots without WATCH; one round trip on a single server, one more for large values."""
        addresses = [self._address(slot) for slot, _ in requests]
        readings = [
            Reading(address, queries, self._vault, without_payloads=without_payloads)
            for address, (_, queries) in zip(addresses, requests, strict=True)
        ]
        batches = [Batch(place.prefix, reading.commands) for place, reading in zip(addresses, readings, strict=True)]
        for _ in range(READ_TRIES):
            replies = self._gather(batches)
            found = [reading.snapshot(answers) for reading, answers in zip(readings, replies, strict=True)]
            if not any(reading.fetching for reading in readings):
                return found
            if self._bring(addresses, readings):
                return [reading.snapshot(answers) for reading, answers in zip(readings, replies, strict=True)]
        raise lost_blob(*readings)

    def _bring(self, addresses: Sequence[Address], readings: Sequence[Reading]) -> bool:
        """Fetch the large values that were named; False: some were overwritten since."""
        wanted = [(place, reading) for place, reading in zip(addresses, readings, strict=True) if reading.fetching]
        replies = self._gather([Batch(place.prefix, reading.fetching) for place, reading in wanted])
        return all(reading.bring(answers) for (_, reading), answers in zip(wanted, replies, strict=True))

    def listing(self, wanted: Filter, limit: int, cursor: str | None) -> Page:
        """Return workflows, newest first, over all partitions."""
        return Listing(self._gather, self.namespace, self.partitions()).page(wanted, limit, cursor)

    def events(self, workflow_id: str, after: str, block_ms: int | None, limit: int) -> list[StoredEvent]:
        """Return events after the stream id `after`; waits up to `block_ms` for the first."""
        key = keys.events(self._address(workflow_slot(workflow_id)).prefix)
        found = self._streams({key: reading_from(after)}, block_ms or 0, limit).get(key, [])
        return [event for event in found if stands_behind(event, after)][:limit]

    def first_events(
        self, partition: int, after: Mapping[str, str], listener: str, block_ms: int, limit: int
    ) -> dict[str, list[StoredEvent]]:
        """Return new events of workflows of one partition, by workflow id; waits for the first, or for the bell."""
        bell = keys.bell(self._prefix(partition), listener)
        streams = {keys.events(self._address(workflow_slot(name)).prefix): name for name in after}
        starts = {key: reading_from(after[name]) for key, name in streams.items()}
        found = self._streams({bell: "0", **starts}, block_ms, limit)
        if found.pop(bell, None):
            self._one(bell, ("UNLINK", bell))
        news = {
            (name := streams[key]): [event for event in events if stands_behind(event, after[name])][:limit]
            for key, events in found.items()
        }
        return {name: events for name, events in news.items() if events}

    def ring(self, partition: int, listener: str) -> None:
        """End the `first_events` of a listener: the one that waits now, else the next one."""
        bell = keys.bell(self._prefix(partition), listener)
        self._one(bell, ("XADD", bell, "*", "ring", 1), ("PEXPIRE", bell, _BELL_MS))

    def _streams(self, after: Mapping[str, str], block_ms: int, limit: int) -> dict[str, list[StoredEvent]]:
        deadline = time.monotonic() + block_ms / 1000
        while True:
            left_ms = round((deadline - time.monotonic()) * 1000)
            found = self._await_streams(after, min(left_ms, MAX_BLOCK_MS), limit)
            if found or left_ms <= MAX_BLOCK_MS:
                return found

    def _await_streams(self, after: Mapping[str, str], block_ms: int, limit: int) -> dict[str, list[StoredEvent]]:
        block: Command = ("BLOCK", block_ms) if block_ms > 0 else ()
        command: Command = ("XREAD", "COUNT", number_of(limit, "limit"), *block, "STREAMS", *after, *after.values())
        batch = Batch(next(iter(after)), [command])
        try:
            (reply,) = self._wire.wait(batch, block_ms) if block else self._wire.gather([batch])[0]
        except LinkLostError as lost:
            raise unreachable(self._wire, lost) from None
        if isinstance(reply, Refused):
            raise refusal(reply)
        streams = (list_of(stream) for stream in list_of(reply))
        return {
            text_of(key): [event for one in list_of(entries) for event in self._events(text_of(key), one)]
            for key, entries in streams
        }

    def _events(self, key: str, entry: Reply) -> Iterator[StoredEvent]:
        identity, fields = list_of(entry)
        stored = {text_of(name): bytes_of(value) for name, value in pairs_of(fields)}
        for event in events_of(text_of(identity), stored):
            yield StoredEvent(event.id, self._vault.opened(key, event.fields))

    def locks(self) -> list[LockState]:
        """Return every lock that is held or waited for."""
        try:
            found = {key.decode() for key in self._wire.scan(keys.lock_pattern(self.namespace))}
        except LinkLostError as lost:
            raise unreachable(self._wire, lost) from None
        names = sorted({keys.lock_name(self.namespace, key) for key in found})
        places = [Address(keys.lock_prefix(self.namespace, name)) for name in names]
        replies = self._gather([Batch(place.prefix, _lock_commands(place)) for place in places])
        states = [_lock_state(name, *answers) for name, answers in zip(names, replies, strict=True)]
        return [state for state in states if state.holders or state.waiters]

    def dead_letters(self) -> list[DueEntry]:
        """Return all buried entries, with the time of their burial as `due_ms`."""
        all_keys = [keys.buried(self._prefix(number)) for number in range(self.partitions())]
        replies = self._gather([Batch(key, [("ZRANGE", key, 0, -1, "WITHSCORES")]) for key in all_keys])
        return [_due_entry(member, score) for (reply,) in replies for member, score in scored(reply)]

    def counts(self) -> tuple[dict[str, int], int]:
        """Return how many workflows are listed in each status that any is in, and how many dead letters there are."""
        prefixes = [self._prefix(number) for number in range(self.partitions())]
        asked = [(prefix, [keys.index_status(prefix, name) for name in keys.STATUSES]) for prefix in prefixes]
        batches = [
            Batch(prefix, [("ZCARD", key) for key in (*listed, keys.buried(prefix))]) for prefix, listed in asked
        ]
        sums = [sum(map(int_of, column)) for column in zip(*self._gather(batches), strict=True)]
        return {name: count for name, count in zip(keys.STATUSES, sums, strict=False) if count}, sums[-1]

    def health(self) -> dict[str, str]:
        """Return what `doctor` looks at; what the server does not tell is `unknown`.

        Of a cluster's nodes that one counts which is most likely to lose something: each has a part of the state.
        """
        self.time_ms()
        began = time.perf_counter()
        self.time_ms()
        ping_ms = (time.perf_counter() - began) * 1000
        commands: list[Command] = [("INFO",), *(("CONFIG", "GET", name) for name in _SETTINGS)]
        try:
            servers = self._wire.survey(commands)
        except LinkLostError as lost:
            raise unreachable(self._wire, lost) from None
        told = [_told_of(info, configured) for info, *configured in servers]
        found = {name: min((one[name] for one in told), key=partial(_trust, name)) for name in told[0]}
        found["ping_ms"] = f"{ping_ms:.2f}"
        return {name: value or "unknown" for name, value in found.items()} | {"url": self._wire.url}

    # -- asking --------------------------------------------------------------------------------------------------------

    def _address(self, slot: Slot) -> Address:
        return address_of(slot, self.namespace, self.partitions())

    def _prefix(self, number: int) -> str:
        return keys.partition_prefix(self.namespace, number)

    def _lease(self, number: int) -> str:
        return keys.lease(self._prefix(number))

    def _one(self, key: str, *commands: Command) -> list[Reply]:
        return self._gather([Batch(key, commands)])[0]

    def _gather(self, batches: Sequence[Batch]) -> list[list[Reply]]:
        try:
            replies = self._wire.gather(batches)
        except LinkLostError as lost:
            raise unreachable(self._wire, lost) from None
        _require_granted(replies)
        return replies

    def _reached(self, batches: Sequence[Batch]) -> list[list[Reply] | None]:
        """Ask as `_gather` does; None: the node does not answer, or takes no writes now. Raises if none does."""
        try:
            replies = self._wire.gather_reached(batches)
        except LinkLostError as lost:
            raise unreachable(self._wire, lost) from None
        taken = [None if answers is None or any(map(refuses_writes, answers)) else answers for answers in replies]
        if not any(taken):
            _require_granted(answers for answers in replies if answers is not None)
        _require_granted(answers for answers in taken if answers is not None)
        return taken


def _require_granted(replies: Iterable[Sequence[Reply]]) -> None:
    for reply in (reply for answers in replies for reply in answers):
        if isinstance(reply, Refused):
            raise refusal(reply)


def _due_entry(member: str, score: float) -> DueEntry:
    workflow_id, _, name = member.partition("/")
    return DueEntry(workflow_id, name, whole(score))


def _ledger_names(answer: Sequence[Reply]) -> tuple[list[DueEntry], list[bytes]]:
    """Return the entries that members of `due` name, and the members that name none."""
    found, strays = [], []
    for member, score in (pair for reply in answer for pair in pairs_of(reply)):
        name = bytes_of(member).decode(errors="replace")
        if name.encode() == member and keys.is_ledger_name(name):
            found.append(_due_entry(name, float(bytes_of(score))))
        else:
            strays.append(bytes_of(member))
    return found, strays


def _is_lost(line: Mapping[str, bytes], now_ms: int) -> bool:
    return int(line["seen"]) < now_ms - FLEET_MEMORY_MS


def _lock_commands(place: Address) -> list[Command]:
    waiters: Command = ("ZRANGE", place.key("q"), 0, -1, "WITHSCORES")
    return [("HGETALL", place.key("h")), waiters, ("HMGET", place.key("meta"), "limit")]


def _lock_state(name: str, holders: Reply, waiters: Reply, meta: Reply) -> LockState:
    (limit,) = list_of(meta)
    return LockState(
        name,
        int(limit) if isinstance(limit, bytes) else 1,
        {text_of(owner): int(bytes_of(token)) for owner, token in pairs_of(holders)},
        tuple((owner, int(since_us) // 1000) for owner, since_us in scored(waiters)),
    )


def _partition_count(key: str, stored: bytes) -> int:
    if not stored.isdigit() or not 1 <= int(stored) <= MAX_PARTITIONS:
        raise StoreError(
            f"{key} holds {stored!r}, not a number of partitions from 1 to {MAX_PARTITIONS}: something else writes "
            "keys of this namespace. Put the number back that it was made with, or use another namespace"
        )
    return int(stored)


def _told_of(info: Reply, configured: Sequence[Reply]) -> dict[str, str]:
    """Return what a server says of itself; what it does not tell is empty."""
    told = _info(info)
    settings = {name.replace("-", "_"): _setting(reply) for name, reply in zip(_SETTINGS, configured, strict=True)}
    # A managed Redis may refuse CONFIG, and tells most of it in INFO.
    settings["appendonly"] = settings["appendonly"] or {"0": "no", "1": "yes"}.get(told.get("aof_enabled", ""), "")
    settings["maxmemory_policy"] = settings["maxmemory_policy"] or told.get("maxmemory_policy", "")
    return {"redis_version": told.get("redis_version", ""), **settings}


_SAFEST = {"appendonly": "yes", "appendfsync": "always", "maxmemory_policy": "noeviction"}


def _trust(name: str, value: str) -> tuple[object, ...]:
    """Return a key that is the smallest for what is most likely to lose something, or for the oldest version."""
    if name == "redis_version":
        return tuple(int(part) if part.isdecimal() else 0 for part in value.split("."))
    return (value == _SAFEST[name], value == "everysec", value)


def _setting(reply: Reply) -> str:
    return next((text_of(value) for _, value in pairs_of(reply)), "") if isinstance(reply, list) else ""


def _info(reply: Reply) -> dict[str, str]:
    if not isinstance(reply, bytes):
        return {}
    return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
