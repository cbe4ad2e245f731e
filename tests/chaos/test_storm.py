"""A thousand workflows of every kind under a minute of random losses: nothing is lost, nothing happens twice."""

from __future__ import annotations

import os

import pytest

from tests.chaos.fleet import ChaosFleet
from tests.chaos.storm import Storm
from tests.servers import RedisServer

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

SEED = int(os.environ.get("CHAOS_SEED", "1"))


def test_a_thousand_workflows_in_a_storm(fleet: ChaosFleet, server: RedisServer) -> None:
    """All end as they should, each transition once, no mutex is held twice, nothing is owed, repaired or left."""
    for _ in range(3):
        fleet.add_worker()
    storm = Storm(fleet, server, SEED)

    storm.rage(60, 1_000)

    print(f"seed {SEED}: {dict(storm.broken)}; {storm.ended()} of {len(storm.runs)} had ended when it was over")
    storm.check(300)
