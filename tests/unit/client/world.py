"""A client beside a simulated fleet: one store in memory, no broker, no sleeping."""

from __future__ import annotations

from typing import Any

from stabilize_celery.client import Client, WorkflowHandle
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.settings import Settings
from stabilize_celery.testing import Simulation


def stage(ref_id: str, *after: str, does: str = "work", **more: Any) -> StageExecution:
    tasks = [TaskExecution.create(does, does)]
    return StageExecution(
        ref_id=ref_id, type=does, name=ref_id, requisite_stage_ref_ids=set(after), tasks=tasks, **more
    )


def workflow(*stages: StageExecution, name: str = "tested", **more: Any) -> Workflow:
    return Workflow(application="tests", name=name, stages=list(stages), **more)


def gate(ref_id: str = "gate", *after: str, signal: str = "approve", **more: Any) -> StageExecution:
    """A stage that waits for a signal, so that a workflow stands still."""
    context = {"signal": signal, **more.pop("context", {})}
    return stage(ref_id, *after, does="approval", context=context, **more)


class World:
    """A fleet, and a client of it."""

    def __init__(self, **tasks: Any) -> None:
        known = {"work": lambda stage: TaskResult.success(outputs={f"from_{stage.ref_id}": 1}), **tasks}
        self.fleet = Simulation(0, known, settings=Settings(retention_ms=60_000))
        self.client = Client(settings=self.fleet.settings, store=self.fleet.store, publisher=self.fleet)

    def start(self, *stages: StageExecution, **more: Any) -> WorkflowHandle:
        """Start a workflow and let it go on until nothing moves for some seconds of its time."""
        handle = self.client.start(workflow(*stages, **more))
        self.settle()
        return handle

    def settle(self, seconds: float = 1.0) -> None:
        self.fleet.drain(until_ms=self.now_ms + int(seconds * 1000))

    @property
    def now_ms(self) -> int:
        return self.fleet.now_us // 1000

    def announce(self, *types: str, queues: str = "stabilize.control\nstabilize.work", name: str = "simulated") -> None:
        """Write a worker's line of the fleet registry."""
        line = {"node": "tasks@node1", "types": "\n".join(types), "queues": queues}
        self.fleet.store.announce(name, line)
