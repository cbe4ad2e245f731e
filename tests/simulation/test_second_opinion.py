"""The engine against the oracle: what it makes of a scenario is something that the rules, read plainly, allow.

Where the oracle has one result under every order of steps, that one is required; in races any of its results.
"""

from ast import literal_eval
from pathlib import Path

import pytest

from stabilize_celery.testing.conformance.outcome import Execution, Outcome
from stabilize_celery.testing.conformance.scenario import RunRange, Scenario, WorkflowScript, load_scenarios
from stabilize_celery.testing.conformance.simulator_backend import run_simulated
from tests.simulation.oracle.playing import Result, play
from tests.simulation.oracle.state import Ended, StuckError
from tests.simulation.random_scenarios import random_scenario, scenario_of
from tests.simulation.tuning import SCALE

CONFORMANCE = Path(__file__).parent.parent / "conformance"
GIVEN = [one for name in ("scenarios", "more_scenarios") for one in load_scenarios(CONFORMANCE / f"{name}.json")]
FEW, MANY = 30, 10_000
"""Orders of steps that the oracle tries at first, and before a result counts as one that it does not allow."""
TOO_MANY = 30
"""So many ways through a scenario are not all that there are."""
TRIES, APART = 20, 1_000_003
"""Scenarios that are drawn for a seed until one comes to its end, and how far apart their own seeds are."""


def result_of(scenario: Scenario, outcome: Outcome) -> Result:
    """Return what the engine made of it, in the oracle's words."""
    assert not outcome.problem, outcome.problem
    return tuple(
        (workflow.name, tuple(sorted(_ended(workflow, outcome, one) for one in outcome.executions[workflow.name])))
        for workflow in scenario.workflows
    )


def _ended(workflow: WorkflowScript, outcome: Outcome, execution: Execution) -> Ended:
    ids, refs = [execution.id], [stage.ref_id for stage in workflow.stages]
    crowds = [stage.ref_id for stage in workflow.stages if stage.mi_config]
    spans = {ref: [span for _, span in outcome.history.instances(ids, ref)] for ref in crowds}
    return Ended(
        execution.status,
        tuple((ref, execution.stages[ref]) for ref in refs),
        tuple((ref, len(outcome.history.runs(ids, ref))) for ref in refs),
        tuple((ref, len(found), sum(span.ended_well for span in found)) for ref, found in spans.items()),
        tuple(sorted((name, repr(value)) for name, value in execution.outputs.items())),
        tuple((ref, repr(sorted(map(repr, execution.records.get(ref, []))))) for ref in refs),
    )


def is_allowed(seen: Result, allowed: set[Result]) -> bool:
    """Whether the rules allow a result: what moved as a whole, data part by part; in races of many ways all part by part."""
    ways = {moves(result) for result in allowed}
    is_known = facts(seen) <= {fact for result in allowed for fact in facts(result)}
    return is_known and (len(ways) > TOO_MANY or moves(seen) in ways)


def moves(result: Result) -> object:
    """Return what a result says but for its data."""
    return tuple((name, tuple(sorted(case[:4] for case in cases))) for name, cases in result)


def facts(result: Result) -> set[object]:
    """Return what a result says of each workflow, and of each stage, taken alone; and of each record, how many beside."""
    found: set[object] = set()
    for name, cases in result:
        for case in cases:
            found.add((name, case.status))
            found |= {(name, kind, row) for kind, rows in enumerate(case[1:-1]) for row in rows}
            for ref, text in case.records:
                values = literal_eval(text)
                found |= {(name, ref, value) for value in (len(values), *values)}
    return found


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
        for order in range(FEW, MANY, FEW):
            if is_allowed(seen, allowed):
                break
            allowed |= {play(scenario, order + one) for one in range(FEW)}
        assert is_allowed(seen, allowed)


@pytest.mark.parametrize("scenario", GIVEN, ids=lambda scenario: scenario.id)
def test_the_oracle_reads_the_rules_as_the_scenarios_do(scenario: Scenario) -> None:
    """It would be no second opinion if it did not fulfil what every correct engine does."""
    for order in range(5):
        result = dict(play(scenario, order))
        for name, expected in {scenario.main.name: scenario.expect, **scenario.expect.workflows}.items():
            assert expected.instances is None or len(result[name]) == expected.instances
            assert all(expected.status is None or case.status in listed(expected.status) for case in result[name])
            found = [(scenario.resolve(ref, name), listed(status)) for ref, status in expected.stages.items()]
            for (home, ref), statuses in found:
                assert all(dict(case.stages)[ref] in statuses for case in result[home])
            for reference, wanted in [*expected.runs.items(), *((ref, 0) for ref in expected.not_run)]:
                home, ref = scenario.resolve(reference, name)
                assert fits(sum(dict(case.runs)[ref] for case in result[home]), wanted)


def listed(status: str | list[str]) -> list[str]:
    """Return the statuses that are allowed."""
    return [status] if isinstance(status, str) else status


def fits(seen: int, wanted: int | RunRange) -> bool:
    """Return whether a stage had as many runs as wanted."""
    return seen in wanted if isinstance(wanted, RunRange) else seen == wanted
