"""A workflow's state at some time of its past: of its own history, and of events that a test makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stabilize_celery.compat import (
    CeleryQueue,
    EntityType,
    Event,
    EventMetadata,
    EventMigrator,
    EventQuery,
    EventReplayer,
    EventType,
    Orchestrator,
    QueueProcessor,
    RedisWorkflowStore,
    SqliteEventStore,
    create_stage_event,
    create_task_event,
    create_workflow_event,
    get_event_bus,
    get_event_migrator,
    reset_event_bus,
    reset_event_migrator,
)
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.registry import TaskRegistry
from tests.servers import free_port

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
META = EventMetadata("w", actor="tester")


def at(event: Event, second: int) -> Event:
    return Event.from_dict({**event.to_dict(), "timestamp": (BEGAN + timedelta(seconds=second)).isoformat()})


@pytest.fixture
def store() -> SqliteEventStore:
    """Five events of a workflow."""
    made = SqliteEventStore("sqlite:///:memory:", create_tables=True)
    events = [
        create_workflow_event(EventType.WORKFLOW_STARTED, "w", 1, {"name": "n", "context": {"a": 1}}, META),
        create_stage_event(EventType.STAGE_STARTED, "s", "w", 1, {"ref_id": "s", "type": "shell"}, META),
        create_task_event(EventType.TASK_RETRIED, "t", "w", 1, {"retry_count": 2}, META),
        create_stage_event(EventType.STAGE_FAILED, "s", "w", 2, {"error": "no"}, META),
        create_workflow_event(EventType.WORKFLOW_FAILED, "w", 2, {}, META),
    ]
    made.append_batch(at(event, second) for second, event in enumerate(events))
    return made


def test_a_state_is_rebuilt_as_of_an_event_and_as_of_a_time(store: SqliteEventStore) -> None:
    """What had not happened yet is not in it."""
    replayer = EventReplayer(store)
    whole, early = replayer.rebuild_workflow_state("w"), replayer.rebuild_workflow_state("w", as_of_sequence=2)

    assert (whole["status"], whole["name"], whole["context"]) == ("TERMINAL", "n", {"a": 1})
    assert (whole["stages"]["s"]["status"], whole["stages"]["s"]["error"]) == ("TERMINAL", "no")
    assert (whole["tasks"]["t"]["retry_count"], whole["end_time"]) == (2, "2026-01-01T00:00:04+00:00")
    assert (early["status"], early["stages"]["s"]["status"], early["tasks"]) == ("RUNNING", "RUNNING", {})
    assert replayer.time_travel_query("w", BEGAN + timedelta(seconds=1)) == early
    compared = replayer.compare_states("w", 2, 5)
    assert (compared["before"], compared["after"]) == (early, whole)


def test_events_are_asked_for_by_what_they_are(store: SqliteEventStore) -> None:
    """A page of them, in either order; and those of one stage."""
    last = EventQuery(workflow_id="w", event_types=[EventType.STAGE_FAILED, EventType.WORKFLOW_FAILED], ascending=False)
    page = EventQuery(workflow_id="w", from_sequence=2, to_sequence=4, limit=1, offset=1)

    assert [event.sequence for event in store.get_events(last)] == [5, 4]
    assert [event.sequence for event in store.get_events(page)] == [3]
    assert [event.sequence for event in store.get_events_since(3)] == [4, 5]
    history = EventReplayer(store).get_entity_history(EntityType.STAGE, "s")
    assert [event["event_type"] for event in history] == ["stage.started", "stage.failed"]
    assert Event.from_dict(history[0]).metadata == META
    with pytest.raises(ValueError, match="whose stage is 'other'"):
        store.get_events_for_entity(EntityType.STAGE, "other")


def test_the_history_of_a_run_is_replayed() -> None:
    """Nobody appended anything: it is kept anyway."""
    workflows, registry = RedisWorkflowStore("memory://"), TaskRegistry()
    registry.register("ok", lambda _: TaskResult.success({"n": 1}))
    queue = CeleryQueue()
    processor = QueueProcessor(queue, store=workflows, task_registry=registry)
    flow = Workflow.create(
        "app", "n", [StageExecution(ref_id="a", type="kind", name="A", tasks=[TaskExecution.create("ok", "ok")])]
    )
    Orchestrator(queue).start(flow)
    processor.process_all(timeout=30)
    seen: list[Event] = []
    replayer = EventReplayer(SqliteEventStore())
    replayer.replay_workflow_from_checkpoint(flow.id, 0, seen.append)

    assert [(one.event_type.value, one.data["outputs"]) for one in seen if "outputs" in one.data] == [
        ("task.completed", {"n": 1}),
        ("stage.completed", {"n": 1}),
    ]
    started = next(one for one in seen if one.event_type is EventType.WORKFLOW_STARTED)
    assert (started.data["initial_stage_ids"], started.data["context"]) == ([flow.stages[0].id], flow.context)
    state = replayer.rebuild_workflow_state(flow.id)
    assert (state["status"], state["stages"][flow.stages[0].id]["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert (state["application"], state["name"]) == (flow.application, flow.name)
    assert replayer.rebuild_workflow_state(flow.id, seen[0].sequence)["stages"] == {}
    assert {event.metadata.correlation_id for event in seen} == {flow.id}
    by_id, by_ref = (EventQuery(EntityType.STAGE, key, flow.id) for key in (flow.stages[0].id, "a"))
    told = list(SqliteEventStore().get_events(by_id))
    assert told == list(SqliteEventStore().get_events(by_ref))
    assert [(one.data["name"], one.data["type"], one.data["task_count"]) for one in told] == [("A", "kind", 1)] * 2
    task = list(SqliteEventStore().get_events(EventQuery(EntityType.TASK, flow.stages[0].tasks[0].id, flow.id)))[-1]
    assert (task.data["name"], task.data["status"], task.data["stage_id"]) == ("ok", "SUCCEEDED", flow.stages[0].id)


def test_the_histories_of_all_workflows_are_one() -> None:
    """In the order of their times, where a query names none; a stage's or a task's is found by its id alone."""
    workflows, queue = RedisWorkflowStore("memory://"), CeleryQueue()
    processor = QueueProcessor(queue, store=workflows)
    flows = [
        Workflow.create("app", "n", [StageExecution(ref_id="a", name="A", tasks=[TaskExecution.create("t", "noop")])])
        for _ in range(2)
    ]
    for flow in flows:
        Orchestrator(queue).start(flow)
        processor.process_all(timeout=30)
    events = SqliteEventStore()

    ended = list(events.get_events(EventQuery(event_types={EventType.WORKFLOW_COMPLETED})))
    assert [event.workflow_id for event in ended] == [flow.id for flow in flows]
    assert ended[1].sequence == events.get_current_sequence() == events.count_events()
    assert events.get_events_since(ended[0].sequence)[0].workflow_id == flows[1].id
    assert events.get_event_by_id(ended[0].event_id) == ended[0]
    assert events.get_event_by_id("other") is None
    stage = flows[0].stages[0]
    told = events.get_events_for_entity(EntityType.STAGE, stage.id)
    assert [event.event_type.value for event in told] == ["stage.started", "stage.completed"]
    assert {event.entity_id for event in events.get_events_for_entity(EntityType.TASK, stage.tasks[0].id)} == {
        stage.tasks[0].id
    }


def test_an_event_of_a_type_that_is_not_known_keeps_no_other_from_being_read() -> None:
    assert Event.from_dict({"event_type": "stage.dreamt"}).event_type is EventType.UNKNOWN


@pytest.fixture
def migrator() -> Iterator[EventMigrator]:
    reset_event_migrator()
    yield get_event_migrator()
    reset_event_migrator()


def test_events_of_an_older_shape_are_brought_to_the_new_one(migrator: EventMigrator) -> None:
    """By what the program registered, when they are replayed; one step follows the other."""

    @migrator.register(1, 2)
    def named(event: Event) -> Event:
        return replace(event, data={"state": event.data["old"]}, schema_version=2)

    @migrator.register(2, 3)
    def called(event: Event) -> Event:
        return replace(event, data={"status": event.data["state"]}, schema_version=3)

    store = SqliteEventStore()
    store.append(create_workflow_event(EventType.WORKFLOW_COMPLETED, "w", 1, {"old": "DONE"}, META))

    assert EventReplayer(store).rebuild_workflow_state("w")["status"] == "DONE"
    assert migrator.registered_migrations == [(1, 2), (2, 3)]


def test_a_missing_migration_is_told_to_who_asks(migrator: EventMigrator) -> None:
    """A replay goes as far as it can."""
    event = create_workflow_event(EventType.WORKFLOW_COMPLETED, "w", 1, {}, META)
    newer = replace(event, schema_version=9)

    assert migrator.migrate(event) is event
    assert migrator.migrate(event, 2, strict=False) is event
    assert migrator.migrate(newer, 2, strict=False) is newer
    with pytest.raises(ValueError, match="no migration leads to 2"):
        migrator.migrate(event, 2)
    with pytest.raises(ValueError, match="has version 9"):
        migrator.migrate(newer, 2)


def test_a_migration_leads_to_the_next_version(migrator: EventMigrator) -> None:
    """Neither further, nor nowhere."""
    with pytest.raises(ValueError, match="from one version to the next, not from 1 to 3"):
        migrator.register(1, 3)
    migrator.register(1, 2)(lambda event: event)
    with pytest.raises(ValueError, match="from version 1 made version 1"):
        migrator.migrate(create_workflow_event(EventType.WORKFLOW_COMPLETED, "w", 1, {}, META))


def test_a_reset_bus_is_a_new_one() -> None:
    """Who holds the one of before is told nothing any more."""
    before, seen = get_event_bus(), []
    before.subscribe("mine", seen.append)

    reset_event_bus()

    assert get_event_bus() is not before
    before.publish(create_workflow_event(EventType.WORKFLOW_COMPLETED, "w", 1, {}, META))
    assert seen == []


def test_a_store_that_was_closed_is_not_asked_any_more() -> None:
    """Its server may be gone: histories are looked for in those that the program still uses."""
    gone = RedisWorkflowStore(f"redis://127.0.0.1:{free_port()}/0")
    gone.close()

    assert RedisWorkflowStore.holding("nobody's") is None
    gone.close()
