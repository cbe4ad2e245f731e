"""A master is lost and its replica takes over, behind sentinels and in a Redis Cluster; slots move between its nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis
from redis.crc import key_slot

from stabilize_celery.client import Client
from stabilize_celery.errors import ConfigurationError, UnreachableError
from stabilize_celery.store import keys
from tests.chaos.crowds import Crowd
from tests.chaos.fleet import STATE_SERVER, ChaosFleet
from tests.clusters import ask, cluster_of, meet
from tests.integration.fleet import eventually
from tests.servers import RedisServer

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

DOWN_AFTER_MS = 1_500


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
            eventually(lambda one=sentinel: "num-slaves" in str(ask(one, "SENTINEL", "MASTER", "shop")))
            eventually(lambda one=sentinel: str(replica.port) in str(ask(one, "SENTINEL", "REPLICAS", "shop")))
            eventually(lambda one=sentinel: str(ask(one, "SENTINEL", "SENTINELS", "shop")).count("runid") == 2)
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
    assert ask(master, "WAIT", 1, 5_000) == 1
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
    options = (*STATE_SERVER, "--cluster-node-timeout", "2000")
    with cluster_of(3, *options, append_only=True) as masters, ExitStack() as stack:
        replicas = [
            stack.enter_context(
                RedisServer(*options, "--cluster-enabled", "yes", append_only=True, extra_ports=("--cluster-port",))
            )
            for _ in masters
        ]
        meet(masters[0], *replicas)
        for master, replica in zip(masters, replicas, strict=True):
            known = node_id(master)
            eventually(lambda one=replica, known=known: known in str(ask(one, "CLUSTER", "NODES")))
            ask(replica, "CLUSTER", "REPLICATE", known)
        for replica in replicas:
            eventually(lambda one=replica: follows(one))
        yield [*masters, *replicas]


def test_a_cluster_loses_a_node(
    new_fleet: Callable[..., ChaosFleet], cluster: list[RedisServer], server: RedisServer
) -> None:
    """Its replica is promoted; workflows of the other slots do not even wait."""
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster[:2])
    fleet = new_fleet(state=f"redis+cluster://{hosts}", broker=server.url)
    worker = fleet.add_worker()
    crowd = Crowd(fleet, 66)
    crowd.wait_until_ended(12)
    assert all(ask(node, "DBSIZE") for node in cluster[:3]), "not every master has keys"
    assert ask(cluster[1], "WAIT", 1, 5_000) == 1
    cluster[1].kill()
    eventually(lambda: is_master(cluster[4]) and is_whole(fleet), 60)

    Crowd(fleet, 11).wait_until_ended(11)
    fleet.state_servers = [node.url for node in (cluster[0], cluster[4], cluster[2])]
    crowd.check(has_lost_writes=True)
    assert worker.process.poll() is None


def test_partitions_move_to_another_node(
    new_fleet: Callable[..., ChaosFleet], cluster: list[RedisServer], server: RedisServer
) -> None:
    """A few keys at a time, while their workflows run: what meets a slot on its way waits, and nothing is repaired."""
    masters = cluster[:3]
    fleet = new_fleet(state=f"redis+cluster://127.0.0.1:{masters[0].port}", broker=server.url)
    fleet.state_servers = [node.url for node in masters]
    worker = fleet.add_worker()
    crowd = Crowd(fleet, 44)
    moves = [Move(masters, key_slot(keys.partition_prefix("stabilize", number).encode())) for number in range(16)]
    for move in moves:
        move.carry(10)
    eventually(lambda: "the keys are being moved" in worker.log)
    for move in moves:
        while move.carry(10):
            pass
        move.finish()

    crowd.check()
    assert "Traceback" not in worker.log, "a slot that moves was taken for a bug"


class Move:
    """A slot on its way to the next master, as `redis-cli --cluster reshard` does it."""

    def __init__(self, masters: list[RedisServer], slot: int) -> None:
        (at,) = (number for number, node in enumerate(masters) if owns(node, slot))
        self.masters, self.slot = masters, slot
        self.source, self.target = masters[at], masters[(at + 1) % len(masters)]
        ask(self.target, "CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(self.source))
        ask(self.source, "CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(self.target))

    def carry(self, most: int) -> int:
        """Carry some of its keys over; return how many there were to carry."""
        with redis.Redis.from_url(self.source.url) as client:
            found = client.cluster("GETKEYSINSLOT", self.slot, most)
            if found:
                client.migrate("127.0.0.1", self.target.port, found, 0, 5_000)
        return len(found)

    def finish(self) -> None:
        """Tell all masters whose it is now."""
        for node in (self.target, self.source, *self.masters):
            ask(node, "CLUSTER", "SETSLOT", self.slot, "NODE", node_id(self.target))


def node_id(node: RedisServer) -> str:
    """Return its name within the cluster."""
    return str(ask(node, "CLUSTER", "MYID"))


def owns(node: RedisServer, slot: int) -> bool:
    """Return whether a node has a slot, as far as it knows."""
    with redis.Redis.from_url(node.url) as client:
        return any(first <= slot <= last and who[1] == node.port for first, last, who, *_ in client.cluster("SLOTS"))


def test_a_cluster_is_no_broker() -> None:
    """Said when a client is made, with what to give instead; one that is given none can look all the same."""
    cluster = "redis+cluster://127.0.0.1:1"
    with pytest.raises(ConfigurationError, match="give a broker of its own"):
        Client(cluster, cluster)

    Client(cluster).close()
