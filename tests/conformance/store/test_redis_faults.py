"""What the Redis store does when servers die, freeze, fill up, move or fork."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator

import pytest
import redis
from redis.connection import ConnectionPool

from stabilize_celery.engine.steps import Append, Hash, Increment, Items, SetFields, workflow_slot
from stabilize_celery.errors import UnreachableError, WritesRefusedError
from stabilize_celery.store.contract import Transaction
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.pools import Pools, new_pool
from stabilize_celery.store.redis_store import RedisStore
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.real

W = workflow_slot("01HZY8QK6N")
K = Hash("k")
ADD_ONE = Transaction([Increment("k", "n", 1)])


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own, which keeps what it acknowledged."""
    with RedisServer(append_only=True) as server:
        yield server


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    store = RedisStore(server.url, timeout_s=0.5)
    yield store
    store.close()


def admin(server: RedisServer, *command: str) -> object:
    """Carry out one command as an operator would."""
    with redis.Redis.from_url(server.url) as client:
        return client.execute_command(*command)


def number(store: RedisStore) -> bytes | None:
    return store.look(W, (K,)).hash("k").get("n")


def commit(store: RedisStore) -> list[int | None] | None:
    with store.session(W) as session:
        session.read((K,), ("k",))
        return session.commit(ADD_ONE)


def test_a_server_killed_between_read_and_commit(server: RedisServer, store: RedisStore) -> None:
    """The commit answers that nothing is known; reads say who can't be reached; later it all goes on."""
    commit(store)
    with store.session(W) as session:
        session.read((K,), ("k",))
        server.kill()
        assert session.commit(ADD_ONE) is None
        with pytest.raises(UnreachableError, match=f"127.0.0.1:{server.port}"):
            session.read((K,))
    with pytest.raises(UnreachableError):
        store.events(W.name, "0", 50, 5)
    with pytest.raises(UnreachableError):
        store.locks()

    server.start()

    assert (number(store), commit(store)) == (b"1", [2])


