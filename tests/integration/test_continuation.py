"""Tasks that a real worker goes on with keep every promise of tasks that a broker has delivered."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.fleet import Fleet, eventually
from tests.servers import RedisServer

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
def new_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Make a fleet on a server of its own."""
    fleets: list[Fleet] = []
    with RedisServer() as server:

        def make(**settings: str) -> Fleet:
            fleets.append(Fleet(server, tmp_path, **settings))
            return fleets[-1]

        try:
            yield make
        finally:
            for fleet in fleets:
                fleet.stop()


def submit_chain(fleet: Fleet, *does: str, sleep_s: float = 0) -> str:
    """Start a chain; each stage is named after its place, `s0` and so on, and has one task of these types."""
    stages = [
        {
            "ref_id": f"s{at}",
            "type": "x",
            "name": f"s{at}",
            "requisite_stage_ref_ids": [f"s{at - 1}"] if at else [],
            "context": {"sleep_s": sleep_s if at else 0},
            "tasks": [{"name": kind, "implementing_class": kind}],
        }
        for at, kind in enumerate(does)
    ]
    return fleet.runtime.submit({"application": "shop", "name": "chain", "stages": stages})


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_its_lease_is_extended_while_it_runs(new_fleet: Callable[..., Fleet], pool: str) -> None:
    """Celery does not know of it; the main process does. It runs in the process of the first, and once."""
    fleet = new_fleet(mode="continuation", lease_ms="1500")
    fleet.start_worker(pool=pool)

    done = fleet.ended(submit_chain(fleet, "work", "work", sleep_s=5), 60)

    assert done.status.name == "SUCCEEDED"
    (first,), (second,) = fleet.journal("start", "s0"), fleet.journal("start", "s1")
    assert first["pid"] == second["pid"]


def test_it_is_reported_at_once_when_its_child_dies(new_fleet: Callable[..., Fleet]) -> None:
    """Not when its lease runs out: that would be in a minute."""
    fleet = new_fleet(mode="continuation", lease_ms="60000")
    fleet.start_worker()

    done = fleet.ended(submit_chain(fleet, "work", "die"), 50)

    assert done.status.name == "TERMINAL"
    assert len(fleet.journal("start", "s1")) > 1
    assert len(fleet.journal("start", "s0")) == 1


def test_a_cold_shutdown_hands_it_to_others(new_fleet: Callable[..., Fleet]) -> None:
    """Before its lease runs out."""
    fleet = new_fleet(mode="continuation", lease_ms="60000")
    first = fleet.start_worker()
    workflow_id = submit_chain(fleet, "work", "work", sleep_s=15)
    eventually(lambda: fleet.journal("start", "s1"))
    first.send(signal.SIGQUIT)
    first.process.wait(30)
    assert not fleet.journal("end", "s1")

    fleet.start_worker()

    assert fleet.ended(workflow_id, 90).status.name == "SUCCEEDED"
    assert len(fleet.journal("start", "s1")) == 2
    assert len(fleet.journal("start", "s0")) == 1


@pytest.mark.parametrize(
    ("queues", "is_kept"),
    [("stabilize.control,stabilize.work", False), ("stabilize.control,stabilize.work,celery", True)],
)
def test_acknowledgements_are_left_to_the_ledger_only_where_all_queues_are_ours(
    new_fleet: Callable[..., Fleet], queues: str, is_kept: bool
) -> None:
    """Another task of the app would be lost with its worker."""
    fleet = new_fleet(acks="ledger")
    fleet.start_worker("-Q", queues)
    workflow_id = fleet.submit("long", sleep_s=3)
    eventually(lambda: fleet.journal("start", "long"))

    with redis.Redis.from_url(fleet.broker_url) as broker:
        assert bool(broker.exists("unacked")) is is_kept
    assert fleet.ended(workflow_id).status.name == "SUCCEEDED"


TAKES = ("-Q", "stabilize.control,stabilize.work")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_takes_messages_itself_does_all_of_them_once(new_fleet: Callable[..., Fleet], pool: str) -> None:
    """Celery hands it the first of a turn; with one process busy, the rest waits on the lists."""
    fleet = new_fleet(acks="ledger", take_ms="5000")
    fleet.start_worker(*TAKES, pool=pool, concurrency=1)

    ids = [submit_chain(fleet, "work", "work", "work") for _ in range(10)]

    assert {fleet.ended(one, 60).status.name for one in ids} == {"SUCCEEDED"}
    assert [len(fleet.journal("start", f"s{at}")) for at in range(3)] == [10, 10, 10]
    with redis.Redis.from_url(fleet.broker_url) as broker:
        assert not broker.exists("stabilize.control", "stabilize.work")


def test_a_taken_task_is_reported_at_once_when_its_child_dies(new_fleet: Callable[..., Fleet]) -> None:
    """Celery does not know of it; the main process does."""
    fleet = new_fleet(acks="ledger", lease_ms="60000", take_ms="5000")
    fleet.start_worker(*TAKES, concurrency=1)

    done = fleet.ended(submit_chain(fleet, "work", "die"), 50)

    assert done.status.name == "TERMINAL"
    assert len(fleet.journal("start", "s1")) > 1
    assert len(fleet.journal("start", "s0")) == 1


def test_a_taken_task_is_handed_to_others_at_a_cold_shutdown(new_fleet: Callable[..., Fleet]) -> None:
    """Before its lease runs out."""
    fleet = new_fleet(acks="ledger", lease_ms="60000", take_ms="5000")
    first = fleet.start_worker(*TAKES, concurrency=1)
    workflow_id = submit_chain(fleet, "work", "work", sleep_s=15)
    eventually(lambda: fleet.journal("start", "s1"))
    fleet.start_worker(*TAKES, concurrency=1)

    first.send(signal.SIGQUIT)

    assert fleet.ended(workflow_id, 90).status.name == "SUCCEEDED"
    assert len(fleet.journal("start", "s1")) == 2
