"""Which commit of a delivery may take the next message: the last one, behind which no code of users runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest

from stabilize_celery.models.messages import MESSAGE_TYPES
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.next_message import NextMessage, taking_next
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import CONTINUATION, FUSED, PER_MESSAGE, Settings
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.incoming import message_of


class Greedy(NextMessage):
    """Has taken a message as soon as it was asked; the store knows nothing of it."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(lambda: None)
        self._told = told

    @property
    def taken(self) -> tuple[str, bytes] | None:
        return ("list", b"message") if "asked" in self._told else None

    def wanted(self) -> None:
        if self.taken is None:
            self._told.append("asked")


class Worker:
    """Handles messages in their order; notes when the next one is asked for, and when a body runs."""

    def __init__(self, mode: str) -> None:
        registry = TaskRegistry()
        registry.task("work")(self._work)
        settings = Settings(mode=mode)
        self.runtime = Runtime(MemoryStore(), registry, self, settings, "worker")
        self.runtime.serves = lambda: frozenset({settings.work_queue, settings.control_queue})
        self.sent: deque[Outgoing] = deque()
        self.told: list[str] = []

    def publish(self, batch: Sequence[Outgoing]) -> None:
        self.sent.extend(batch)

    def _work(self, stage: StageExecution) -> TaskResult:
        self.told.append("body")
        return TaskResult.success()

    def run(self, *stages: StageExecution) -> dict[str, list[list[str]]]:
        """Return what each delivery told, by kind of message."""
        self.runtime.submit(Workflow(application="next", name="next", stages=list(stages)))
        found: dict[str, list[list[str]]] = {}
        while self.sent:
            message = self.sent.popleft()
            self.told = []
            with taking_next(Greedy(self.told)):
                self.runtime.handle(message_of(MESSAGE_TYPES[message.kind], message.task_id, message.kwargs))
            found.setdefault(message.kind, []).append(self.told)
        return found


def stage(ref_id: str, *after: str) -> StageExecution:
    tasks = [TaskExecution.create("work", "work")]
    return StageExecution(ref_id=ref_id, type="test", name=ref_id, requisite_stage_ref_ids=set(after), tasks=tasks)


def test_per_message_each_delivery_asks_once_and_a_task_behind_its_body() -> None:
    """Not with its claim: what was taken would wait for the body."""
    found = Worker(PER_MESSAGE).run(stage("a"), stage("b", "a"))

    assert found["StartStage"] == found["CompleteStage"] == [["asked"]] * 2
    assert found["RunTask"] == [["body", "asked"]] * 2


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
def test_no_body_runs_behind_the_question(mode: str) -> None:
    """Whatever a delivery goes on with: what a join enables then is sent, and not executed before what was taken."""
    found = Worker(mode).run(stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c"))

    told = [one for deliveries in found.values() for one in deliveries]
    assert sum(one.count("body") for one in told) == 4
    assert all("asked" in one for one in told)
    assert all("body" not in one[one.index("asked") :] for one in told)


def test_outside_of_a_delivery_nobody_asks() -> None:
    """Starting a workflow, also from a task's own code, takes nothing."""
    worker = Worker(PER_MESSAGE)
    with taking_next(Greedy(worker.told)):
        worker.runtime.submit(Workflow(application="next", name="next", stages=[stage("a")]))

    assert worker.told == []
