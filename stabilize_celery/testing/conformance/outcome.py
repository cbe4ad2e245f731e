"""What became of one scenario execution, read once it has ended."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from stabilize_celery.testing.conformance.history import History
from stabilize_celery.testing.conformance.journal import Journal, Visit
from stabilize_celery.testing.conformance.scenario import Scenario
from stabilize_celery.testing.conformance.world import World

__all__ = ["Execution", "Outcome", "outcome_of"]


@dataclass(frozen=True, slots=True)
class Execution:
    """One workflow execution in the end."""

    id: str
    status: str
    reason: str
    stages: Mapping[str, str]
    outputs: Mapping[str, Any]
    records: Mapping[str, list[Any]]
    visits: Collection[Visit] = ()
    """Where task code was executed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All executions of a scenario, by workflow; `problem`: why it did not come to an end, if it did not."""

    executions: Mapping[str, list[Execution]]
    history: History
    problem: str = ""


def outcome_of(scenario: Scenario, world: World, journal: Journal, problem: str) -> Outcome:
    """Read what became of a scenario execution."""
    executions = {
        workflow.name: [_execution(world, journal, workflow_id) for workflow_id in world.ids(workflow.name)]
        for workflow in scenario.workflows
    }
    return Outcome(executions, world.history, problem)


def _execution(world: World, journal: Journal, workflow_id: str) -> Execution:
    view = world.view(workflow_id)
    records: dict[str, list[Any]] = {}
    for record in journal.records(workflow_id):
        records.setdefault(record.ref_id, []).append(record.value)
    return Execution(
        workflow_id,
        view.record.status,
        view.record.reason,
        {ref_id: stage.status(view.record) for ref_id, stage in view.stages.items()},
        world.outputs(workflow_id),
        records,
        journal.visits(workflow_id),
    )
