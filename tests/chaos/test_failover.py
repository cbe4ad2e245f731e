"""A master is lost and its replica takes over: behind sentinels, and in a Redis Cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from stabilize_celery.client import Client
from stabilize_celery.errors import ConfigurationError, UnreachableError
from tests.chaos.crowds import Crowd
from tests.chaos.fleet import STATE_SERVER, ChaosFleet
from tests.integration.fleet import eventually
from tests.servers import RedisServer

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

DOWN_AFTER_MS = 1_500


def ask(server: RedisServer, *command: str | int) -> str:
    """Carry out one command as an operator would."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return str(client.execute_command(*command))


def replication(server: RedisServer) -> dict[str, object]:
    """Return what a server says of its master or its replicas."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return client.info("replication")


def follows(replica: RedisServer) -> bool:
    """Return whether it has all that its master has."""
    return replication(replica).get("master_link_status") == "up"


def is_reachable(fleet: ChaosFleet) -> bool:
    try:
        return fleet.store.time_ms() > 0
    except UnreachableError:
        return False


def is_whole(fleet: ChaosFleet) -> bool:
    """Return whether all nodes agree on who has which slot, and answer."""
    try:
        return fleet.store.first_due(range(fleet.store.partitions()), 1)[0] > 0
    except UnreachableError:
        return False


def is_master(server: RedisServer) -> bool:
    return replication(server)["role"] == "master"


# -- sentinels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched() -> Iterator[tuple[str, RedisServer, RedisServer]]:
    """The URL of a master behind three sentinels, the master, and its replica."""
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(*STATE_SERVER, append_only=True))
        replica = stack.enter_context(
            RedisServer(*STATE_SERVER, "--replicaof", "127.0.0.1", str(master.port), append_only=True)
        )
        settings = [
            f"monitor shop 127.0.0.1 {master.port} 2",
            f"down-after-milliseconds shop {DOWN_AFTER_MS}",
            "failover-timeout shop 10000",
        ]
        sentinels = [stack.enter_context(RedisServer(sentinel=settings)) for _ in range(3)]
        eventually(lambda: follows(replica))
        for sentinel in sentinels:
            eventually(lambda one=sentinel: "num-slaves" in (told := ask(one, "SENTINEL", "MASTER", "shop")) and told)
            eventually(lambda one=sentinel: str(replica.port) in ask(one, "SENTINEL", "REPLICAS", "shop"))
            eventually(lambda one=sentinel: ask(one, "SENTINEL", "SENTINELS", "shop").count("runid") == 2)
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        yield f"sentinel://{hosts}/{{}}?master=shop", master, replica


def test_sentinels_promote_a_replica(
    new_fleet: Callable[..., ChaosFleet], watched: tuple[str, RedisServer, RedisServer]
) -> None:
    """State and broker lose their master while everything runs; what had reached the replica goes on."""
    url, master, replica = watched
    fleet = new_fleet(broker=url.format(0), state=url.format(1))
    worker = fleet.add_worker()
    crowd = Crowd(fleet, 44)
    crowd.wait_until_ended(12)
    assert ask(master, "WAIT", 1, 5_000) == "1"
    master.kill()
    eventually(lambda: is_master(replica) and is_reachable(fleet), 60)

    Crowd(fleet, 11).wait_until_ended(11)
    fleet.state_servers = [replica.url.replace("/0", "/1")]
    crowd.check(has_lost_writes=True)
    assert worker.process.poll() is None


# -- cluster -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[list[RedisServer]]:
    """Three masters with a third of the slots each, and then their replicas, in the same order."""
    options = (*STATE_SERVER, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(RedisServer(*options, append_only=True, extra_ports=("--cluster-port",)))
            for _ in range(6)
        ]
        for at, (first, last) in enumerate([(0, 5460), (5461, 10922), (10923, 16383)]):
            ask(nodes[at], "CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in nodes[1:]:
            ask(nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, node.other_ports["--cluster-port"])
        for node in nodes:
            eventually(lambda one=node: "cluster_known_nodes:6" in ask(one, "CLUSTER", "INFO"))
        for master, replica in zip(nodes[:3], nodes[3:], strict=True):
            known = ask(master, "CLUSTER", "MYID")
            eventually(lambda one=replica, known=known: known in ask(one, "CLUSTER", "NODES"))
            ask(replica, "CLUSTER", "REPLICATE", known)
        for node in nodes:
            eventually(lambda one=node: "cluster_state:ok" in ask(one, "CLUSTER", "INFO"))
        for replica in nodes[3:]:
            eventually(lambda one=replica: follows(one))
        yield nodes


def test_a_cluster_loses_a_node(
    new_fleet: Callable[..., ChaosFleet], cluster: list[RedisServer], server: RedisServer
) -> None:
    """Its replica is promoted; workflows of the other slots do not even wait."""
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster[:2])
    fleet = new_fleet(state=f"redis+cluster://{hosts}", broker=server.url)
    worker = fleet.add_worker()
    crowd = Crowd(fleet, 66)
    crowd.wait_until_ended(12)
    assert all(int(ask(node, "DBSIZE")) for node in cluster[:3]), "not every master has keys"
    assert ask(cluster[1], "WAIT", 1, 5_000) == "1"
    cluster[1].kill()
    eventually(lambda: is_master(cluster[4]) and is_whole(fleet), 60)

    Crowd(fleet, 11).wait_until_ended(11)
    fleet.state_servers = [node.url for node in (cluster[0], cluster[4], cluster[2])]
    crowd.check(has_lost_writes=True)
    assert worker.process.poll() is None


def test_a_cluster_is_no_broker() -> None:
    """Said when a client is made, with what to give instead; one that is given none can look all the same."""
    cluster = "redis+cluster://127.0.0.1:1"
    with pytest.raises(ConfigurationError, match="give a broker of its own"):
        Client(cluster, cluster)

    Client(cluster).close()
