"""The engine against the oracle: what it makes of a scenario is something that the rules, read plainly, allow.

Where the oracle has one result under every order of steps, that one is required; in races any of its results.
"""

from pathlib import Path

import pytest

from stabilize_celery.testing.conformance.outcome import Outcome
from stabilize_celery.testing.conformance.scenario import RunRange, Scenario, load_scenarios
from stabilize_celery.testing.conformance.simulator_backend import run_simulated
from tests.simulation.oracle import Result, StuckError, play
from tests.simulation.random_scenarios import random_scenario, scenario_of
from tests.simulation.tuning import SCALE

GIVEN = load_scenarios(Path(__file__).parent.parent / "conformance" / "scenarios.json")
FEW, MANY = 30, 3_000
"""Orders of steps that the oracle tries at first, and before a result counts as one that it does not allow."""
TRIES, APART = 20, 1_000_003
"""Scenarios that are drawn for a seed until one comes to its end, and how far apart their own seeds are."""


def is_readable(scenario: Scenario) -> bool:
    """Whether the oracle can play it: one workflow, no stages inside stages."""
    stages = scenario.main.stages
    return len(scenario.workflows) == 1 and not any(stage.sub_workflow or stage.parent_stage_id for stage in stages)


def result_of(scenario: Scenario, outcome: Outcome) -> Result:
    """Return what the engine made of it, in the oracle's words."""
    assert not outcome.problem, outcome.problem
    (execution,) = outcome.executions[scenario.main.name]
    ids, refs = [execution.id], [stage.ref_id for stage in scenario.main.stages]
    crowds = [stage.ref_id for stage in scenario.main.stages if stage.mi_config]
    spans = {ref: [span for _, span in outcome.history.instances(ids, ref)] for ref in crowds}
    return Result(
        execution.status,
        tuple((ref, execution.stages[ref]) for ref in refs),
        tuple((ref, len(outcome.history.runs(ids, ref))) for ref in refs),
        tuple((ref, len(found), sum(span.ended_well for span in found)) for ref, found in spans.items()),
    )


def drawn(seed: int) -> tuple[Scenario, set[Result]]:
    """Return a scenario that comes to its end, and how it may end; what waits for nobody is drawn anew."""
    for number in range(TRIES):
        scenario = scenario_of(random_scenario(seed + APART * number))
        try:
            return scenario, {play(scenario, order) for order in range(FEW)}
        except StuckError:
            continue
    raise AssertionError(f"{TRIES} scenarios from seed {seed} on wait for something that nobody does")


@pytest.mark.parametrize("seed", range(30 * SCALE))
def test_the_engine_does_what_the_rules_allow(seed: int) -> None:
    """Random scenarios of every pattern, with what the outside may do to them."""
    scenario, allowed = drawn(seed)
    for schedule in range(2):
        seen = result_of(scenario, run_simulated(scenario, schedule))
        if seen not in allowed:
            allowed |= {play(scenario, order) for order in range(FEW, MANY)}
        assert seen in allowed


@pytest.mark.parametrize("scenario", list(filter(is_readable, GIVEN)), ids=lambda scenario: scenario.id)
def test_the_oracle_reads_the_rules_as_the_scenarios_do(scenario: Scenario) -> None:
    """It would be no second opinion if it did not fulfil what every correct engine does."""
    for order in range(5):
        result = play(scenario, order)
        statuses, runs = dict(result.stages), dict(result.runs)
        expected = scenario.expect
        assert expected.status is None or result.status in listed(expected.status)
        assert all(statuses[ref] in listed(status) for ref, status in expected.stages.items())
        assert all(fits(runs[ref], wanted) for ref, wanted in expected.runs.items())
        assert all(runs[ref] == 0 for ref in expected.not_run)


def listed(status: str | list[str]) -> list[str]:
    """Return the statuses that are allowed."""
    return [status] if isinstance(status, str) else status


def fits(seen: int, wanted: int | RunRange) -> bool:
    """Return whether a stage had as many runs as wanted."""
    return seen in wanted if isinstance(wanted, RunRange) else seen == wanted
