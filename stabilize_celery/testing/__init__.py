"""For tests of pipelines: run them in memory, in virtual time, the same way for the same seed. See docs/testing.md."""

from collections.abc import Mapping

from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.registry import TaskImplementation
from stabilize_celery.testing.faults import Faults
from stabilize_celery.testing.simulation import Simulation, SimulationStuckError

__all__ = ["Faults", "Simulation", "SimulationStuckError", "run_workflow"]

_STEPS, _STEPS_PER_STAGE = 50_000, 100


def run_workflow(workflow: Workflow, tasks: Mapping[str, TaskImplementation] | None = None, seed: int = 0) -> Workflow:
    """Run a workflow in memory and return it as it ended, whether well or not.

    Args:
        workflow: What to run.
        tasks: Task type to a function of the stage, a `Task` class or instance; the ready-made ones are there.
        seed: Names the order in which things happen; the same seed gives the same run.

    Raises:
        InvalidWorkflowError: names every problem of the definition.
        SimulationStuckError: it waits for a signal, a choice, or a task type that is not there; or it goes on for ever.

    """
    simulation = Simulation(seed, tasks)
    workflow_id = simulation.start(workflow, workflow_id=workflow.id)
    return simulation.finish(workflow_id, max_steps=_STEPS + _STEPS_PER_STAGE * len(workflow.stages))
