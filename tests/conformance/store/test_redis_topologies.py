"""Sentinel, Cluster and TLS: the same store where the server is not one plain server."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.steps import Hash, Increment, SetFields, Value, lock_slot, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.leases import Leases
from stabilize_celery.runtime.ports import Claim
from stabilize_celery.settings import Settings
from stabilize_celery.store import keys
from stabilize_celery.store.contract import Filter, Put, Store, Transaction
from stabilize_celery.store.redis_store import RedisStore
from tests.clusters import ask, cluster_of, wait_for
from tests.conformance.store.registry_contract import LedgerContract, ReadingContract, begin, pages
from tests.conformance.store.store_contract import SessionContract
from tests.servers import RedisServer
from tests.tls_proxy import self_signed, tls_proxy
from tests.unit.runtime.world import RecordingPublisher

pytestmark = pytest.mark.real

W = workflow_slot("01HZY8QK6N")
K = Hash("k")
ADD_ONE = Transaction([Increment("k", "n", 1)])
_PATIENT = ("--cluster-node-timeout", "30000")
"""A node that a test kills or freezes is not taken for lost by the other one."""


# -- Cluster -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    """Two masters with half of the slots each."""
    with cluster_of(2, *_PATIENT) as nodes:
        yield nodes


@pytest.fixture
def cluster_store(cluster: list[RedisServer]) -> Iterator[RedisStore]:
    for server in cluster:
        ask(server, "FLUSHALL")
    store = RedisStore(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    yield store
    store.close()


class TestClusterStore(SessionContract, LedgerContract, ReadingContract):
    """Against two nodes."""

    @pytest.fixture
    def store(self, cluster_store: RedisStore) -> Store:
        return cluster_store

    @pytest.fixture
    def let_pass(self) -> Callable[[int], None]:
        return lambda ms: time.sleep(ms / 1000)


def test_keys_are_spread(cluster: list[RedisServer], cluster_store: RedisStore) -> None:
    """Partitions and locks lie on both nodes."""
    for number in range(40):
        begin(cluster_store, number, 1_000)
        with cluster_store.session(lock_slot(f"L{number}")) as session:
            session.commit(Transaction([SetFields("h", {"o": 1})]))

    assert all(int(str(ask(server, "DBSIZE"))) > 40 for server in cluster)
    assert len(cluster_store.locks()) == 40
    assert len(pages(cluster_store, Filter(), 7)) == 40


def test_what_lies_in_one_partition_is_written_at_once(cluster_store: RedisStore) -> None:
    """Keys of several partitions may lie on several nodes, and no EXEC spans them."""
    slots = [workflow_slot(f"wf{number}") for number in range(60)]

    groups = cluster_store.groups(slots)

    assert [{cluster_store.partition_of(slot.name) for slot in group} for group in groups] == [
        {cluster_store.partition_of(group[0].name)} for group in groups
    ]
    assert len(groups) == len({cluster_store.partition_of(slot.name) for slot in slots})


def test_a_slot_that_moves(cluster: list[RedisServer], cluster_store: RedisStore) -> None:
    """A session whose slot moved meanwhile is in conflict; the next one finds the new node."""
    other = RedisStore(f"redis+cluster://127.0.0.1:{cluster[1].port}")
    partition = keys.partition_prefix("stabilize", other.partition_of(W.name))
    with cluster_store.session(W) as session:
        session.read((K,), ("k",))
        _move(cluster, partition)
        assert session.commit(ADD_ONE) is None
    with cluster_store.session(W) as session:
        session.read((K,), ("k",))
        _move(cluster, partition)
        session.read((K,), ("k",))
        assert session.commit(ADD_ONE) is None
        assert session.commit(Transaction([Increment("k", "n", 1)], [Put("n", {"t": 1}, 5)])) == [1]

    assert other.look(W, (K,)).hash("k") == {"n": b"1"}
    with other.session(W) as session:
        session.read((K,), ("k",))
        done = session.commit_and_read(ADD_ONE, (K,), ("k",))
        assert done is not None
        assert done[1].hash("k") == {"n": b"2"}
    other.close()


def test_a_look_at_a_slot_that_moved(cluster: list[RedisServer], cluster_store: RedisStore) -> None:
    """Reads without a watch go on at the new node, in the same call."""
    partition = keys.partition_prefix("stabilize", cluster_store.partition_of(W.name))
    cluster_store.look(W, (K,))
    assert cluster_store.events(W.name, "0", 10, 5) == []
    _move(cluster, partition)

    assert cluster_store.look(W, (K,)).hash("k") == {}
    _move(cluster, partition)
    assert cluster_store.events(W.name, "0", 10, 5) == []


def test_a_node_that_is_away(cluster: list[RedisServer]) -> None:
    """One of the nodes in the URL is enough; none of them is an error that names them."""
    store = RedisStore(f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster[1].port}")
    assert store.look(W, (Hash("nowhere"),)).hash("nowhere") == {}
    store.close()
    lost = RedisStore("redis+cluster://127.0.0.1:1")
    for attempt in (lost.partitions, lost.time_ms):
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
            attempt()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_node_lost_for_good_holds_up_nothing_but_its_own(lost: int) -> None:
    """What is owed on the other node is published, its tasks keep their leases and begin again when they are lost.

    One of the two nodes has the clock, the probes and the list of workers for all: that one is lost, too.
    """
    with cluster_of(2, *_PATIENT, "--cluster-require-full-coverage", "no") as nodes:
        store = RedisStore(f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}")
        publisher, settings = RecordingPublisher(), Settings()
        mine, gone = _workflow_on(store, nodes[1 - lost]), _workflow_on(store, nodes[lost])
        running, begun_ms = Claim(mine, "Run:running..0", "worker-1/a"), store.time_ms()
        for workflow_id in (mine, gone):
            for name in ("Run:running..0", "Run:lost..0"):
                _owe(store, workflow_id, name, own="worker-1/a", pub=1)
            _owe(store, workflow_id, "Run:new..0", pub=0)
            _owe(store, workflow_id, "Run:waits..0", pub=begun_ms)
        # In touch for long enough, by leases that are short, it takes back what has run out.
        keeper = Keeper(store, publisher, Settings(lease_ms=300), "worker-1")
        keeper.renew()
        assert len(keeper.held) == store.partitions()
        nodes[lost].kill()

        with pytest.raises(UnreachableError):
            Leases(store, publisher, settings, "worker-1").extend([Claim(gone, running.name, running.owner), running])

        def reaps() -> int:
            keeper.renew()
            keeper.tick()
            return keeper.stats.reaped

        wait_for(lambda: reaps() > 0, "nothing is taken back")
        published = {message.task_id for message in publisher.take() if message.kind == "RunTask"}
        assert published - {f"{mine}/Run:waits..0"} == {f"{mine}/Run:lost..0", f"{mine}/Run:new..0"}
        assert 0 < len(keeper.held) < store.partitions()
        assert store.partition_of(gone) not in keeper.held
        keeper.give_back()
        held, _ = store.take_leases("worker-2", range(store.partitions()), 60_000)
        store.give_leases_back("worker-2", range(store.partitions()))
        assert store.take_leases("worker-3", range(store.partitions()), 60_000)[0] == held
        with pytest.raises(UnreachableError):
            store.first_due(range(store.partitions()), 1)
        store.close()


def test_a_node_that_takes_no_writes_holds_up_nothing_but_its_own() -> None:
    """It is full, or has lost its replicas: the keepers look after what lies elsewhere, and after all of it later."""
    with cluster_of(2, *_PATIENT) as nodes:
        store = RedisStore(f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}")
        publisher = RecordingPublisher()
        here, there = _workflow_on(store, nodes[0]), _workflow_on(store, nodes[1])
        for workflow_id in (here, there):
            _owe(store, workflow_id, "Run:new..0", pub=0)
        ask(nodes[1], "CONFIG", "SET", "min-replicas-to-write", "1")
        keeper = Keeper(store, publisher, Settings(), "worker-1")

        keeper.renew()
        keeper.tick()
        meanwhile = {message.task_id for message in publisher.take() if message.kind == "RunTask"}
        ask(nodes[1], "CONFIG", "SET", "min-replicas-to-write", "0")
        keeper.renew()
        keeper.tick()
        afterwards = {message.task_id for message in publisher.take() if message.kind == "RunTask"}
        store.close()

    assert meanwhile == {f"{here}/Run:new..0"}
    assert afterwards >= {f"{there}/Run:new..0"}


def test_a_node_that_swallows_costs_one_time_out() -> None:
    """However many partitions lie on a node that takes connections and never answers: leases elsewhere are extended."""
    timeout_s = 0.5
    with cluster_of(2, *_PATIENT, "--cluster-require-full-coverage", "no") as nodes:
        # The silent one comes first: the map of slots is not asked of it again and again, either.
        store = RedisStore(
            f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}", timeout_s=timeout_s
        )
        names = [f"s{number}" for number in range(100)]
        here = {store.partition_of(name): name for name in names if _is_on(store, nodes[1], name)}
        gone = {store.partition_of(name): name for name in names if _is_on(store, nodes[0], name)}
        assert len(gone) > 4
        claims = [Claim(name, "Run:running..0", "worker-1/a") for name in (*gone.values(), *here.values())]
        for claim in claims:
            _owe(store, claim.workflow_id, claim.name, own=claim.owner, pub=1)
        nodes[0].freeze()
        try:
            began = time.monotonic()
            with pytest.raises(UnreachableError):
                Leases(store, RecordingPublisher(), Settings(), "worker-1").extend(claims)
            took_s = time.monotonic() - began
        finally:
            nodes[0].thaw()

        assert took_s < len(gone) * timeout_s
        _, due = store.first_due(sorted(here), 1_000, partly=True)
        extended = {one.workflow_id for found in due.values() for one in found if one.due_ms > 1}
        assert extended >= set(here.values())
        store.close()


def _is_on(store: RedisStore, node: RedisServer, workflow_id: str) -> bool:
    return _owns(node, _slot_of(keys.partition_prefix("stabilize", store.partition_of(workflow_id))))


def _workflow_on(store: RedisStore, node: RedisServer) -> str:
    """Return the id of a workflow that lies there."""
    ids = (f"w{number}" for number in range(1_000))
    return next(name for name in ids if _is_on(store, node, name))


def _slot_of(prefix: str) -> int:
    return key_slot(prefix.encode())


def _owe(store: RedisStore, workflow_id: str, name: str, **fields: Value) -> None:
    """Write an entry that is due."""
    thread, _, _ = name.removeprefix("Run:").partition(".")
    arguments = pack({"ref_id": "pay", "thread": thread, "task_index": 0, "task_type": "charge"})
    entry: dict[str, Value] = {"t": "RunTask", "v": 1, "a": arguments, "nb": 0, "q": "work", **fields}
    with store.session(workflow_slot(workflow_id)) as session:
        assert session.commit(Transaction(ledger=[Put(name, entry, 1)])) is not None


def test_settings_of_each_node_count(cluster: list[RedisServer], cluster_store: RedisStore) -> None:
    """State lies on all of them: one that may forget it is told, whichever it is."""
    for node in cluster:
        ask(node, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            assert cluster_store.health()["maxmemory_policy"] == "allkeys-lru"
        finally:
            ask(node, "CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_a_cluster_that_is_down_says_so() -> None:
    """One that wants all slots covered serves none when a node is lost: that is no move of slots."""
    with cluster_of(2, "--cluster-node-timeout", "500") as (one, two):
        store = RedisStore(f"redis+cluster://127.0.0.1:{one.port}")
        mine = _workflow_on(store, one)
        two.kill()
        wait_for(lambda: "cluster_state:fail" in str(ask(one, "CLUSTER", "INFO")), "nobody misses the other node")

        with pytest.raises(UnreachableError, match="cluster is down"):
            store.look(workflow_slot(mine), (K,))
        store.close()


def test_a_server_that_is_no_cluster(redis_url: str) -> None:
    """The server's own words tell what is wrong."""
    store = RedisStore(redis_url.replace("redis:", "redis+cluster:"))

    with pytest.raises(UnreachableError, match="cluster support disabled"):
        store.partitions()
    store.close()


