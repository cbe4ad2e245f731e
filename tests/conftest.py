"""Servers that tests share. One that is missing fails the tests that need it; nothing is skipped."""

import logging
import signal
import sys
from collections.abc import Generator, Iterator

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
