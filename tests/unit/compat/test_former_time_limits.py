"""Time limits of tasks that a `QueueProcessor` executes one by one: they end a body that is at work."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from stabilize_celery.compat import (
    Orchestrator,
    QueueProcessor,
    RetryableTask,
    SqliteQueue,
    SqliteWorkflowStore,
    StageExecution,
    Task,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    Workflow,
    WorkflowStatus,
)


class TooLong(Task):
    """Succeeds, but late."""

    def execute(self, stage: StageExecution) -> TaskResult:
        threading.Event().wait(0.5)
        return TaskResult.success(outputs={"late": True})


class Limited(TooLong, RetryableTask):
    """Has less time than it takes."""

    def get_timeout(self) -> timedelta:
        return timedelta(seconds=0.1)

    def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
        return timedelta(seconds=0.1)


class Answers(Limited):
    """Has an answer for that."""

    def on_timeout(self, stage: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={"timed_out": True})


@pytest.fixture(autouse=True)
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says where Redis is."""
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL", "STABILIZE_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


def run(task: type[Task], **context: Any) -> StageExecution:
    registry = TaskRegistry()
    registry.register("slow", task)
    store, queue = SqliteWorkflowStore("sqlite:///:memory:"), SqliteQueue()
    stage = StageExecution(ref_id="1", name="1", context=context, tasks=[TaskExecution.create("slow", "slow")])
    workflow = Workflow.create("app", "slow", [stage])
    with QueueProcessor(queue, store=store, task_registry=registry) as processor:
        Orchestrator(queue).start(workflow)
        processor.process_all(timeout=20)
    return store.retrieve(workflow.id).stages[0]


@pytest.mark.parametrize(
    ("task", "context", "told"),
    [
        pytest.param(Limited, {}, "the task timed out after 0.1 s", id="of the task"),
        pytest.param(TooLong, {"stageTimeoutMs": 100}, "the stage timed out after 0.1 s", id="of the stage"),
    ],
)
def test_a_late_success_does_not_count(task: type[Task], context: dict[str, Any], told: str) -> None:
    """Its time was over, which the stage says."""
    stage = run(task, **context)

    assert (stage.status, stage.outputs) == (WorkflowStatus.TERMINAL, {})
    assert stage.context["exception"]["details"]["error"] == told


def test_a_task_answers_for_the_time_that_is_over() -> None:
    """By `on_timeout`, in place of its late success."""
    stage = run(Answers)

    assert (stage.status, stage.outputs) == (WorkflowStatus.SUCCEEDED, {"timed_out": True})
