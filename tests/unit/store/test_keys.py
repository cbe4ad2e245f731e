"""Keys: one slot per workflow and per lock, and names that never run into each other."""

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from stabilize_celery.engine.steps import Slot, lock_slot, workflow_slot
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.settings import check_namespace
from stabilize_celery.store import keys
from stabilize_celery.store.addresses import address_of
from stabilize_celery.store.contract import partition_slot
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.pools import Pools
from stabilize_celery.store.redis_store import RedisStore

names = st.text(st.characters(codec="utf-8"), min_size=1)


def store_on(server: fakeredis.FakeServer, partitions: int) -> RedisStore:
    pools = Pools(lambda: fakeredis.FakeRedis(server=server, protocol=2).connection_pool)
    return RedisStore("redis://fake", partitions=partitions, make_pools=lambda _: pools)


def test_the_keys_of_a_workflow() -> None:
    """The physical names are part of the stored format: they never change."""
    partition = keys.partition_prefix("ns", 3)
    workflow = keys.workflow_prefix(partition, "W")

    assert keys.due(partition) == "ns:{p03}:due"
    assert keys.buried(partition) == "ns:{p03}:dead"
    assert keys.lease(partition) == "ns:{p03}:lease"
    assert keys.running(partition) == "ns:{p03}:running"
    assert keys.ended(partition) == "ns:{p03}:ended"
    assert keys.index_every(partition) == "ns:{p03}:ix:all"
    assert keys.index_application(partition, "a") == "ns:{p03}:ix:app:a"
    assert keys.index_name(partition, "n") == "ns:{p03}:ix:name:n"
    assert keys.index_status(partition, "RUNNING") == "ns:{p03}:ix:status:RUNNING"
    assert keys.entry(workflow, "Start:x") == "ns:{p03}:W:m:Start:x"
    assert keys.events(workflow) == "ns:{p03}:W:ev"
    assert keys.workflow(workflow) == "ns:{p03}:W:w"


def test_the_keys_of_a_namespace() -> None:
    """What belongs to no partition has no hash tag."""
    assert [make("ns") for make in (keys.partitions, keys.workers, keys.probes)] == [
        "ns:partitions",
        "ns:workers",
        "ns:q:back",
    ]


def test_statuses_are_the_models() -> None:
    """Every status of a workflow has its index."""
    assert set(keys.STATUSES) == {status.name for status in WorkflowStatus}


@pytest.mark.parametrize(("workflow_id", "partition"), [("123456789", 0x31C3 % 16), ("01HZY8QK6N", 6)])
def test_partition_of_is_the_clusters_crc(workflow_id: str, partition: int) -> None:
    """CRC16 as Redis Cluster has it (its check value is 31C3), so the spread is the same in every client."""
    assert keys.partition_of(workflow_id, 16) == partition


@given(names)
def test_lock_names_come_back(name: str) -> None:
    """What was escaped is read back as it was, whatever stands in it."""
    assert keys.lock_name("ns", keys.lock_prefix("ns", name) + "h") == name


@given(names, names, names)
def test_a_lock_is_one_slot(name: str, one: str, other: str) -> None:
    """All keys of a lock hash to the same slot."""
    address = address_of(lock_slot(name), "ns", 16)

    assert key_slot(address.key(one).encode()) == key_slot(address.key(other).encode())


@given(names, names)
def test_two_locks_never_share_a_key(one: str, other: str) -> None:
    """Different names have different prefixes, none of which continues the other."""
    prefixes = keys.lock_prefix("ns", one), keys.lock_prefix("ns", other)

    assert (one == other) == (prefixes[0] == prefixes[1]) == prefixes[0].startswith(prefixes[1])


def test_a_workflow_lies_in_its_partition() -> None:
    """Both slots name one key, and one hash tag."""
    workflow = address_of(workflow_slot("W"), "ns", 16)
    partition = address_of(partition_slot(keys.partition_of("W", 16)), "ns", 16)

    assert workflow.key("r:a") == partition.key("W:r:a")
    assert workflow.entry("a/b") == partition.entry("W/a/b")
    assert key_slot(workflow.key("r:a").encode()) == key_slot(keys.due(partition.of_partition()).encode())


@pytest.mark.parametrize("name", ["W", "W/", "/n", "a b/n"])
def test_a_partitions_ledger_names_say_whose(name: str) -> None:
    """Without the workflow's id nobody knows whose entry it is."""
    with pytest.raises(StoreError):
        address_of(partition_slot(0), "ns", 16).entry(name)


@pytest.mark.parametrize("namespace", ["", "a b", "a:b", "{a}", "ä", "a\n"])
def test_bad_namespaces(namespace: str) -> None:
    """A namespace has no characters that mean something in a key or a pattern."""
    with pytest.raises(ConfigurationError, match="namespace"):
        check_namespace(namespace)


def test_unknown_kinds_of_slots() -> None:
    """The error names the kinds that there are."""
    with pytest.raises(StoreError, match="workflow, lock or partition"):
        address_of(Slot("stage", "x"), "ns", 16)


@pytest.mark.parametrize("partitions", [0, 1_025])
def test_bad_numbers_of_partitions(partitions: int) -> None:
    """Every partition costs every keeper a look, so there is a limit."""
    with pytest.raises(ConfigurationError, match="partitions"):
        MemoryStore(partitions=partitions)


def test_partitions_are_read_once_they_are_written() -> None:
    """A namespace keeps its number of partitions, whatever later clients ask for."""
    server = fakeredis.FakeServer()

    assert [store_on(server, 5).partitions(), store_on(server, 9).partitions()] == [5, 5]


@pytest.mark.parametrize("stored", ["many", "", "0", "-3", "1.5", "5000"])
def test_a_number_of_partitions_that_is_none_is_named(stored: str) -> None:
    """Somebody else has written there: the error names the key, and what stands in it."""
    server = fakeredis.FakeServer()
    fakeredis.FakeRedis(server=server).set("stabilize:partitions", stored)

    with pytest.raises(StoreError, match=f"stabilize:partitions holds b'{stored}', not a number of partitions"):
        store_on(server, 5).partitions()
