"""Redis goes away and comes back: workers keep their process, workflows go on, producers are told at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from stabilize_celery.client import Client
from stabilize_celery.errors import UnreachableError
from stabilize_celery.settings import Settings
from tests.integration.fleet import Fleet, Worker, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real

OURS = ["stabilize-celery", "worker", "-A", "shop", "-c", "2"]
STOCK = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-c", "2", "-l", "INFO"]
DEFINITION = {"application": "shop", "name": "one", "stages": [{"ref_id": "a", "type": "x", "name": "a"}]}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer("--maxmemory-policy", "noeviction", append_only=True) as server:
        yield server


@pytest.fixture
def fleet(server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(server, tmp_path)
    try:
        yield fleet
    finally:
        fleet.stop()


def start(fleet: Fleet, command: list[str]) -> Worker:
    if command[0] == "stabilize-celery":
        command = [str(Path(sys.executable).with_name(command[0])), *command[1:], "--redis-url", fleet.state_url]
    return fleet.run_worker(command)


def is_listening(server: RedisServer) -> bool:
    """Whether the worker waits in a BRPOP: with a message that it has not acknowledged, this is what ends a stock one."""
    with redis.Redis.from_url(server.url) as client:
        return any(one["cmd"] == "brpop" for one in client.client_list())


@pytest.mark.parametrize("command", [OURS, STOCK], ids=["stabilize-celery worker", "celery worker"])
def test_a_worker_outlives_its_redis(server: RedisServer, fleet: Fleet, command: list[str]) -> None:
    """Killed while a workflow runs, back after some seconds: the process is the same, the workflow ends SUCCEEDED."""
    worker = start(fleet, command)
    workflow_id = fleet.submit("long", sleep_s=6)
    eventually(lambda: fleet.journal("start", "long"))
    eventually(lambda: is_listening(server))
    server.kill()
    eventually(lambda: "Trying again in" in worker.log)
    began = time.monotonic()
    with (
        Client(fleet.state_url, fleet.broker_url) as producer,
        pytest.raises(UnreachableError, match="Check that it runs"),
    ):
        producer.start(DEFINITION)
    assert time.monotonic() - began < 15
    eventually(lambda: fleet.journal("end", "long"), 60)
    server.start()

    assert fleet.ended(workflow_id, 90).status.name == "SUCCEEDED"
    assert fleet.ended(fleet.submit("next"), 60).status.name == "SUCCEEDED"
    assert worker.process.poll() is None
    assert worker.log.count(" ready.") == 1
    assert "Unrecoverable" not in worker.log


def test_a_worker_outlives_a_redis_that_comes_and_goes(server: RedisServer, fleet: Fleet) -> None:
    """Three times in a row, each time while something runs."""
    worker = start(fleet, OURS)
    for number in range(3):
        workflow_id = fleet.submit(f"s{number}", sleep_s=1)
        eventually(lambda ref_id=f"s{number}": fleet.journal("start", ref_id), 60)
        server.kill()
        server.start()
        assert fleet.ended(workflow_id, 90).status.name == "SUCCEEDED"

    assert worker.process.poll() is None


def test_a_worker_waits_for_a_redis_that_is_full(server: RedisServer, fleet: Fleet) -> None:
    """It neither ends nor has to be started again: once there is memory, it works."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        command = [str(Path(sys.executable).with_name("stabilize-celery")), *OURS[1:], "--redis-url", fleet.state_url]
        worker = Worker(command, fleet.folder, fleet.env, 0)
        fleet.workers.append(worker)
        eventually(lambda: worker.log.count("command not allowed when used memory") > 2, 60)
        assert worker.process.poll() is None
        client.config_set("maxmemory", "0")

    eventually(worker.is_ready, 60)
    assert fleet.ended(fleet.submit("next"), 60).status.name == "SUCCEEDED"


def test_a_producer_does_not_wait_for_a_redis_that_is_silent(server: RedisServer) -> None:
    """It is told within its socket timeout, and with a key it may try again: the workflow is started once."""
    settings = Settings(redis_url=server.url, socket_timeout_ms=1_000)
    with Client(settings=settings) as producer:
        producer.start(DEFINITION)
        server.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(UnreachableError):
                producer.start(DEFINITION, idempotency_key="order-7")
            waited_s = time.monotonic() - began
        finally:
            server.thaw()

        assert waited_s < 10
        first = producer.start(DEFINITION, idempotency_key="order-7")
        assert producer.start(DEFINITION, idempotency_key="order-7").id == first.id
        assert len(producer.list(name="one").items) == 2
