"""For tests of pipelines: run them in memory, in virtual time, the same way for the same seed. See docs/testing.md."""

from collections.abc import Mapping
from typing import Any

from stabilize_celery.models.definition import from_definition
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.testing.faults import Faults
from stabilize_celery.testing.registering import Tasks
from stabilize_celery.testing.simulation import Simulation, SimulationStuckError

__all__ = ["Faults", "Simulation", "SimulationStuckError", "run_workflow"]

_STEPS, _STEPS_PER_STAGE = 20_000, 100


def run_workflow(
    workflow: Workflow | Mapping[str, Any],
    tasks: Tasks | None = None,
    seed: int = 0,
    *,
    faults: Faults | None = None,
    max_steps: int | None = None,
) -> Workflow:
    """Run a workflow in memory and return it as it ended, whether well or not.

    The workflow that is given stays as it was, and may be run again. It runs under an id of the simulation's, since the
    schedule depends on the id.

    Args:
        workflow: What to run: a workflow, or a definition.
        tasks: Task type to a function of the stage, a `Task` class or instance, beside the ready-made ones; or the
            registry of an app.
        seed: Names the order in which things happen; the same seed gives the same run, in any process.
        faults: What goes wrong; nothing by default.
        max_steps: After this many deliveries and timer checks it counts as endless (count); by default 20,000,
            and 100 for each stage.

    Raises:
        InvalidWorkflowError: names every problem of the definition.
        SimulationStuckError: it waits for a signal, a choice, or a missing task type; or it never ends.
        TypeError: `workflow` or `tasks` has a wrong type.

    """
    if isinstance(workflow, Mapping):
        workflow = from_definition(workflow)
    if not isinstance(workflow, Workflow):
        raise TypeError(f"run_workflow() runs a Workflow or a definition, not {type(workflow).__name__}")
    simulation = Simulation(seed, tasks, faults=faults)
    workflow_id = simulation.start(workflow)
    return simulation.finish(workflow_id, max_steps=max_steps or _STEPS + _STEPS_PER_STAGE * len(workflow.stages))
