"""The tasks that the measured stages run, and the Celery app of the fleet: `celery -A benchmarks.work worker`."""

import os

from celery import Celery

from stabilize_celery import Stabilize, StageExecution, TaskResult
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["app", "registry"]

registry = TaskRegistry()
app = Celery("benchmarks", broker=os.environ.get("BENCH_BROKER", "memory://"))
if "BENCH_STATE" in os.environ:
    Stabilize(app, redis_url=os.environ["BENCH_STATE"], registry=registry)


@registry.task("same_key")
def same_key(stage: StageExecution) -> TaskResult:
    """Write the output that every other stage writes, too."""
    return TaskResult.success(outputs={"done": stage.ref_id})


@registry.task("own_key")
def own_key(stage: StageExecution) -> TaskResult:
    """Write an output that no other stage writes: what later stages can see grows with every stage."""
    return TaskResult.success(outputs={stage.ref_id: 1})


@registry.task("names")
def names(stage: StageExecution) -> TaskResult:
    """Write as many names as the context asks for: what the instances of the next stage are made from."""
    return TaskResult.success(outputs={"names": [f"name-{at}" for at in range(stage.context["size"])]})
