"""A child of a worker's pool that takes messages itself, without the worker: what each message costs is counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from celery import Celery

from stabilize_celery.client import Client
from stabilize_celery.engine.steps import Read
from stabilize_celery.models.messages import Message
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.ports import Outcome
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import FUSED, Settings
from stabilize_celery.store.redis_store import RedisStore, open_lists
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.consumed_queues import ConsumedQueues
from stabilize_celery.transport.publish import CeleryPublisher
from stabilize_celery.transport.taking import Taking
from stabilize_celery.transport.waiting import Waiting, Waits

QUEUES = ("stabilize.control", "stabilize.work")


class AsInAChild(Waiting):
    """What a child sees of its worker."""

    is_here = True
    is_orphan = False


class Child:
    """One process that takes messages from a server which is broker and state; it counts what each costs."""

    def __init__(
        self,
        url: str,
        mode: str,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
        fused_slice_ms: int = 0,
    ) -> None:
        self.settings = Settings(mode=mode, redis_url=url, broker_url=url, fused_slice_ms=fused_slice_ms)
        self.app = Celery("test", broker=url, set_as_current=False)
        self.lists = open_lists(url, 5)
        self.store = RedisStore(url)
        self.store.partitions()
        registry = TaskRegistry()
        registry.task("work")(self._work)
        publisher = CeleryPublisher(self.app, url)
        self.runtime = Runtime(self.store, registry, publisher, self.settings, "child", clock_us=clock_us)
        self.client = Client(settings=self.settings)
        self.costs: list[tuple[str, int]] = []
        """The kind of each message and how many round trips it took."""
        self.meanwhile: Callable[[Message], object] = lambda _: None
        """What others do when a message has been taken and is not handled yet."""
        self.in_bodies: Callable[[StageExecution], object] = lambda _: None
        """What happens while a body is executed."""
        self.waiting = AsInAChild(ConsumedQueues(QUEUES))
        self.asked_ahead: list[Message] = []
        self.used_ahead = 0

    def _work(self, stage: StageExecution) -> TaskResult:
        self.in_bodies(stage)
        return TaskResult.success(outputs={"seen": stage.ref_id})

    def handle(self, message: Message) -> str:
        kind = type(message).__name__
        self.used_ahead += self.asked_ahead[-1:] == [message]
        before = self.store.round_trips
        try:
            return self.runtime.handle(message)
        finally:
            self.costs.append((kind, self.store.round_trips - before))

    def opening(self, message: Message) -> Read | None:
        self.asked_ahead.append(message)
        return self.runtime.opening(message)

    def go_on(self) -> None:
        waits = Waits(self.waiting, 50, looks=self.settings.mode == FUSED)
        Taking(self.lists, QUEUES, self, self.going_on, 250, waits=waits, databases=(0, 0)).go_on()

    def going_on(self, message: Message) -> AbstractContextManager[Outcome]:
        self.meanwhile(message)
        return nullcontext(Outcome())

    def run(self, *workflows: Workflow) -> list[Workflow]:
        handles = [self.client.start(workflow) for workflow in workflows]
        self.go_on()
        return [self.runtime.read(handle.id) for handle in handles]

    def costs_of(self, kind: str) -> list[int]:
        return [cost for found, cost in self.costs if found == kind]

    def close(self) -> None:
        self.client.close()
        self.lists.close()
        self.store.close()
        self.app.close()


def chain(length: int) -> Workflow:
    stages = [
        StageExecution(
            ref_id=f"s{at}",
            type="test",
            name=f"s{at}",
            requisite_stage_ref_ids={f"s{at - 1}"} if at else set(),
            tasks=[TaskExecution.create("work", "work")],
        )
        for at in range(length)
    ]
    return Workflow(application="head", name="start", stages=stages)


def statuses(workflow: Workflow) -> list[str]:
    return [workflow.status.name, *(stage.status.name for stage in workflow.stages)]
