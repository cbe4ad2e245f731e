"""Which runs and instances a reference of an expectation stands for."""

import re
from collections.abc import Mapping

from stabilize_celery.testing.conformance.history import Span
from stabilize_celery.testing.conformance.outcome import Outcome
from stabilize_celery.testing.conformance.scenario import Scenario

__all__ = ["Selection"]

_REFERENCE = re.compile(r"(?P<stage>.*?)(?:#(?P<run>\d+))?(?:@(?P<instance>\d+))?")


class Selection:
    """Looks references up in what happened: `B`, `other/B`, `B#2` (run 2), `M@0` (instance 0)."""

    def __init__(self, scenario: Scenario, outcome: Outcome) -> None:
        self._scenario = scenario
        self._outcome = outcome

    def is_main(self, workflow: str) -> bool:
        """Whether a workflow is the main one."""
        return workflow == self._scenario.main.name

    def resolve(self, reference: str, home: str) -> tuple[str, str]:
        """Return (workflow, ref_id) of a reference without run and instance."""
        return self._scenario.resolve(reference, home)

    def runs(self, reference: str, home: str) -> list[Span]:
        """Return the runs of a stage over all executions of its workflow."""
        ids, ref_id = self._place(reference, home)
        return self._outcome.history.runs(ids, ref_id)

    def spans(self, reference: str, home: str) -> list[Span]:
        """Return the runs, or the instances, that a reference stands for."""
        match = _REFERENCE.fullmatch(reference)
        assert match is not None  # noqa: S101 - it matches any text
        stage, number, index = match["stage"], match["run"], match["instance"]
        ids, ref_id = self._place(stage, home)
        history = self._outcome.history
        runs = [run for one in ids for run in _numbered(history.runs([one], ref_id), number)]
        if index is None:
            return runs
        chosen = {(run.workflow_id, run.thread) for run in runs}
        instances = history.instances(ids, ref_id)
        return [span for at, span in instances if at == int(index) and (span.workflow_id, span.thread) in chosen]

    def instance_counts(self, reference: str, home: str) -> Mapping[str, int]:
        """Return how many instances of a stage started, completed and were cancelled.

        One that failed counts as completed where its stage goes on after failures.
        """
        ids, ref_id = self._place(reference, home)
        goes_on = self._goes_on(reference, home)
        spans = [span for _, span in self._outcome.history.instances(ids, ref_id)]
        return {
            "started": len(spans),
            "completed": sum(span.ended_well or (goes_on and span.status == "TERMINAL") for span in spans),
            "canceled": sum(span.status == "CANCELED" for span in spans),
        }

    def _goes_on(self, reference: str, home: str) -> bool:
        workflow, ref_id = self.resolve(reference, home)
        stage = self._scenario.workflow(workflow).stage(ref_id)
        return stage is not None and stage.context.get("continuePipelineOnFailure") is True

    def _place(self, reference: str, home: str) -> tuple[list[str], str]:
        workflow, ref_id = self.resolve(reference, home)
        return [execution.id for execution in self._outcome.executions.get(workflow, [])], ref_id


def _numbered(runs: list[Span], number: str | None) -> list[Span]:
    return runs if number is None else runs[int(number) - 1 : int(number)]
