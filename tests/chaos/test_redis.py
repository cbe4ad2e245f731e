"""Redis is killed, emptied, away or full, as the state's server and as the broker's, while every kind of work runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from stabilize_celery import Workflow
from stabilize_celery.errors import UnreachableError, WritesRefusedError
from stabilize_celery.settings import CONTINUATION, FUSED, PER_MESSAGE
from tests.chaos.crowds import Crowd
from tests.chaos.fleet import ChaosFleet
from tests.chaos.flows import make, stage
from tests.integration.fleet import eventually
from tests.servers import RedisServer

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

LONGER_THAN_A_LEASE_S = 12.0
AWAY_S = 8.0
"""How long a server is away: longer than a worker's socket timeout, shorter than a test's patience."""


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    """A server for messages alone."""
    with RedisServer() as server:
        yield server


def test_redis_is_killed_and_comes_back_with_its_log(fleet: ChaosFleet, server: RedisServer) -> None:
    """State and broker at once, three times; what it had acknowledged is there, so nothing has to be repaired."""
    worker = fleet.add_worker()
    crowd = Crowd(fleet, 88)
    for ended in (15, 40, 65):
        crowd.wait_until_ended(ended)
        server.kill()
        time.sleep(1)
        server.start()

    crowd.check()
    assert worker.process.poll() is None


@pytest.mark.parametrize("how", ["silent", "killed"])
def test_long_bodies_outlive_an_outage_longer_than_their_leases(
    fleet: ChaosFleet, server: RedisServer, how: str
) -> None:
    """Whoever finds the server back first: no keeper takes a task from a worker that lives, and each body runs once."""
    workers = [fleet.add_worker(), fleet.add_worker()]
    names = [f"long{number}" for number in range(4)]
    stages = [stage(name, does="work", context={"sleep_s": LONGER_THAN_A_LEASE_S + 18}) for name in names]
    run = fleet.client.start(Workflow.create("crowd", "long", [*stages, stage("after", *names, does="work")]))
    eventually(lambda: all(fleet.journal("start", name) for name in names))
    (server.freeze if how == "silent" else server.kill)()
    time.sleep(LONGER_THAN_A_LEASE_S)
    (server.thaw if how == "silent" else server.start)()

    assert run.wait(120).status.name == "SUCCEEDED"
    assert [len(fleet.journal("start", name)) for name in [*names, "after"]] == [1] * 5
    assert [worker.process.poll() for worker in workers] == [None, None]
    Crowd.check_all(fleet)


@pytest.mark.parametrize(
    ("pool", "mode", "take_ms"),
    [
        ("prefork", PER_MESSAGE, "0"),
        ("prefork", CONTINUATION, "250"),
        ("threads", FUSED, "250"),
        ("gevent", PER_MESSAGE, "250"),
        ("solo", CONTINUATION, "0"),
    ],
)
def test_bodies_that_end_during_an_outage_run_once(
    new_fleet: Callable[..., ChaosFleet], server: RedisServer, pool: str, mode: str, take_ms: str
) -> None:
    """Their processes keep what they returned, and record it once the server is back, long after their leases' end."""
    if pool == "gevent":
        pytest.importorskip("gevent", reason="needs the gevent package")
    fleet = new_fleet(mode=mode, take_ms=take_ms)
    worker = fleet.add_worker(options=["-P", pool, "-Q", "stabilize.control,stabilize.work"])
    names = ["short0"] if pool == "solo" else ["short0", "short1"]
    stages = [stage(name, does="work", context={"sleep_s": 3}) for name in names]
    run = fleet.client.start(Workflow.create("crowd", "short", [*stages, stage("after", *names, does="work")]))
    eventually(lambda: all(fleet.journal("start", name) for name in names))
    server.kill()
    eventually(lambda: all(fleet.journal("end", name) for name in names))
    time.sleep(LONGER_THAN_A_LEASE_S)
    server.start()

    assert run.wait(60).status.name == "SUCCEEDED"
    assert [len(fleet.journal("start", name)) for name in [*names, "after"]] == [1] * (len(names) + 1)
    assert worker.process.poll() is None
    Crowd.check_all(fleet)


