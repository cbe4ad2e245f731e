"""Whether a scenario passed: the first of its runs that did not is shown."""

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

from stabilize_celery.testing.conformance.expectations import find_differences
from stabilize_celery.testing.conformance.outcome import Outcome
from stabilize_celery.testing.conformance.scenario import Scenario

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be told of a scenario. `seed`: of the run that `problems` are about; `seconds`: all runs together."""

    scenario: Scenario
    runs: int
    seconds: float
    seed: int | None = None
    problems: Sequence[str] = ()

    @property
    def has_passed(self) -> bool:
        """Whether every run was as expected."""
        return not self.problems


def judge(scenario: Scenario, seeds: Iterable[int], run: Callable[[Scenario, int], Outcome]) -> Verdict:
    """Run a scenario under each seed, up to the first that is not as expected."""
    began, runs = monotonic(), 0
    for seed in seeds:
        runs += 1
        problems = _problems(scenario, seed, run)
        if problems:
            return Verdict(scenario, runs, monotonic() - began, seed, problems)
    return Verdict(scenario, runs, monotonic() - began)


def _problems(scenario: Scenario, seed: int, run: Callable[[Scenario, int], Outcome]) -> list[str]:
    try:
        return find_differences(scenario, run(scenario, seed))
    except Exception as error:  # noqa: BLE001 - whatever the engine does wrong is this scenario's failure, not the end
        told = traceback.extract_tb(error.__traceback__)[-1]
        return [f"it raised {type(error).__name__} at {told.filename}:{told.lineno}: {error}"]
