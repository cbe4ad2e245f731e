"""The 43 control-flow patterns: each scenario holds under every schedule that the simulator makes of a seed.

`make conformance` runs 100 schedules in each mode, `make test` one in each, or as many as `CONFORMANCE_SEEDS` says.
`not_yet.txt` lists what the engine does not do yet; it only shrinks: a scenario in it that passes fails its test.
`more_scenarios.json` has what the first file does not try.
"""

import os
from functools import partial
from pathlib import Path

import pytest

from stabilize_celery.settings import CONTINUATION, FUSED
from stabilize_celery.testing.conformance.report import told
from stabilize_celery.testing.conformance.scenario import Scenario, load_scenarios
from stabilize_celery.testing.conformance.simulator_backend import run_simulated
from stabilize_celery.testing.conformance.verdicts import judge

HERE = Path(__file__).parent
SCENARIOS = [*load_scenarios(HERE / "scenarios.json"), *load_scenarios(HERE / "more_scenarios.json")]
WANTED = int(os.environ.get("CONFORMANCE_SEEDS", "0"))
SEEDS = range(WANTED or 1)
MODE_SEEDS = {FUSED: range(WANTED) if WANTED else range(1, 3), CONTINUATION: range(WANTED) if WANTED else range(3, 4)}
"""A seed in each other mode that no other mode has had; in `fused` two, for threads that keep their process or don't."""
NOT_YET = set((HERE / "not_yet.txt").read_text().split())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_a_scenario_holds_under_every_seed(scenario: Scenario) -> None:
    """What a scenario expects is seen in every schedule, or it is listed as not done yet."""
    verdict = judge(scenario, SEEDS, run_simulated)

    if scenario.id in NOT_YET:
        assert not verdict.has_passed, f"{scenario.id} passes: take it off not_yet.txt"
    else:
        assert verdict.has_passed, told(verdict)


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_a_scenario_holds_in_every_mode(scenario: Scenario, mode: str) -> None:
    """Messages that are not sent, and tasks that follow at once, are decided as if they had been."""
    verdict = judge(scenario, MODE_SEEDS[mode], partial(run_simulated, mode=mode))

    assert verdict.has_passed or scenario.id in NOT_YET, told(verdict)


def test_the_list_of_what_is_not_done_yet_names_scenarios() -> None:
    """A line of the list that names no scenario hides nothing by a slip."""
    assert {scenario.id for scenario in SCENARIOS} >= NOT_YET