def test_a_body_that_ends_while_writes_are_paused_runs_once(new_fleet: Callable[..., ChaosFleet]) -> None:
    """Reads are answered and no commit is, for longer than all tries of one take: the result is kept all the same."""
    fleet = new_fleet(socket_timeout_ms="1000")
    fleet.add_worker()
    run = fleet.client.start(Workflow.create("crowd", "paused", [stage("only", does="work", context={"sleep_s": 2})]))
    eventually(lambda: fleet.journal("start", "only"))
    with redis.Redis.from_url(fleet.state_url) as client:
        client.client_pause(int(LONGER_THAN_A_LEASE_S * 1000), all=False)

    assert run.wait(60).status.name == "SUCCEEDED"
    assert len(fleet.journal("start", "only")) == 1
    Crowd.check_all(fleet)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_keeps_a_result_can_be_stopped(fleet: ChaosFleet, server: RedisServer, pool: str) -> None:
    """It does not wait for a server that is away: the task is owed, and runs again on another worker."""
    worker = fleet.add_worker(options=["-P", pool])
    run = fleet.client.start(Workflow.create("crowd", "stopped", [stage("only", does="work", context={"sleep_s": 2})]))
    eventually(lambda: fleet.journal("start", "only"))
    server.kill()
    eventually(lambda: "Its result is kept" in worker.log)
    worker.send(signal.SIGTERM)
    worker.process.wait(30)
    server.start()
    fleet.add_worker()

    assert run.wait(60).status.name == "SUCCEEDED"
    assert len(fleet.journal("start", "only")) == 2
    Crowd.check_all(fleet)


def test_the_broker_forgets_everything_again_and_again(fleet: ChaosFleet) -> None:
    """Messages are only nudges: what was in the queues is published again, and nothing happens twice."""
    fleet.add_worker()
    crowd = Crowd(fleet, 66)
    with redis.Redis.from_url(fleet.broker_url) as client:
        for ended in range(0, 60, 12):
            crowd.wait_until_ended(ended)
            client.flushdb()

    crowd.check()


def test_the_broker_is_away_for_a_while(new_fleet: Callable[..., ChaosFleet], broker: RedisServer) -> None:
    """On a server of its own, without a log: producers still start workflows, which go on once it is back, empty."""
    fleet = new_fleet(broker=broker.url)
    worker = fleet.add_worker()
    crowd = Crowd(fleet, 44)
    crowd.wait_until_ended(10)
    broker.kill()
    late = fleet.client.start(make(0))
    time.sleep(AWAY_S)
    broker.start()

    assert late.wait(120).status.name == "SUCCEEDED"
    crowd.check()
    assert worker.process.poll() is None


def test_the_state_is_away_for_a_while(
    new_fleet: Callable[..., ChaosFleet], server: RedisServer, broker: RedisServer
) -> None:
    """While the broker goes on handing out messages that nobody can look up."""
    fleet = new_fleet(broker=broker.url)
    worker = fleet.add_worker()
    crowd = Crowd(fleet, 44)
    crowd.wait_until_ended(10)
    server.kill()
    with pytest.raises(UnreachableError):
        fleet.client.start(make(0))
    time.sleep(AWAY_S)
    server.start()

    crowd.check()
    assert worker.process.poll() is None


@pytest.mark.parametrize("is_apart", [False, True], ids=["with the broker", "of the state alone"])
def test_memory_is_full(
    new_fleet: Callable[..., ChaosFleet], server: RedisServer, broker: RedisServer, *, is_apart: bool
) -> None:
    """Producers are told so; running workflows wait, no try of theirs is counted, and go on when there is memory."""
    fleet = new_fleet(broker=broker.url) if is_apart else new_fleet()
    worker = fleet.add_worker()
    crowd = Crowd(fleet, 44)
    crowd.wait_until_ended(10)
    with redis.Redis.from_url(fleet.state_url) as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(WritesRefusedError, match="out of memory"):
            fleet.client.start(make(0))
        ended = crowd.ended()
        time.sleep(AWAY_S)
        assert crowd.ended() <= ended + 1, "the server was not full"
        client.config_set("maxmemory", "0")

    crowd.check()
    assert worker.process.poll() is None
    assert " failed, try " not in worker.log


def test_a_workflow_that_was_sent_while_memory_was_full_is_not_lost(
    new_fleet: Callable[..., ChaosFleet], server: RedisServer, broker: RedisServer
) -> None:
    """A message of a producer that has only Celery is all there is of it: it goes back to its queue."""
    fleet = new_fleet(broker=broker.url)
    worker = fleet.add_worker()
    tasks = [{"name": "work", "implementing_class": "work"}]
    definition = {"application": "crowd", "name": "sent", "stages": [{"ref_id": "only", "tasks": tasks}]}
    with redis.Redis.from_url(fleet.state_url) as client:
        client.config_set("maxmemory", "1")
        fleet.celery.send_task("stabilize.SubmitWorkflow", kwargs={"definition": definition})
        eventually(lambda: "It goes back to its queue" in worker.log)
        client.config_set("maxmemory", "0")

    eventually(lambda: fleet.journal("end", "only"), 60)
    Crowd.check_all(fleet)
