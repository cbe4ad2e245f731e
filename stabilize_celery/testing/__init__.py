"""For tests of pipelines: run them in memory, in virtual time, the same way for the same seed."""

from collections.abc import Mapping

from stabilize_celery.models.workflow import Workflow
from stabilize_celery.testing.simulation import Faults, Simulation, SimulationStuckError, TaskLike

__all__ = ["Faults", "Simulation", "SimulationStuckError", "run_workflow"]


def run_workflow(workflow: Workflow, tasks: Mapping[str, TaskLike] | None = None, seed: int = 0) -> Workflow:
    """Run a workflow in memory and return it as it ended, or as it waits for something from outside.

    Args:
        workflow: What to run.
        tasks: Task type to a function of the stage, or a `Task`; the ready-made ones are there.
        seed: Names the order in which things happen; the same seed gives the same run.

    Raises:
        InvalidWorkflowError: names every problem of the definition.
        SimulationStuckError: it goes on for ever.

    """
    simulation = Simulation(seed, tasks)
    workflow_id = simulation.start(workflow)
    simulation.run(workflow_id)
    return simulation.read(workflow_id)
