"""A simulated Redis: commands of many clients one after the other, over connections that break anywhere."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Hash, Query, Slot, Snapshot, workflow_slot
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.settings import Settings
from stabilize_celery.store import keys
from stabilize_celery.store.addresses import Address
from stabilize_celery.store.command_store import CommandStore
from stabilize_celery.store.contract import Session, Transaction
from stabilize_celery.store.memory import _MemoryLink, _MemoryWire
from stabilize_celery.store.session import PackedSession
from stabilize_celery.store.wire import Batch, Command, Link, LinkLostError, Refused, Reply
from tests.simulation.fleet.actors import Loop
from tests.simulation.fleet.broker import SimulatedBroker
from tests.simulation.fleet.glass import Glass
from tests.simulation.fleet.lists import ListsDatabase
from tests.simulation.fleet.troubles import Troubles

__all__ = ["FleetStore", "SimulatedRedis", "Told"]

_STALE = 0.1
_NEVER_US = 2**62

Told = Callable[[Slot, Transaction, list[Reply]], None]
"""Told of each EXEC that was applied, whether or not its client ever learns."""


@dataclass(slots=True)
class _Backup:
    values: dict[bytes, Any]
    expires_us: dict[bytes, int]
    messages: list[Outgoing]


class _Wire(_MemoryWire):
    """All in one thread: nobody waits for a change, and nobody has to be kept out."""

    def woken(self) -> None:
        """Nobody sleeps."""


@dataclass(slots=True)
class SimulatedRedis:
    """One server. Its clock may differ from everybody's; it can be away, slow, and lose its last writes.

    Args:
        loop: Who acts when.
        troubles: How often connections break.

    """

    loop: Loop
    troubles: Troubles
    skew_us: int = 0
    away_until_us: int = 0
    slow_until_us: int = 0
    generation: int = 0
    """Connections made before a restart are closed."""
    calm: int = 0
    """Above 0, somebody looks who is not part of the fleet: nothing fails, and no time passes."""
    url: str = "simulated://"
    lost_links: int = 0
    applied: list[Told] = field(default_factory=list)
    log: Callable[[str], None] = lambda _: None
    inner: _MemoryWire = field(init=False)
    broker: SimulatedBroker | None = None
    """Whose lists it has."""

    def __post_init__(self) -> None:
        self.inner = _Wire(lambda: self.loop.now_us + self.skew_us)

    @property
    def database(self) -> Any:
        return self.inner._database

    @property
    def is_away(self) -> bool:
        return self.loop.now_us < self.away_until_us

    @property
    def round_trips(self) -> int:
        return self.inner.round_trips

    def link(self, _key: str) -> "_Link":
        if not self.calm:
            self.loop.check()
            if self.is_away:
                raise LinkLostError("Connection refused", was_stale=False)
        # A pool may still have connections from before a restart.
        is_stale = not self.calm and self.generation > 0 and self.loop.random.random() < _STALE
        return _Link(self, self.inner.link(_key), self.generation - is_stale)

    def redirected(self, _refused: Refused) -> None:
        """Nothing moves."""

    def scan(self, pattern: str) -> Iterator[bytes]:
        return self.inner.scan(pattern)

    def has_lists_of(self, broker: SimulatedBroker, settings: Settings) -> None:
        """Be the broker's server, too. Called before anything is written."""
        self.broker = broker
        queues = frozenset((settings.control_queue, settings.work_queue))
        self.inner._database = ListsDatabase(self.database._clock_us, broker, queues)

    def wait(self, batch: Batch, block_ms: int) -> list[Reply]:
        """Look, and once more after a while. An answer may be lost, and what was taken with it."""
        self.travel()
        replies = self.inner.gather([batch])[0]
        if not any(replies):
            self.loop.sleep(self.loop.random.randint(0, 1000 * block_ms))
            replies = self.inner.gather([batch])[0]
        if self.loop.random.random() < self.troubles.lose_link:
            self._lost("while waiting for a message")
        self.travel()
        return replies

    def gather(self, batches: Sequence[Batch]) -> list[list[Reply]]:
        if not self.calm:
            self.travel()
            if self.loop.random.random() < self.troubles.lose_link:
                self._lost("while asked for many things")
        answers = self.inner.gather(batches)
        if not self.calm:
            self.travel()
        return answers

    def gather_reached(self, batches: Sequence[Batch]) -> list[list[Reply] | None]:
        """There is one server: it is away for all of them, or for none."""
        return [*self.gather(batches)]

    def close(self) -> None:
        """Nothing is open."""

    def travel(self) -> None:
        """Let a message to the server, or back, take its time; it may not arrive, and its sender may not live."""
        self._suffer()
        most_us = 200_000 if self.loop.now_us < self.slow_until_us else 600
        self.loop.sleep(self.loop.random.randint(40, most_us))
        if self.is_away:
            raise LinkLostError("Connection refused", was_stale=False)

    def _suffer(self) -> None:
        actor, random = self.loop.current, self.loop.random
        if actor is None or not actor.is_mortal:
            return
        if self.troubles.die and random.random() < self.troubles.die and actor.group is not None:
            self.loop.die()
        if self.troubles.stall and random.random() < self.troubles.stall:
            ms = int(10 ** random.uniform(0, 4.8))
            self.log(f"{actor.name} stands still for {ms} ms")
            self.loop.sleep(ms * 1000)

    def _lost(self, when: str) -> None:
        self.lost_links += 1
        self.log(f"connection lost {when}")
        raise LinkLostError("Connection reset by peer", was_stale=False)

    # -- what is kept ------------------------------------------------------------------------------------------------

    def backup(self) -> _Backup:
        """Return all that is written now."""
        database = self.database
        messages = [] if self.broker is None else list(self.broker.waiting)
        return _Backup(deepcopy(database._values), dict(database._expires_us), messages)

    def restore(self, backup: _Backup) -> None:
        """Be as then: all later writes are lost, and all connections."""
        database = self.database
        for key in {*database._values, *backup.values}:
            database._touch(key)
        database._values, database._expires_us = backup.values, backup.expires_us
        self.generation += 1
        if self.broker is not None:
            self.broker.waiting[:] = backup.messages


