"""Progress that a program's own tests look at: a task that is executed by itself tells it to the streams of its process."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.compat import (
    CeleryQueue,
    Orchestrator,
    QueueProcessor,
    RedisWorkflowStore,
    StageExecution,
    StreamItem,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    Workflow,
    WorkflowStream,
    emit_progress,
    get_event_bus,
    reset_event_bus,
)
from stabilize_celery.store.event_stream import events_of


@pytest.fixture(autouse=True)
def own_bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody says where Redis is."""
    monkeypatch.delenv("STABILIZE_REDIS_URL", raising=False)
    reset_event_bus()
    yield
    reset_event_bus()


def works(stage: StageExecution) -> TaskResult:
    emit_progress(stage, "half", percent=50)
    return TaskResult.success()


def flow() -> Workflow:
    return Workflow.create("app", "w", [StageExecution(ref_id="s", tasks=[TaskExecution.create("works", "works")])])


def test_a_task_by_itself_tells_its_stream() -> None:
    """At once, and only that of its workflow; a closed one hears nothing."""
    mine, other = flow(), flow()
    seen: list[StreamItem] = []
    with WorkflowStream(mine.id) as stream:
        stream.on_event(seen.append)
        works(mine.stages[0])
        works(other.stages[0])
    works(mine.stages[0])

    [item] = seen
    assert (item.event_type, item.entity_id, item.source) == ("custom.progress", mine.stages[0].id, "live")
    assert (item.data["message"], item.data["percent"]) == ("half", 50)
    assert get_event_bus().get_subscriptions() == []


def test_a_stage_without_a_workflow_tells_nobody() -> None:
    """And the task goes on."""
    assert works(StageExecution(ref_id="s")).status.is_successful


def test_in_a_workflow_progress_is_heard_once() -> None:
    """From its history, where it is kept."""
    registry, store, queue = TaskRegistry(), RedisWorkflowStore("memory://"), CeleryQueue()
    registry.register("works", works)
    workflow = flow()
    items: list[StreamItem] = []
    with QueueProcessor(queue, store=store, task_registry=registry) as processor:
        store.store(workflow)
        stream = WorkflowStream(workflow.id, store)
        stream.on_event(items.append)
        Orchestrator(queue).start(workflow)
        processor.process_all(timeout=30)
        assert stream._listener is not None
        stream._listener.join(30)
        stream.close()

    seen = {item.event_type: item for item in items}
    (stage,) = workflow.stages
    assert len(seen) == len(items)
    assert seen["custom.progress"].entity_id == seen["stage.completed"].entity_id == stage.id
    assert seen["task.completed"].entity_id == stage.tasks[0].id
    assert seen["stage.completed"].data["ref_id"] == "s"
    assert items[-1].event_type == "workflow.completed"
    began, ended = (seen[kind].data for kind in ("stage.started", "stage.completed"))
    assert ended["duration_ms"] == ended["end_time"] - began["start_time"]


def test_events_are_numbered_as_they_stand_in_the_history() -> None:
    """Those of several commits in one millisecond, too: each commit's has ids of its own."""
    packed = {"all": msgspec.msgpack.encode([{"kind": "a"}, {"kind": "b"}])}
    entries = ["5-0", "5-1", "5-2", "6-0", "7-0"]
    stored = [event.id for entry in entries for event in events_of(entry, packed)]

    numbers = [StreamItem.from_event(WorkflowEvent(one, "a", "", 5), "live").sequence for one in stored]

    assert numbers == sorted(set(numbers))
