"""What the runner prints: a block per scenario that failed, and the count."""

import json
from collections.abc import Iterable, Sequence

from stabilize_celery.testing.conformance.verdicts import Verdict

__all__ = ["as_json", "summary", "told"]


def told(verdict: Verdict) -> str:
    """Return what a scenario expected and saw where they differ; empty if it passed."""
    if verdict.has_passed:
        return ""
    scenario = verdict.scenario
    lines = [f"FAILED {scenario.id} (seed {verdict.seed}): {scenario.title}"]
    return "\n".join([*lines, *(f"    {line}" for problem in verdict.problems for line in problem.splitlines())])


def summary(verdicts: Iterable[Verdict]) -> str:
    """Return the last line."""
    passed = [verdict.has_passed for verdict in verdicts]
    return f"{sum(passed)} passed, {len(passed) - sum(passed)} failed"


def as_json(verdicts: Sequence[Verdict], backend: str) -> str:
    """Return everything as one object."""
    passed = sum(verdict.has_passed for verdict in verdicts)
    scenarios = [
        {
            "id": verdict.scenario.id,
            "pattern": verdict.scenario.pattern,
            "passed": verdict.has_passed,
            "runs": verdict.runs,
            "seconds": round(verdict.seconds, 3),
            "seed": verdict.seed,
            "problems": list(verdict.problems),
        }
        for verdict in verdicts
    ]
    found = {"backend": backend, "passed": passed, "failed": len(verdicts) - passed, "scenarios": scenarios}
    return json.dumps(found, indent=2, ensure_ascii=False)
