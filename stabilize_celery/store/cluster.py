"""The nodes of a Redis Cluster: who has which slot, learnt from CLUSTER SLOTS and from redirections."""

import time
from collections.abc import Callable
from typing import Any

from redis.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import ConnectionError, RedisError, TimeoutError  # noqa: A004 - redis-py's own

from stabilize_celery.store.pools import Pools
from stabilize_celery.store.redis_url import Node
from stabilize_celery.store.wire import Refused

__all__ = ["ClusterPools"]


class ClusterPools(Pools):
    """A pool per node. The map of slots is read when it is needed and dropped when it is in doubt.

    A node that lets a time-out pass is left alone for `rest_s`: whoever asks for its keys meanwhile is told so at once.
    Else each partition that lies on it would cost its keeper, or the heartbeats of its tasks, a time-out of its own,
    and what lies on healthy nodes would wait for all of them.
    """

    is_sharded = True

    def __init__(
        self,
        make: Callable[[Node], ConnectionPool],
        seeds: list[Node],
        rest_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._seeds = seeds
        self._rest_s = rest_s
        self._clock_s = clock_s
        self._pools: dict[Node, ConnectionPool] = {}
        self._ranges: list[tuple[int, int, Node]] = []
        self._rests_until: dict[Node, float] = {}

    def pool_for(self, key: str) -> ConnectionPool:
        """Return the pool of the node that has the slot of `key`."""
        slot = key_slot(key.encode())
        for first, last, node in self._ranges or self._learn():
            if first <= slot <= last:
                self._require_awake(node)
                return self._pool_of(node)
        self._ranges = []
        raise ConnectionError(f"no node of the cluster has slot {slot}")

    def everywhere(self) -> list[ConnectionPool]:
        """Return the pools of all nodes that have slots."""
        return [self._pool_of(node) for node in dict.fromkeys(node for _, _, node in self._ranges or self._learn())]

    def redirected(self, refused: Refused) -> None:  # noqa: ARG002 - the map tells more than the refusal
        """Read the map again at the next key."""
        self._ranges = []

    def lost(self) -> None:
        """Read the map again at the next key: a replica may have taken over."""
        self._ranges = []

    def silent(self, pool: ConnectionPool) -> None:
        """Leave a node alone for a while."""
        until = self._clock_s() + self._rest_s
        self._rests_until |= {node: until for node, known in list(self._pools.items()) if known is pool}

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.disconnect()

    def _require_awake(self, node: Node) -> None:
        if self._clock_s() < self._rests_until.get(node, 0.0):
            # By the next key a replica may have taken over.
            self._ranges = []
            host, port = node
            raise ConnectionError(f"{host}:{port} let a time-out pass and is asked again within {self._rest_s:g} s")

    def _pool_of(self, node: Node) -> ConnectionPool:
        pool = self._pools.get(node)
        return pool if pool is not None else self._pools.setdefault(node, self._make(node))

    def _learn(self) -> list[tuple[int, int, Node]]:
        failure: RedisError = ConnectionError("the URL names no node")
        # A node that has left the cluster may answer with an old map, so those that the URL names come first.
        for node in dict.fromkeys((*self._seeds, *self._pools)):
            try:
                self._require_awake(node)
                ranges = self._ask(node)
            except RedisError as error:
                failure = error
                continue
            if ranges:
                self._ranges = ranges
                return ranges
        raise failure

    def _ask(self, node: Node) -> list[tuple[int, int, Node]]:
        pool = self._pool_of(node)
        try:
            answer = _slots_told_by(pool)
        except TimeoutError:
            self.silent(pool)
            raise
        # A node that does not know its own address leaves it empty: it is the one that was asked.
        return [
            (first, last, ((host or node[0].encode()).decode(), port)) for first, last, (host, port, *_), *_ in answer
        ]


def _slots_told_by(pool: ConnectionPool) -> Any:
    connection = pool.get_connection()
    try:
        connection.send_command("CLUSTER", "SLOTS", check_health=False)  # type: ignore[no-untyped-call]  # redis-py is untyped here
        return connection.read_response(disconnect_on_error=True)
    finally:
        pool.release(connection)