@dataclass(slots=True)
class _Link:
    redis: SimulatedRedis
    inner: _MemoryLink
    generation: int
    session: "_Session | None" = None
    is_broken: bool = False

    def close(self, *, watching: bool) -> None:
        self.inner.close(watching=watching)

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        redis = self.redis
        if redis.calm:
            return self.inner.exchange(commands)
        redis.travel()
        if self.generation != redis.generation:
            raise LinkLostError("Connection closed by server", was_stale=True)
        arrive = self._arriving(len(commands))
        replies = [self._take(command, commands) for command in commands[:arrive]]
        if arrive is not None:
            self.inner.close(watching=True)
            redis._lost(f"after {arrive} of {len(commands)} commands, {'the answer' if arrive else 'the request'}")
        redis.travel()
        if self.generation != redis.generation:
            raise LinkLostError("Connection closed by server", was_stale=False)
        return replies

    def _arriving(self, count: int) -> int | None:
        """Return how many of the commands the server still gets; None: the connection holds."""
        random, troubles = self.redis.loop.random, self.redis.troubles
        if random.random() >= troubles.lose_link:
            return None
        return random.choice((0, count, random.randint(0, count)))

    def _take(self, command: Command, commands: Sequence[Command]) -> Reply:
        loop, redis = self.redis.loop, self.redis
        if loop.random.random() < redis.troubles.tear and self.inner._queued is None and command is not commands[0]:
            # Between two commands of one packet the server may well serve others.
            loop.sleep(loop.random.randint(1, 300))
        reply = self.inner.take(command, redis.database)
        redis.inner.round_trips += 1
        if command[0] == "EXEC" and isinstance(reply, list) and self.session is not None:
            self.session.was_applied(reply)
        return reply


class _Session(PackedSession):
    """A session that says what it commits, for those who watch."""

    def __init__(self, redis: SimulatedRedis, address: Address, slot: Slot) -> None:
        super().__init__(redis, address)
        self._redis = redis
        self._slot = slot
        self._committing: Transaction | None = None

    def _open(self) -> Link:
        link = super()._open()
        if isinstance(link, _Link):
            link.session = self
        return link

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        self._committing = transaction
        return super().commit(transaction)

    def commit_and_read(self, transaction: Transaction, *more: Any, **named: Any) -> Any:
        self._committing = transaction
        return super().commit_and_read(transaction, *more, **named)

    def was_applied(self, replies: list[Reply]) -> None:
        transaction = self._committing
        if transaction is None:
            return
        self._redis.calm += 1
        try:
            for told in self._redis.applied:
                told(self._slot, transaction, replies)
        finally:
            self._redis.calm -= 1


class FleetStore(CommandStore):
    """The store as one worker has it, on the simulated Redis that all of them share."""

    def __init__(self, redis: SimulatedRedis, partitions: int) -> None:
        super().__init__(redis, "stabilize", partitions)
        self.redis = redis
        self.glass = Glass(redis.database, self._address)

    def session(self, slot: Slot) -> Session:  # type: ignore[override]
        return _Session(self.redis, self._address(slot), slot)

    def look(self, slot: Slot, queries: Sequence[Query], *, without_payloads: bool = False) -> Snapshot:
        """Read without WATCH. Who looks from outside sees what is there, and needs no connection."""
        if self.redis.calm:
            return self.glass.look(slot, queries)
        return super().look(slot, queries, without_payloads=without_payloads)

    @property
    def first_due_us(self) -> int:
        """When the first ledger entry of all is due, by the server's clock; far away if none is."""
        found = [self.redis.database._values.get(key) for key in self._due_keys]
        return min((int(due.first(0, 0)[0][0]) * 1000 for due in found if due is not None), default=_NEVER_US)

    @property
    def _due_keys(self) -> list[bytes]:
        return [keys.due(self._prefix(number)).encode() for number in range(self._new_partitions)]

    def error_of(self, workflow_id: str, name: str) -> str:
        """Return why the handler of a message failed."""
        key = Hash(places.ledger(name))
        found = self.calmly(lambda: self.look(workflow_slot(workflow_id), (key,)))
        return str(ENTRY.decode(found[key]).error)

    def calmly(self, look: Callable[[], Any]) -> Any:
        """Look from outside of the fleet."""
        self.redis.calm += 1
        try:
            return look()
        finally:
            self.redis.calm -= 1
