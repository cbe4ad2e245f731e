"""The map of a cluster's slots, and nodes that do not answer."""

from collections.abc import Callable

import pytest
from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004 - redis-py's own

from stabilize_celery.store.cluster import ClusterPools
from stabilize_celery.store.redis_url import Node

ONE, TWO = ("one", 1), ("two", 2)
REST_S = 5.0


class FakeConnection:
    """Answers CLUSTER SLOTS; a node that is silent lets the time-out pass."""

    def __init__(self, node: Node, cluster: "Cluster") -> None:
        self.node, self.cluster = node, cluster

    def send_command(self, *command: str, check_health: bool) -> None:
        assert (command, check_health) == (("CLUSTER", "SLOTS"), False)

    def read_response(self, *, disconnect_on_error: bool) -> list[list[object]]:
        assert disconnect_on_error
        self.cluster.asked.append(self.node)
        if self.node in self.cluster.silent:
            raise TimeoutError("Timeout reading from socket")
        return [[first, last, [node[0].encode(), node[1]]] for first, last, node in self.cluster.slots]


class FakePool(ConnectionPool):
    """The pool of a node."""

    def __init__(self, node: Node, cluster: "Cluster") -> None:
        super().__init__()
        self.node, self.cluster = node, cluster

    def get_connection(self, *_: object, **__: object) -> FakeConnection:  # type: ignore[override]
        return FakeConnection(self.node, self.cluster)

    def release(self, connection: object) -> None:
        """Take it back."""


class Cluster:
    """Two nodes with half of the slots each, and a clock that tests move."""

    def __init__(self) -> None:
        self.slots: list[tuple[int, int, Node]] = [(0, 8_191, ONE), (8_192, 16_383, TWO)]
        self.silent: set[Node] = set()
        self.asked: list[Node] = []
        self.now_s = 1_000.0
        self.pools = ClusterPools(lambda node: FakePool(node, self), [ONE, TWO], REST_S, lambda: self.now_s)

    def node_of(self, key: str) -> Node:
        pool = self.pools.pool_for(key)
        assert isinstance(pool, FakePool)
        return pool.node

    def falls_silent(self, key: str) -> None:
        """Let the node of a key time out."""
        pool = self.pools.pool_for(key)
        assert isinstance(pool, FakePool)
        self.silent.add(pool.node)
        self.pools.silent(pool)
        self.pools.lost()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def key_on() -> Callable[[Node], str]:
    known = Cluster()
    return lambda node: next(f"k{n}" for n in range(100) if known.node_of(f"k{n}") == node)


def test_a_node_that_timed_out_is_left_alone(cluster: Cluster, key_on: Callable[[Node], str]) -> None:
    """Whoever asks for its keys is told at once, and so is nobody else; after the rest it is asked again."""
    cluster.falls_silent(key_on(ONE))
    cluster.asked.clear()

    for _ in range(3):
        with pytest.raises(ConnectionError, match="one:1 let a time-out pass and is asked again within 5 s"):
            cluster.pools.pool_for(key_on(ONE))
        assert cluster.node_of(key_on(TWO)) == TWO
    assert ONE not in cluster.asked
    cluster.now_s += REST_S
    assert cluster.node_of(key_on(ONE)) == ONE


def test_a_replica_takes_over_from_a_silent_node(cluster: Cluster, key_on: Callable[[Node], str]) -> None:
    """The map is read again at each key that can't be had, so the rest of the silent one is nobody's wait."""
    key = key_on(ONE)
    cluster.falls_silent(key)
    with pytest.raises(ConnectionError):
        cluster.pools.pool_for(key)
    cluster.slots[0] = (0, 8_191, ("three", 3))

    assert cluster.node_of(key) == ("three", 3)


def test_a_seed_that_is_silent_is_asked_once(cluster: Cluster, key_on: Callable[[Node], str]) -> None:
    """Reading the map costs one time-out, not one each time; with no node left it fails at once."""
    cluster.silent.add(ONE)
    assert cluster.node_of(key_on(TWO)) == TWO
    cluster.pools.lost()
    assert cluster.node_of(key_on(TWO)) == TWO
    assert cluster.asked.count(ONE) == 1
    cluster.falls_silent(key_on(TWO))
    cluster.asked.clear()

    with pytest.raises(ConnectionError, match="let a time-out pass"):
        cluster.pools.pool_for(key_on(TWO))
    assert cluster.asked == []
