"""The three stores sit the same exam."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fakeredis
import pytest
import redis
from redis._parsers import _RESP2Parser

from stabilize_celery.store.cipher import KeyRing
from stabilize_celery.store.command_store import CommandStore
from stabilize_celery.store.files import FileBlobs
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.pools import Pools, connection_options, new_pool
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.store.redis_url import read_url
from stabilize_celery.store.vault import Vault
from tests.conformance.store.registry_contract import LedgerContract, ReadingContract
from tests.conformance.store.round_trip_contract import RoundTripContract
from tests.conformance.store.store_contract import FaithfulWatchContract, SessionContract
from tests.servers import RedisServer


class StoreContract(SessionContract, LedgerContract, ReadingContract, RoundTripContract):
    """All that a store must do."""


class _Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now_us

    def let_pass(self, ms: int) -> None:
        self.now_us += ms * 1000


def _sleep_ms(ms: int) -> None:
    # A server's own clock can't be moved.
    time.sleep(ms / 1000)


class TestMemoryStore(StoreContract, FaithfulWatchContract):
    """In memory, in virtual time."""

    @pytest.fixture
    def clock(self) -> _Clock:
        return _Clock()

    @pytest.fixture
    def store(self, clock: _Clock) -> CommandStore:
        return MemoryStore(clock)

    @pytest.fixture
    def let_pass(self, clock: _Clock) -> Callable[[int], None]:
        return clock.let_pass

    def test_the_fleet_forgets_who_is_silent(self, store: CommandStore, clock: _Clock) -> None:
        """A line older than 60 s is not shown, and dropped by the next that is written; who is vouched for stays."""
        store.announce("silent", {"a": 1})
        store.announce("vouched for", {"a": 1})
        clock.let_pass(59_000)
        store.announce("w", {"a": 1}, now_alive=["vouched for", "unknown"])
        assert set(store.fleet()) == {"silent", "vouched for", "w"}
        clock.let_pass(2_000)
        assert set(store.fleet()) == {"vouched for", "w"}
        store.announce("w", {"a": 2})
        clock.now_us -= 2_000_000

        assert set(store.fleet()) == {"vouched for", "w"}

    def test_a_worker_that_was_silent_for_long_is_back_with_its_first_line(
        self, store: CommandStore, clock: _Clock
    ) -> None:
        """Its machine slept; what drops the lines of who is lost does not drop the new one."""
        store.announce("w", {"a": 1})
        store.announce("vouched for", {"a": 1})
        clock.let_pass(61_000)

        store.announce("w", {"a": 2}, now_alive=["vouched for"])

        assert {name: line["a"] for name, line in store.fleet().items()} == {"w": b"2", "vouched for": b"1"}


class TestFakeRedisStore(StoreContract):
    """Against fakeredis."""

    @pytest.fixture
    def store(self) -> Iterator[CommandStore]:
        server = fakeredis.FakeServer()
        store = RedisStore(
            "redis://fake",
            make_pools=lambda _: Pools(lambda: fakeredis.FakeRedis(server=server, protocol=2).connection_pool),
        )
        yield store
        store.close()

    @pytest.fixture
    def let_pass(self) -> Callable[[int], None]:
        return _sleep_ms


class TestVaultedMemoryStore(StoreContract, FaithfulWatchContract):
    """With every payload encrypted, and nearly all of them in files."""

    @pytest.fixture
    def clock(self) -> _Clock:
        return _Clock()

    @pytest.fixture
    def store(self, clock: _Clock, tmp_path: Path) -> CommandStore:
        vault = Vault(KeyRing({"a": b"k" * 32}), FileBlobs(str(tmp_path), "stabilize"), 40)
        return MemoryStore(clock, vault=vault)

    @pytest.fixture
    def let_pass(self, clock: _Clock) -> Callable[[int], None]:
        return clock.let_pass


class TestMemoryStoreWithBlobs(StoreContract, FaithfulWatchContract):
    """With nearly every payload a blob of its workflow."""

    @pytest.fixture
    def clock(self) -> _Clock:
        return _Clock()

    @pytest.fixture
    def store(self, clock: _Clock) -> CommandStore:
        return MemoryStore(clock, vault=Vault(blob_bytes=4))

    @pytest.fixture
    def let_pass(self, clock: _Clock) -> Callable[[int], None]:
        return clock.let_pass


@pytest.mark.real
class TestRedisStore(StoreContract, FaithfulWatchContract):
    """Against a real server."""

    @pytest.fixture
    def store(self, redis_url: str) -> Iterator[CommandStore]:
        store = RedisStore(redis_url)
        yield store
        store.close()

    @pytest.fixture
    def let_pass(self) -> Callable[[int], None]:
        return _sleep_ms


@pytest.fixture(scope="module")
def unix_server() -> Iterator[RedisServer]:
    with RedisServer("--unixsocket", "socket") as server:
        yield server


@pytest.mark.real
class TestRedisStoreWithoutHiredis(StoreContract):
    """Against a real server, with redis-py's parser in Python, over a unix socket."""

    @pytest.fixture
    def store(self, unix_server: RedisServer) -> Iterator[CommandStore]:
        url = f"unix://{unix_server.folder}/socket"
        with redis.Redis.from_url(url) as client:
            client.flushall()
        options = connection_options(read_url(url), 5.0, 5.0) | {"parser_class": _RESP2Parser}
        store = RedisStore(url, make_pools=lambda _: Pools(lambda: new_pool(options)))
        yield store
        store.close()

    @pytest.fixture
    def let_pass(self) -> Callable[[int], None]:
        return _sleep_ms