def test_watches_lost_with_the_connection(server: RedisServer, store: RedisStore) -> None:
    """A session that lost what it watched does not commit, however well the new connection works."""
    with store.session(W) as session:
        session.read((K,), ("k",))
        admin(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(UnreachableError):
            session.read((K,))
        assert session.commit(ADD_ONE) is None
        assert session.commit(ADD_ONE) == [1]


def test_a_connection_that_the_server_closed_is_replaced(server: RedisServer, store: RedisStore) -> None:
    """Pooled connections that the server has closed are no error for a read, nor for a look."""
    commit(store)
    with store.session(W) as session:
        session.read((K,))
        admin(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        assert session.read((K,), ("k",)).hash("k") == {"n": b"1"}
        assert session.commit(ADD_ONE) == [2]
    admin(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert number(store) == b"2"


def test_a_frozen_server(server: RedisServer, store: RedisStore) -> None:
    """Nobody waits longer than the timeout, and what was in flight is not known."""
    with store.session(W) as session:
        session.read((K,), ("k",))
        server.freeze()
        try:
            assert session.commit(ADD_ONE) is None
            with pytest.raises(UnreachableError, match="Timeout"):
                number(store)
        finally:
            server.thaw()

    assert number(store) in (None, b"1")
    assert commit(store) in ([1], [2])


def test_nobody_listens() -> None:
    """The error says where, and what to do, without user name and password."""
    port = free_port()
    store = RedisStore(f"redis://user:secret@127.0.0.1:{port}/3")

    with pytest.raises(UnreachableError) as caught:
        store.partitions()
    assert f"redis://127.0.0.1:{port}/3" in str(caught.value)
    assert "secret" not in repr(caught.value) + str(caught.value) + repr(store)


def test_a_wrong_password(server: RedisServer) -> None:
    """Redis' own words, and not the password."""
    admin(server, "CONFIG", "SET", "requirepass", "right")
    store = RedisStore(server.url.replace("//", "//:secret@", 1))

    with pytest.raises(UnreachableError, match="password") as caught:
        store.time_ms()
    assert "secret" not in str(caught.value)
    store.close()


def test_a_server_that_lost_its_data_keeps_the_number_of_partitions(server: RedisServer) -> None:
    """Who comes next with other settings looks for workflows where the living workers do."""
    worker = RedisStore(server.url, partitions=64)
    worker.partitions()
    admin(server, "FLUSHALL")

    worker.first_due([0], 1)
    newcomer = RedisStore(server.url, partitions=16)

    assert newcomer.partitions() == 64
    worker.close()
    newcomer.close()


def test_two_numbers_of_partitions_are_told_once(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has come first: nothing can be mended here, and an operator has to know."""
    worker = RedisStore(server.url, partitions=64)
    worker.partitions()
    admin(server, "FLUSHALL")
    admin(server, "SET", "stabilize:partitions", "16")

    for _ in range(3):
        worker.first_due([0], 1)

    assert [record.getMessage()[:59] for record in caplog.records] == [
        "stabilize:partitions is 16 now, and this process counts 64:"
    ]
    worker.close()


def test_out_of_memory(server: RedisServer, store: RedisStore) -> None:
    """A full server refuses the whole transaction, and the error says so; reading goes on."""
    store.partitions()
    admin(server, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(WritesRefusedError, match="out of memory"):
        commit(store)
    assert number(store) is None
    admin(server, "CONFIG", "SET", "maxmemory", "0")

    assert commit(store) == [1]


def test_a_read_only_replica(server: RedisServer, store: RedisStore) -> None:
    """A transaction on a replica is refused as a whole, with what to change."""
    store.partitions()
    admin(server, "REPLICAOF", "127.0.0.1", str(free_port()))

    with pytest.raises(WritesRefusedError, match="replica"):
        commit(store)


def test_a_command_that_fails_inside_exec(store: RedisStore) -> None:
    """EXEC does not roll back: the error says that the rest was written."""
    with store.session(W) as session:
        session.commit(Transaction([Append("l", "x")]))
        with pytest.raises(StoreError, match="was written"):
            session.commit(Transaction([Increment("k", "n", 1), SetFields("l", {"a": 1}), Increment("k", "n", 1)]))

    assert number(store) == b"2"


def test_an_exception_amid_replies_leaves_no_debris(server: RedisServer, store: RedisStore) -> None:
    """A time limit that strikes while replies are awaited costs the connection, not the next user's answers."""

    class TimeLimit(BaseException):
        pass

    def strike(*_: object) -> None:
        raise TimeLimit

    commit(store)
    before = signal.signal(signal.SIGUSR1, strike)
    server.freeze()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(TimeLimit), store.session(W) as session:
            session.read((Items("l"),), ("k",))
    finally:
        server.thaw()
        timer.join()
        signal.signal(signal.SIGUSR1, before)

    assert number(store) == b"1"


def _in_a_child(store: RedisStore, rounds: int) -> None:
    for _ in range(rounds):
        while commit(store) is None:
            pass


def test_a_fork_makes_its_own_connections(store: RedisStore) -> None:
    """Parent and children share a store and count every commit, also when the parent forks amid a session."""
    context = multiprocessing.get_context("fork")
    with store.session(W) as session:
        session.read((K,), ("k",))
        children = [context.Process(target=_in_a_child, args=(store, 20)) for _ in range(2)]
        for child in children:
            child.start()
        _in_a_child(store, 20)
        for child in children:
            child.join(30)

        assert session.commit(ADD_ONE) is None
    assert [child.exitcode for child in children] == [0, 0]
    assert number(store) == b"60"


def test_a_reader_that_waits_notices_the_end_of_the_server(server: RedisServer, store: RedisStore) -> None:
    """Who waits for events hears of a dead server at once, not at the end of the wait."""
    store.partitions()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            store.events(W.name, "0", 60_000, 5)
        except UnreachableError as error:
            failures.append(error)

    reader = threading.Thread(target=wait)
    reader.start()
    while not _blocked_clients(server):
        pass
    server.kill()
    reader.join(10)

    assert len(failures) == 1


def test_many_sessions_at_once(store: RedisStore) -> None:
    """There is no limit of connections to run into."""
    sessions = [store.session(W) for _ in range(150)]
    for session in sessions:
        session.__enter__().read((K,), ("k",))
    for session in sessions:
        session.__exit__(None, None, None)

    assert commit(store) == [1]
    assert store.look(W, (Items("none"),))[Items("none")] == []


def _blocked_clients(server: RedisServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("clients")["blocked_clients"])


class Replaced(Pools):
    """Two nodes of a cluster: what is known of who has the keys is out of date until a loss puts it in doubt."""

    def __init__(self, lost: RedisServer, successor: RedisServer) -> None:
        self._nodes = [
            new_pool({"port": node.port, "socket_timeout": 1.0, "protocol": 2}) for node in (lost, successor)
        ]
        self._is_known = False

    def pool_for(self, _key: str) -> ConnectionPool:
        return self._nodes[self._is_known]

    def lost(self) -> None:
        self._is_known = True

    def close(self) -> None:
        for node in self._nodes:
            node.disconnect()


@pytest.mark.parametrize("act", ["commit", "look", "wait"])
def test_who_took_over_is_asked_at_once(server: RedisServer, act: str) -> None:
    """A node is gone, and another one has its slots already: nobody has to be told that it can't be reached."""
    with RedisServer() as gone:
        store = RedisStore(server.url, make_pools=lambda _: Replaced(gone, server))
        gone.kill()
        acts = {
            "commit": lambda: commit(store),
            "look": lambda: number(store),
            "wait": lambda: store.events(W.name, "0", 10, 5),
        }

        assert acts[act]() == {"commit": [1], "look": None, "wait": []}[act]
        store.close()
