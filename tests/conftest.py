"""Servers that tests share. One that is missing fails the tests that need it; nothing is skipped."""

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Generator, Iterator
from typing import IO

import pytest
import redis
from celery import _state as celery_state
from hypothesis import settings

from tests.servers import RedisServer

# A shell's background job ignores SIGINT, and so would every process that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


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


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The simulated fleet switches logging off; whoever comes later may look at what is logged."""
    disabled = logging.root.manager.disable
    yield
    logging.disable(disabled)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails says how its page and its fleets were then: what is rare need not be seen twice."""
    report = yield
    if report.when == "call" and report.failed:
        if "page" in item.funcargs:
            report.sections.append(("the page", sys.modules["tests.integration.browser"].told(item.funcargs["page"])))
        if "tests.integration.fleet" in sys.modules:
            for fleet in sys.modules["tests.integration.fleet"].Fleet.at_work:
                report.sections.extend(fleet.told().items())
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that want the machine for themselves come first, in one go: the others stand still once, and not each time."""
    items.sort(key=lambda item: not _is_alone(item))


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


_RUNNING = pytest.StashKey[IO[str]]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Where tests run in several processes, those that measure (`alone`) have the machine for themselves.

    Each test holds one file; whoever wants it alone holds the other one too, at which those that come later stop. What
    is held alone is kept for the next test that wants it so.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    stash = item.config.stash
    if _RUNNING not in stash:
        stash[_RUNNING] = _turn(item)
    try:
        return (yield)
    finally:
        if not (_is_alone(item) and _is_alone(nextitem)):
            stash[_RUNNING].close()
            del stash[_RUNNING]


def _turn(item: pytest.Item) -> IO[str]:
    """Wait until a test may run; it may until the file that this returns is closed."""
    how = fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH
    folder = item.config.cache.mkdir("alone")
    running = (folder / "running").open("w")
    with (folder / "turn").open("w") as turn:
        fcntl.flock(turn, how)
        fcntl.flock(running, how)
    return running
