"""The network between workers and their Redis is slow, breaks or goes silent; for one worker, or for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.crowds import Crowd
from tests.chaos.fleet import ChaosFleet
from tests.chaos.proxy import Proxy
from tests.integration.fleet import Worker
from tests.servers import RedisServer

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SILENCE_S = 14.0
"""Longer than a lease and a socket timeout."""


@pytest.fixture
def network(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def add_far_worker(fleet: ChaosFleet, network: Proxy) -> Worker:
    """Start a worker that reaches its Redis, both databases, through the network only."""
    near = dict(fleet.env)
    base = network.url.rsplit("/", 1)[0]
    fleet.env |= {"SHOP_BROKER": f"{base}/0", "SHOP_STATE": f"{base}/1"}
    worker = fleet.add_worker()
    fleet.env = near
    return worker


def test_connections_break_all_the_time(fleet: ChaosFleet, network: Proxy) -> None:
    """Every half second, between any two replies: what was being committed is looked up, not done again."""
    worker = add_far_worker(fleet, network)
    crowd = Crowd(fleet, 66)
    for _ in range(30):
        network.drop()
        time.sleep(0.5)

    crowd.check()
    assert worker.process.poll() is None


def test_the_network_is_slow(fleet: ChaosFleet, network: Proxy) -> None:
    """20 ms each way: all is slower, and nothing else."""
    worker = add_far_worker(fleet, network)
    crowd = Crowd(fleet, 22)
    network.delay_s = 0.02
    crowd.wait_until_ended(20, 200)
    network.heal()

    crowd.check()
    assert worker.process.poll() is None


@pytest.mark.parametrize("is_alone", [False, True], ids=["beside a good worker", "alone"])
def test_a_partition_heals(fleet: ChaosFleet, network: Proxy, *, is_alone: bool) -> None:
    """A worker is cut off for longer than its leases; what it sent meanwhile arrives when others have done its work."""
    worker = add_far_worker(fleet, network)
    crowd = Crowd(fleet, 66)
    crowd.wait_until_ended(15)
    if not is_alone:
        fleet.add_worker()
    network.partition()
    time.sleep(SILENCE_S)
    network.heal()

    crowd.check()
    assert worker.process.poll() is None


def test_a_network_that_refuses_and_comes_back(new_fleet: Callable[..., ChaosFleet], network: Proxy) -> None:
    """Three times for some seconds, as a switch that is restarted does."""
    fleet = new_fleet()
    worker = add_far_worker(fleet, network)
    crowd = Crowd(fleet, 44)
    for ended in (5, 15, 25):
        crowd.wait_until_ended(ended)
        network.refuse()
        time.sleep(3)
        network.heal()

    crowd.check()
    assert worker.process.poll() is None
