"""Views made of a workflow's events: of its own history here, and of what upstream's tests feed them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from stabilize_celery.compat.events.base import EntityType, Event, EventType
from stabilize_celery.compat.events.projections import StageMetricsProjection, WorkflowTimelineProjection

from stabilize_celery.compat import (
    CeleryQueue,
    Orchestrator,
    QueueProcessor,
    RedisWorkflowStore,
    SqliteEventStore,
)
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.registry import TaskRegistry

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind: EventType, sequence: int, at_ms: int = 0, **data: object) -> Event:
    entity = EntityType(kind.value.partition(".")[0])
    return Event(kind, entity, "a", "w", data, sequence, BEGAN + timedelta(milliseconds=at_ms))


def metrics_of(events: Iterable[Event]) -> StageMetricsProjection:
    made = StageMetricsProjection()
    for one in events:
        made.apply(one)
    return made


def test_stages_are_counted_by_type_and_each_event_once() -> None:
    """A duration is what the event says, else the time since it began."""
    began = event(EventType.STAGE_STARTED, 1, type="shell")
    ended = event(EventType.STAGE_COMPLETED, 2, 40, type="shell")
    failed = event(EventType.STAGE_FAILED, 3, type="shell", duration_ms=20)
    found = metrics_of([began, began, ended, failed, ended]).get_metrics_for_type("shell")

    assert found is not None
    assert (found.execution_count, found.success_count, found.failure_count) == (1, 1, 1)
    assert (found.success_rate, found.avg_duration_ms, found.max_duration_ms) == (50.0, 30, 40)


def test_the_slowest_and_those_that_fail_most_come_first() -> None:
    """And nothing is left after a reset."""
    made = metrics_of(
        event(kind, 0, type=name, duration_ms=ms)
        for name, ms, kind in [
            ("quick", 10, EventType.STAGE_STARTED),
            ("quick", 10, EventType.STAGE_COMPLETED),
            ("slow", 900, EventType.STAGE_STARTED),
            ("slow", 900, EventType.STAGE_FAILED),
        ]
    )

    assert made.get_top_slowest_stages(1) == [("slow", 900)]
    assert made.get_top_failing_stages(1) == [("slow", 100.0)]
    assert made.to_dict()["stages"]["quick"]["success_count"] == 1
    made.reset()
    assert made.to_dict() == {"stages": {}, "tasks": {}}


def test_a_time_line_is_of_one_workflow() -> None:
    """With its times; events that only say that something changed are no lines."""
    line = WorkflowTimelineProjection("w")
    for one in (
        event(EventType.WORKFLOW_STARTED, 1),
        event(EventType.TASK_FAILED, 2, 5, name="t", error="no"),
        Event(EventType.STATUS_CHANGED, workflow_id="w", sequence=3),
        Event(EventType.STAGE_STARTED, workflow_id="other", sequence=4),
        event(EventType.WORKFLOW_FAILED, 5, 70),
    ):
        line.apply(one)
    found = line.get_state()

    assert [entry.event_type for entry in found.entries] == ["workflow.started", "task.failed", "workflow.failed"]
    assert (found.status, found.total_duration_ms) == ("TERMINAL", 70)
    assert [entry.details for entry in line.get_failures()] == [{"error": "no"}, {}]
    assert found.to_dict()["entries"][1]["entity_name"] == "t"


def test_a_history_makes_them(request: pytest.FixtureRequest) -> None:
    """As a program for upstream reads it."""
    name = f"memory://{request.node.name}"
    registry = TaskRegistry()
    registry.register("work", lambda _: TaskResult.success())
    store, queue = RedisWorkflowStore(name), CeleryQueue(name)
    events = SqliteEventStore(name)
    stages = [StageExecution(ref_id="a", tasks=[TaskExecution.create("t", "work")])]
    workflow = Workflow.create("tests", "n", stages)
    with QueueProcessor(queue, store=store, task_registry=registry) as processor:
        Orchestrator(queue, store=store).start(workflow)
        processor.process_all(timeout=10)
    history = list(events.get_events_for_workflow(workflow.id))
    line = WorkflowTimelineProjection(workflow.id)
    for one in history:
        line.apply(one)

    assert line.get_state().status == "SUCCEEDED"
    assert [entry.entity_id for entry in line.get_stages()] == [workflow.stages[0].id] * 2
    assert metrics_of(history).get_metrics_for_type("a") is not None
