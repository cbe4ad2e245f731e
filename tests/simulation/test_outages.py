"""Redis is away for longer than a lease, or whoever asks it is: bodies that run on live workers run on, and run once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.settings import MODES, Settings
from tests.simulation.fleet.fleet import SETTINGS, Fleet
from tests.simulation.fleet.troubles import Incident, Troubles

_WIDTH = 6
_BODY_MS = 60_000
_AWAY_MS = 2 * SETTINGS.lease_ms
_SEEDS = range(10)
_RECOVERY_MS = 15_000
"""The longest that lost work may lie still while there are workers that could do it."""


@contextmanager
def long_bodies(
    seed: int, *incidents: Incident, settings: Settings = SETTINGS, lasts_ms: int = _BODY_MS
) -> Iterator[Fleet]:
    """Let some long bodies run beside each other, on a fleet that all this befalls."""

    def last_long(_: StageExecution) -> TaskResult:
        fleet.loop.sleep(lasts_ms * 1000)
        return TaskResult.success()

    fleet = Fleet(seed, {"long": last_long}, Troubles(incidents=incidents), settings=settings)
    task = {"name": "long", "implementing_class": "long"}
    stages: list[dict[str, Any]] = [
        {"ref_id": f"s{number}", "type": "test", "name": f"s{number}", "tasks": [task]} for number in range(_WIDTH)
    ]
    fleet.ids.append("w")
    fleet.submit({"application": "tests", "name": "wide", "stages": stages}, workflow_id="w")
    try:
        yield fleet
    finally:
        fleet.end()


def reaped(fleet: Fleet) -> int:
    return sum(worker.keeper.stats.reaped for worker in fleet.workers)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("away_ms", [SETTINGS.lease_ms // 2, SETTINGS.lease_ms, _AWAY_MS])
def test_what_runs_while_redis_is_away_runs_once(seed: int, away_ms: int) -> None:
    """Keepers that come back before the heartbeats of others take nothing from them."""
    with long_bodies(seed, Incident(8_000, "Redis is away", away_ms)) as fleet:
        fleet.run()

        assert (fleet.executions, reaped(fleet)) == (_WIDTH, 0)


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("away_ms", [2_000, SETTINGS.lease_ms, 5 * SETTINGS.lease_ms])
def test_a_body_that_ends_while_redis_is_away_runs_once(seed: int, mode: str, away_ms: int) -> None:
    """Its process keeps the result, and its lease is extended as soon as Redis is back, until that is recorded."""
    settings = replace(SETTINGS, mode=mode)
    with long_bodies(seed, Incident(7_000, "Redis is away", away_ms), settings=settings, lasts_ms=8_000) as fleet:
        fleet.run()

        assert (fleet.executions, reaped(fleet)) == (_WIDTH, 0)


@pytest.mark.parametrize("seed", _SEEDS)
def test_again_and_again(seed: int) -> None:
    """Each outage has its own respite; that a body has lived through one is held against it at no later one."""
    outages = [Incident(at_ms, "Redis is away", 12_000) for at_ms in (5_000, 21_000, 37_000)]
    with long_bodies(seed, *outages) as fleet:
        fleet.run()

        assert (fleet.executions, reaped(fleet)) == (_WIDTH, 0)


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_fleet_that_stands_still_as_a_whole_takes_nothing_from_itself(seed: int) -> None:
    """All machines are suspended and go on: whichever thread of them is the first."""
    with long_bodies(seed) as fleet:
        fleet.drain(until_ms=fleet.now_us // 1000 + 8_000)
        for worker in fleet.workers:
            worker.freeze(_AWAY_MS)
        fleet.run()

        assert (fleet.executions, reaped(fleet)) == (_WIDTH, 0)


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_server_whose_clock_is_ahead_takes_over(seed: int) -> None:
    """All leases run out at once by its time, and nobody has been silent."""
    with long_bodies(seed, Incident(8_000, "Redis' clock jumps ahead", _AWAY_MS)) as fleet:
        fleet.run()

        assert (fleet.executions, reaped(fleet)) == (_WIDTH, 0)


@pytest.mark.parametrize("seed", _SEEDS)
def test_what_was_lost_meanwhile_is_found_soon(seed: int) -> None:
    """A machine that dies while Redis is away: its tasks begin anew within 15 s of Redis' return, the others' do not."""
    at_ms = 8_000
    outage, loss = Incident(at_ms, "Redis is away", _AWAY_MS), Incident(at_ms + 2_000, "a worker's machine is lost")
    with long_bodies(seed, outage, loss) as fleet:
        start_ms = fleet.now_us // 1000
        fleet.drain(until_ms=start_ms + at_ms)
        held = {worker: len(worker.claims) for worker in fleet.workers}
        fleet.drain(until_ms=start_ms + at_ms + _AWAY_MS + _RECOVERY_MS)
        lost = sum(count for worker, count in held.items() if not worker.is_alive)

        assert (fleet.executions, reaped(fleet)) == (_WIDTH + lost, lost)


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_fleet_that_starts_anew_soon_does_what_the_former_one_has_left(seed: int) -> None:
    """Keepers that have seen nothing yet wait for the living, but not for long."""
    with long_bodies(seed) as fleet:
        fleet.drain(until_ms=fleet.now_us // 1000 + 8_000)
        for worker in fleet.workers:
            worker.die()
        fleet.drain(until_ms=fleet.now_us // 1000 + 3_000)
        for _ in range(3):
            fleet.add_worker()
        fleet.drain(until_ms=fleet.now_us // 1000 + _RECOVERY_MS)

        assert (fleet.executions, reaped(fleet)) == (2 * _WIDTH, _WIDTH)
