"""Raw connections: packed sends, replies read to the end, and nothing that survives a fork."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from redis.connection import Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

from stabilize_celery.store.pools import Pools
from stabilize_celery.store.resp import packed, received
from stabilize_celery.store.session import refusal
from stabilize_celery.store.wire import (
    MAX_BLOCK_MS,
    Batch,
    Command,
    LinkLostError,
    Refused,
    Reply,
    misrouting,
    nobody_serves,
)

__all__ = ["PoolsFactory", "RedisWire"]

PoolsFactory: TypeAlias = Callable[[float], Pools]
"""Makes pools whose sockets wait so many seconds longer than usual."""

_GATHER_TRIES = 5
_MOVE_PAUSE_S = 0.05
_UNWATCH: Command = ("UNWATCH",)


class _Here:
    """What belongs to this process: connections don't survive a fork, nor do locks that were held at it."""

    def __init__(self, make: PoolsFactory) -> None:
        self.pid = os.getpid()
        self.pools = make(0.0)
        self.patient_pools = make(MAX_BLOCK_MS / 1000)
        self.still_watching: set[Connection] = set()
        """Idle connections whose last user left keys watched: UNWATCH costs no round trip of its own."""
        self.at_hand: dict[ConnectionPool, deque[Connection]] = {}
        """Connections that were used and kept out of their pool, which takes longer to ask than Redis (20 us)."""

    def take(self, pool: ConnectionPool) -> Connection:
        """Check a connection out.

        Raises:
            redis.exceptions.RedisError: none can be made.

        """
        try:
            return self.at_hand[pool].pop()
        except (KeyError, IndexError):
            return pool.get_connection()

    def put_back(self, pool: ConnectionPool, connection: Connection) -> None:
        """Give a connection back that is in step: all that was asked on it has been answered."""
        is_connected = getattr(connection, "_sock", None) is not None  # redis-py has no other way to tell
        # Others than the plain pool look at each connection that is given back, e.g. whether it still is the master's.
        if type(pool) is ConnectionPool and is_connected:
            self.at_hand.setdefault(pool, deque()).append(connection)
        else:
            pool.release(connection)

    def give_back_all(self) -> None:
        """Give back what is at hand: it may have been closed, and its pool looks before it gives a connection out."""
        for pool, connections in list(self.at_hand.items()):
            while (connection := _taken(connections)) is not None:
                pool.release(connection)


