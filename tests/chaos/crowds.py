"""A crowd of workflows of all kinds, and what must hold of them when they have ended."""

from __future__ import annotations

from collections import Counter

import redis

from tests.chaos.fleet import ChaosFleet
from tests.chaos.flows import ENDS, SIGNAL, make, wants_signal
from tests.chaos.verdict import check_history, check_nothing_left, check_nothing_owed, check_nothing_repaired, histories
from tests.integration.fleet import eventually

__all__ = ["Crowd"]


class Crowd:
    """Workflows of all kinds, started at once; each that waits for a signal has got it already."""

    def __init__(self, fleet: ChaosFleet, size: int) -> None:
        self._fleet = fleet
        self.runs = fleet.client.start_many([make(number) for number in range(size)])
        for number, run in enumerate(self.runs):
            if wants_signal(number):
                assert run.signal("ask", SIGNAL, {"by": "crowd"})

    def ended(self) -> int:
        """Return how many have ended, inner ones left out."""
        return sum(run.status().is_complete for run in self.runs)

    def wait_until_ended(self, number: int, timeout_s: float = 120) -> None:
        """Wait until so many of them have ended."""
        eventually(lambda: self.ended() >= number, timeout_s)

    def check(self, timeout_s: float = 150, *, has_lost_writes: bool = False) -> None:
        """Wait for the end of all; each has ended as its kind does, and whatever else must hold does.

        Args:
            has_lost_writes: Whether a fail-over may have cost the last writes: then bodies may have run for a past
                that is gone, and the sweep may have had to repair.

        """
        self.wait_until_ended(len(self.runs), timeout_s)
        ends = Counter((done.name, done.status.name) for done in (run.get() for run in self.runs))
        assert {(name, status) for name, status in ends} == {(name, ENDS[name]) for name, _ in ends}, ends
        self.check_all(self._fleet, has_lost_writes=has_lost_writes)

    @staticmethod
    def check_all(fleet: ChaosFleet, *, has_lost_writes: bool = False) -> None:
        """Check what must hold of any set of workflows once it has ended."""
        check_nothing_owed(fleet)
        for events in histories(fleet).values():
            check_history(events)
        if not has_lost_writes:
            check_nothing_repaired(fleet)
            _check_resources(fleet)
        check_nothing_left(fleet)


def _check_resources(fleet: ChaosFleet) -> None:
    with redis.Redis.from_url(fleet.env["CROWD_WITNESS"], decode_responses=True) as witness:
        used = {key: witness.hgetall(key) for key in witness.scan_iter("resource:*")}
    assert {key: told["doubly"] for key, told in used.items() if "doubly" in told} == {}
