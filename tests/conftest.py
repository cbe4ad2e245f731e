"""Servers that tests share. One that is missing fails the tests that need it; nothing is skipped."""

import fcntl
import os
import signal
from collections.abc import Generator, Iterator

import pytest
import redis
from celery import _state as celery_state

from tests.servers import RedisServer

# A shell's background job ignores SIGINT, and so would every process that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real server for the whole run. Don't stop it: start your own for that."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a real server with nothing in it."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(autouse=True)
def celery_of_its_own() -> Iterator[None]:
    """Tasks and apps of one test are no other's: Celery shares tasks with each later app of the process by default."""
    shared, default, current = (
        set(celery_state._on_app_finalizers),
        celery_state.default_app,
        celery_state._tls.current_app,
    )
    yield
    celery_state._on_app_finalizers.intersection_update(shared)
    celery_state.default_app = default
    celery_state._tls.current_app = current


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where tests run in several processes, those that measure (`alone`) have the machine for themselves.

    Each test holds one file; whoever wants it alone holds the other one too, at which those that come later stop.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    how = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    folder = item.config.cache.mkdir("alone")
    with (folder / "turn").open("w") as turn, (folder / "running").open("w") as running:
        fcntl.flock(turn, how)
        fcntl.flock(running, how)
        fcntl.flock(turn, fcntl.LOCK_UN)
        return (yield)