class RedisWire:
    """Connections to Redis. `round_trips` is for tests: under threads it may miss some."""

    def __init__(self, url: str, make: PoolsFactory) -> None:
        self.url = url
        self.round_trips = 0
        self._make = make
        self._own = _Here(make)
        self._is_closed = False

    @property
    def is_sharded(self) -> bool:
        """Whether one EXEC can't span any two keys."""
        return self.here().pools.is_sharded

    def link(self, key: str) -> "_RedisLink":
        """Check out a connection to the server that has `key`."""
        pool = self.pool_for(key, self.here().pools)
        try:
            return _RedisLink(self, pool)
        except LinkLostError:
            other = self._other_than(pool, key, self.here().pools)
            if other is None:
                raise
            return _RedisLink(self, other)

    def redirected(self, refused: Refused) -> None:
        """Learn who has the key now; wait a little if nobody has it at the moment."""
        self.here().pools.redirected(refused)
        if refused.code != "MOVED":
            time.sleep(_MOVE_PAUSE_S)

    def scan(self, pattern: str) -> Iterator[bytes]:
        """Yield the keys that match on every server; a key may come twice."""
        try:
            pools = self.here().pools.everywhere()
        except RedisError as error:
            raise self.lost(error, was_stale=False) from None
        for pool in pools:
            cursor = b"0"
            while True:
                (answer,) = self.converse(pool, [("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)])
                match answer:
                    case [bytes() as cursor, list() as found]:
                        yield from (key for key in found if isinstance(key, bytes))
                    case Refused():
                        raise refusal(answer)
                    case _:
                        raise LinkLostError(f"SCAN was answered by {answer!r}", was_stale=False)
                if cursor == b"0":
                    break

    def survey(self, commands: Sequence[Command]) -> list[list[Reply]]:
        """Ask each server the same; what may be asked twice."""
        try:
            pools = self.here().pools.everywhere()
        except RedisError as error:
            raise self.lost(error, was_stale=False) from None
        return [self.converse(pool, commands) for pool in pools]

    def gather(self, batches: Sequence[Batch]) -> list[list[Reply]]:
        """Carry out what may be done twice; a connection that the server had closed is replaced once."""
        gathered = _Gathered(self, batches)
        while gathered.asks_again():
            if gathered.lost:
                break
        if gathered.lost:
            raise next(iter(gathered.lost.values()))
        return gathered.replies

    def gather_reached(self, batches: Sequence[Batch]) -> list[list[Reply] | None]:
        """Do as `gather`, but with None for the batches of a server that does not answer."""
        gathered = _Gathered(self, batches)
        while gathered.asks_again():
            pass
        lost = gathered.lost
        if lost and len(lost) == sum(bool(batch.commands) for batch in batches):
            raise next(iter(lost.values()))
        return [None if at in lost else replies for at, replies in enumerate(gathered.replies)]

    def wait(self, batch: Batch, block_ms: int) -> list[Reply]:  # noqa: ARG002 - all patient sockets wait long enough
        """Carry out commands of which one blocks, on a connection that is patient enough."""
        failure = LinkLostError("no node takes them over", was_stale=False)
        for _ in range(_GATHER_TRIES):
            pool = self.pool_for(batch.key, self.here().patient_pools)
            try:
                replies = self.converse(pool, batch.commands)
            except LinkLostError as lost:
                if self._other_than(pool, batch.key, self.here().patient_pools) is None:
                    raise
                failure = lost
                continue
            refused = misrouting(replies)
            if refused is None:
                return replies
            self.here().patient_pools.redirected(refused)
            failure = nobody_serves(refused)
        raise failure

    def close(self) -> None:
        """Close all connections, for good. Again: nothing."""
        if self._is_closed:
            return
        here = self.here()
        self._is_closed = True
        here.pools.close()
        here.patient_pools.close()

    def lost(self, error: Exception, *, was_stale: bool, pool: ConnectionPool | None = None) -> LinkLostError:
        """Return what became of a connection, of which `pool` if there was one, in words."""
        here = self.here()
        if pool is not None and isinstance(error, (RedisTimeoutError, TimeoutError)):
            for pools in (here.pools, here.patient_pools):
                pools.silent(pool)
        here.give_back_all()
        here.pools.lost()
        here.patient_pools.lost()
        told = str(error)
        if isinstance(error, MasterNotFoundError):
            # Behind the name redis-py shows its connections to the sentinels, as objects.
            told = f"{told.partition(' : ')[0]}: no sentinel that answers knows one"
        return LinkLostError(told.rstrip("."), was_stale=was_stale)

    def here(self) -> _Here:
        """Return what belongs to this process. RuntimeError: it was closed, and would not be closed again."""
        if self._is_closed:
            raise RuntimeError("this client is closed: make a new one, or close it when nothing uses it any more")
        if self._own.pid != os.getpid():
            self._own = _Here(self._make)
        return self._own

    def _other_than(self, pool: ConnectionPool, key: str, pools: Pools) -> ConnectionPool | None:
        """Return the pool of the node that has taken over from one that can't be reached, or None."""
        now = self.pool_for(key, pools)
        return None if now is pool else now

    def pool_for(self, key: str, pools: Pools) -> ConnectionPool:
        """Return the pool of the server that has `key`.

        Raises:
            LinkLostError: nobody says which server that is.

        """
        try:
            return pools.pool_for(key)
        except RedisError as error:
            raise self.lost(error, was_stale=False) from None

    def converse(self, pool: ConnectionPool, commands: Sequence[Command]) -> list[Reply]:
        """Ask a server for what may be done twice.

        Raises:
            LinkLostError: the connection broke, also the second time.

        """
        try:
            return self._converse_once(pool, commands)
        except LinkLostError as lost:
            if not lost.was_stale:
                raise
        return self._converse_once(pool, commands)

    def _converse_once(self, pool: ConnectionPool, commands: Sequence[Command]) -> list[Reply]:
        link = _RedisLink(self, pool)
        try:
            return link.exchange(commands)
        finally:
            link.close(watching=False)


class _Gathered:
    """What the servers of some batches have answered so far."""

    def __init__(self, wire: RedisWire, batches: Sequence[Batch]) -> None:
        self._wire = wire
        self._batches = batches
        self._open = [at for at, batch in enumerate(batches) if batch.commands]
        self._tries = 0
        self.replies: list[list[Reply]] = [[] for _ in batches]
        self._failures: dict[int, LinkLostError] = {}
        """Why batches are asked for again."""
        self.lost: dict[int, LinkLostError] = {}
        """Positions of batches whose server does not answer, and what its connection said."""

    def asks_again(self) -> bool:
        """Ask for what is open; False: nothing was."""
        if not self._open:
            return False
        if self._tries == _GATHER_TRIES:
            self.lost |= {at: self._failures[at] for at in self._open}
            self._open = []
            return False
        self._tries += 1
        asked, self._open = self._open, []
        for pool, here in self._by_pool(asked).items():
            self._ask(pool, here)
        refusals = {at: found for at in asked if at not in self.lost and (found := misrouting(self.replies[at]))}
        if refusals:
            self._failures |= {at: nobody_serves(refused) for at, refused in refusals.items()}
            self._open += [at for at in refusals if at not in self._open]
            self._wire.redirected(next(iter(refusals.values())))
        return True

    def _ask(self, pool: ConnectionPool, here: Sequence[int]) -> None:
        commands = [command for at in here for command in self._batches[at].commands]
        try:
            answers = iter(self._wire.converse(pool, commands))
        except LinkLostError as lost:
            self._open += self._taken_over(pool, here, lost)
            return
        for at in here:
            self.replies[at] = [next(answers) for _ in self._batches[at].commands]

    def _taken_over(self, pool: ConnectionPool, here: Sequence[int], lost: LinkLostError) -> list[int]:
        """Return what lies on another node by now, as the map, read anew, says: a replica may have taken over."""
        now = self._by_pool(here)
        self._failures |= dict.fromkeys(here, lost)
        self.lost |= dict.fromkeys(now.pop(pool, ()), lost)
        return [at for positions in now.values() for at in positions]

    def _by_pool(self, positions: Sequence[int]) -> dict[ConnectionPool, list[int]]:
        pools: dict[ConnectionPool, list[int]] = {}
        for at in positions:
            try:
                pool = self._wire.pool_for(self._batches[at].key, self._wire.here().pools)
            except LinkLostError as lost:
                self.lost[at] = lost
            else:
                pools.setdefault(pool, []).append(at)
        return pools


class _RedisLink:
    """One connection, checked out of its pool."""

    def __init__(self, wire: RedisWire, pool: ConnectionPool) -> None:
        self._wire = wire
        self._own = wire.here()
        self._pool = pool
        try:
            self._connection = self._own.take(pool)
        except RedisError as error:
            raise wire.lost(error, was_stale=False, pool=pool) from None

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all, read all: an error reply in between must not leave the connection out of step."""
        connection, watching = self._connection, self._own.still_watching
        opening = (_UNWATCH,) if connection in watching else ()
        sent = (*opening, *commands) if opening else commands
        self._wire.round_trips += 1
        try:
            # redis-py is untyped here.
            connection.send_packed_command(packed(connection, sent), check_health=False)  # type: ignore[no-untyped-call]
            replies = received(connection, sent)
        except (RedisError, OSError) as error:
            # A socket that is reset tells so by an OSError of its own.
            self._disconnect()
            is_stale = isinstance(error, (RedisConnectionError, ConnectionError))
            raise self._wire.lost(error, was_stale=is_stale, pool=self._pool) from None
        except BaseException:
            # A time limit may strike between two replies.
            self._disconnect()
            raise
        if not opening:
            return replies
        watching.discard(connection)
        return replies[len(opening) :]

    def close(self, *, watching: bool) -> None:
        """Give the connection back; what it watches is unwatched by its next user's first send."""
        if watching:
            self._own.still_watching.add(self._connection)
        self._own.put_back(self._pool, self._connection)

    def _disconnect(self) -> None:
        self._own.still_watching.discard(self._connection)
        self._connection.disconnect()  # type: ignore[no-untyped-call]


def _taken(connections: deque[Connection]) -> Connection | None:
    """Take one; None: there is none. Other threads take them, too: whether any is left shows only now."""
    try:
        return connections.pop()
    except IndexError:
        return None