def _move(cluster: list[RedisServer], partition: str) -> None:
    """Give the slot of a partition, and what is in it, to the other node."""
    slot = int(str(ask(cluster[0], "CLUSTER", "KEYSLOT", partition)))
    ids = [str(ask(server, "CLUSTER", "MYID")) for server in cluster]
    count = [int(str(ask(server, "CLUSTER", "COUNTKEYSINSLOT", slot))) for server in cluster]
    owner = next(at for at, server in enumerate(cluster) if _owns(server, slot))
    assert count == [0, 0], "only empty slots are moved here"
    # Only what a node imports is its own by a new epoch: else what the nodes tell each other may undo the move.
    ask(cluster[1 - owner], "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
    ask(cluster[owner], "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1 - owner])
    for server in (cluster[1 - owner], cluster[owner]):
        ask(server, "CLUSTER", "SETSLOT", slot, "NODE", ids[1 - owner])


def _owns(server: RedisServer, slot: int) -> bool:
    ranges = ask(server, "CLUSTER", "SLOTS")
    assert isinstance(ranges, list)
    return any(first <= slot <= last and node[1] == server.port for first, last, node, *_ in ranges)


# -- Sentinel ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sentinels() -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A sentinel, a master and its replica."""
    at_once = ("--repl-diskless-sync-delay", "0")
    with RedisServer(*at_once) as master, RedisServer("--replicaof", "127.0.0.1", str(master.port)) as replica:
        settings = [f"monitor shop 127.0.0.1 {master.port} 1", "down-after-milliseconds shop 500"]
        with RedisServer(sentinel=settings) as sentinel:
            wait_for(lambda: "slave0" in str(ask(master, "INFO", "replication")), "no replica")
            wait_for(lambda: _replicas(sentinel) == 1, "the sentinel finds no replica")
            yield sentinel, master, replica


def test_a_fail_over(sentinels: tuple[RedisServer, RedisServer, RedisServer]) -> None:
    """Connections go to the master that the sentinels name, also after it has changed."""
    sentinel, master, _ = sentinels
    store = RedisStore(f"sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/0?master=shop")
    assert _try(store) == [1]
    # A replica's first copy may take longer than one answer may.
    wait_for(lambda: ask(master, "WAIT", 1, 500) == 1, "no replica has what was written")

    wait_for(lambda: _is_asked_to_fail_over(sentinel), "the sentinel takes no replica for a good one")

    wait_for(lambda: _master(sentinel) != str(master.port), "no fail-over")
    # A call may meet the old master while that is being demoted, and not know whether it was carried out.
    wait_for(lambda: _went_through(store), "the store does not follow")
    assert int(store.look(W, (K,)).hash("k")["n"]) >= 2
    store.close()


def test_an_old_master_that_lives_on_is_left(sentinels: tuple[RedisServer, RedisServer, RedisServer]) -> None:
    """After a planned failover it answers and takes writes until it is told, and nobody keeps them."""
    sentinel, master, replica = sentinels
    store = RedisStore(f"sentinel://127.0.0.1:{sentinel.port}/0?master=shop")
    assert _try(store) == [1]
    wait_for(lambda: ask(master, "WAIT", 1, 500) == 1, "no replica has what was written")
    ask(replica, "REPLICAOF", "NO", "ONE")
    ask(sentinel, "SENTINEL", "REMOVE", "shop")
    ask(sentinel, "SENTINEL", "MONITOR", "shop", "127.0.0.1", replica.port, 1)

    def is_there() -> bool:
        _try(store)
        with redis.Redis.from_url(replica.url) as client:
            return any(client.hget(key, "n") == b"2" for key in client.scan_iter("*:k"))

    wait_for(is_there, "it goes on writing to the old master")
    with redis.Redis.from_url(master.url) as client:
        assert client.info("replication")["role"] == "master"
    store.close()


def test_sentinels_that_name_no_master_are_told_in_words() -> None:
    """As during a fail-over: the text names the sentinels and the master, and shows no object."""
    with RedisServer(sentinel=["resolve-hostnames no"]) as sentinel:
        store = RedisStore(f"sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/0?master=shop")
        with pytest.raises(UnreachableError, match="shop") as told:
            store.time_ms()
        store.close()

    assert "<" not in str(told.value)


def _try(store: RedisStore) -> list[int | None] | None:
    with store.session(W) as session:
        session.read((K,), ("k",))
        return session.commit(ADD_ONE)


def _is_asked_to_fail_over(sentinel: RedisServer) -> bool:
    try:
        return bool(ask(sentinel, "SENTINEL", "FAILOVER", "shop"))
    except redis.ResponseError:
        return False  # it has not looked at the replica since that came


def _went_through(store: RedisStore) -> bool:
    try:
        return _try(store) is not None
    except UnreachableError:
        return False


def _replicas(sentinel: RedisServer) -> int:
    found = ask(sentinel, "SENTINEL", "REPLICAS", "shop")
    return len(found) if isinstance(found, list) else 0


def _master(sentinel: RedisServer) -> str:
    found = ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop")
    assert isinstance(found, list)
    return str(found[1])


# -- TLS ---------------------------------------------------------------------------------------------------------------


def test_tls(tmp_path: Path) -> None:
    """`rediss://` speaks TLS and checks the certificate that it is told to trust."""
    certificate, key = self_signed(tmp_path)
    with RedisServer() as server, tls_proxy(server.port, certificate, key) as port:
        store = RedisStore(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}")
        assert _try(store) == [1]
        store.close()
        stranger = RedisStore(f"rediss://127.0.0.1:{port}/0")
        with pytest.raises(UnreachableError, match="certificate verify failed"):
            stranger.time_ms()
        stranger.close()
