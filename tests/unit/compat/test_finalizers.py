"""Clean-up by a stage's id: called once, when the stage has ended in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stabilize_celery.compat import (
    CeleryQueue,
    FinalizerRegistry,
    Orchestrator,
    QueueProcessor,
    RedisWorkflowStore,
    get_finalizer_registry,
    reset_finalizer_registry,
)
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.registry import TaskRegistry


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Nothing is left for the next test."""
    yield
    reset_finalizer_registry()


def test_each_is_called_once_and_one_that_fails_keeps_no_other_from_it() -> None:
    """The results say which failed, and why."""
    registry, called, gate = FinalizerRegistry(), [], threading.Event()
    registry.register("s", "first", lambda: called.append("first"))
    registry.register("s", "bad", lambda: 1 / 0)
    registry.register("s", "slow", lambda: gate.wait(30))
    registry.register("s", "last", lambda: called.append("last"))

    results = registry.execute("s", timeout=0.05)
    gate.set()

    assert [(one.name, one.success) for one in results] == [
        ("first", True),
        ("bad", False),
        ("slow", False),
        ("last", True),
    ]
    assert ("division by zero" in str(results[1].error), "Timeout" in str(results[2].error)) == (True, True)
    assert (called, registry.execute("s"), registry.pending_count()) == (["first", "last"], [], 0)


@pytest.mark.parametrize("works", [True, False])
def test_a_processor_calls_those_of_stages_that_have_ended(works: bool) -> None:
    """Well or not; registered by the task itself, while it runs."""
    called: list[str] = []

    def work(stage: StageExecution) -> TaskResult:
        get_finalizer_registry().register(stage.id, "clean", lambda: called.append("cleaned"))
        return TaskResult.success() if works else TaskResult.terminal("no")

    registry, queue = TaskRegistry(), CeleryQueue()
    registry.register("work", work)
    processor = QueueProcessor(queue, store=RedisWorkflowStore("memory://"), task_registry=registry)
    flow = Workflow.create("app", "n", [StageExecution(ref_id="a", tasks=[TaskExecution.create("work", "work")])])
    Orchestrator(queue).start(flow)
    processor.process_all(timeout=30)

    assert called == ["cleaned"]
