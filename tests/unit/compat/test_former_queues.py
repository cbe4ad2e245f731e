"""Messages that are pushed before their time, or polled by hand, and what is stored in one go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from stabilize_celery.compat import (
    CancelWorkflow,
    CompleteTask,
    ConcurrencyError,
    Orchestrator,
    QueueProcessor,
    RunTask,
    SqliteQueue,
    SqliteWorkflowStore,
    StageExecution,
    StartStage,
    StartWorkflow,
    TaskExecution,
    Workflow,
    WorkflowCriteria,
    WorkflowStatus,
)

LATER = timedelta(hours=1)


@pytest.fixture(autouse=True)
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says where Redis is."""
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def queue() -> SqliteQueue:
    return SqliteQueue("sqlite:///:memory:", table_name="queue_messages")


@pytest.fixture
def store() -> Iterator[SqliteWorkflowStore]:
    with SqliteWorkflowStore("sqlite:///:memory:", create_tables=True) as store:
        yield store


def gate() -> Workflow:
    stage = StageExecution(ref_id="gate", name="gate", tasks=[TaskExecution.create("gate", "approval")])
    return Workflow.create("app", "gate", [stage])


def test_what_is_started_before_there_is_a_processor_waits_for_it(
    queue: SqliteQueue, store: SqliteWorkflowStore
) -> None:
    """In the queue, so that the processor handles it at once when it comes."""
    workflow = gate()
    Orchestrator(queue, store=store).start(workflow)

    assert queue.size() == 1
    assert queue.has_pending_message_for_execution(workflow.id)
    assert not queue.has_pending_message_for_execution("other")
    with QueueProcessor(queue, store=store) as processor:
        assert processor.process_one()
        assert store.retrieve(workflow.id).status is WorkflowStatus.RUNNING


# -- polled by hand ----------------------------------------------------------------------------------------------------


def test_a_message_is_polled_once_until_it_is_acknowledged(queue: SqliteQueue) -> None:
    """With its fields, a number, and how often it was polled."""
    queue.push(StartWorkflow(execution_id="w"))
    queue.push(StartStage(execution_id="w", stage_id="s"))

    first, second = queue.poll_one(), queue.poll_one()

    assert isinstance(first, StartWorkflow)
    assert isinstance(second, StartStage)
    assert (first.attempts, second.stage_id, queue.poll_one(), queue.size()) == (1, "s", None, 2)
    queue.ack(first)
    queue.reschedule(second, timedelta())
    again = queue.poll_one()
    assert again is not None
    assert (type(again), again.attempts, queue.size()) == (StartStage, 2, 1)
    queue.clear()
    assert queue.size() == 0


def test_a_delayed_message_can_not_be_polled_yet(queue: SqliteQueue) -> None:
    """It counts, and is about its workflow; `ensure` adds no equal one."""
    queue.push(StartWorkflow(execution_id="w"), delay=LATER)
    queue.ensure(StartWorkflow(execution_id="w"), LATER)

    assert queue.poll_one() is None
    assert queue.size() == 1
    assert queue.has_pending_message_for_execution("w")
    assert not queue.has_pending_message_for_execution("v")
    told: list[object] = []
    queue.poll(told.append)
    queue.push(CompleteTask(task_id="t"))
    queue.poll(told.append)
    assert ([type(one).__name__ for one in told], queue.size()) == (["CompleteTask"], 1)


def test_dead_letters_are_listed_and_replayed(queue: SqliteQueue) -> None:
    """By type, newest first."""
    for message in (StartStage(execution_id="1"), CompleteTask(execution_id="2", status=WorkflowStatus.SUCCEEDED)):
        queue.push(message)
        polled = queue.poll_one()
        assert polled is not None
        assert queue.move_to_dlq(int(str(polled.message_id)), f"error {polled.execution_id}")
    assert not queue.move_to_dlq(99, "there is none")

    (complete,) = queue.list_dlq(message_type="CompleteTask")
    assert (queue.dlq_size(), queue.size(), complete["error"], complete["attempts"]) == (2, 0, "error 2", 1)
    assert queue.replay_dlq(complete["id"])
    assert not queue.replay_dlq(complete["id"])
    assert (queue.clear_dlq(), queue.dlq_size(), queue.size()) == (1, 0, 1)


def test_what_was_polled_too_often_is_put_aside() -> None:
    """It is no more polled, either; how often is too often, and how long a poll keeps others away, the queue says."""
    queue = SqliteQueue("sqlite:///:memory:", "queue_messages", timedelta(), 1)
    queue.push(StartStage(execution_id="1"))
    assert queue.check_and_move_expired() == 0
    assert queue.poll_one() is not None

    assert queue.poll_one() is None
    assert queue.check_and_move_expired() == 1
    assert queue.dlq_size() == 1


# -- with a processor --------------------------------------------------------------------------------------------------


def test_a_processor_applies_messages_when_they_are_due(queue: SqliteQueue, store: SqliteWorkflowStore) -> None:
    """Those pushed before it came, and delayed ones; it waits for what is due within its timeout."""
    workflow = gate()
    store.store(workflow)
    queue.push(StartWorkflow(execution_id=workflow.id))
    with QueueProcessor(queue, store=store) as processor:
        processor.process_all(timeout=30)
        assert store.retrieve(workflow.id).stages[0].status is WorkflowStatus.SUSPENDED

        queue.push(CancelWorkflow(execution_id=workflow.id, user="me"), delay=timedelta(milliseconds=50))
        assert store.retrieve(workflow.id).status is WorkflowStatus.RUNNING
        processor.process_all(timeout=30)
        assert store.retrieve(workflow.id).status is WorkflowStatus.CANCELED


def test_what_can_not_be_applied_is_a_dead_letter(queue: SqliteQueue, store: SqliteWorkflowStore) -> None:
    """Messages of the engine, and of workflows that are not there; others go on."""
    queue.push(StartStage(execution_id="w", stage_id="s"))
    queue.push(StartWorkflow(execution_id="nobody"))
    with QueueProcessor(queue, store=store) as processor:
        processor.process_all(timeout=1)

        assert {one["message_type"] for one in queue.list_dlq()} == {"StartStage", "StartWorkflow"}
        with pytest.raises(TypeError, match="can't be pushed"):
            queue.push(StartStage(execution_id="w", stage_id="s"), delay=LATER)
        with pytest.raises(TypeError, match="polled by hand"):
            queue.poll_one()


# -- stored in one go --------------------------------------------------------------------------------------------------


def test_a_transaction_does_all_at_its_end(queue: SqliteQueue, store: SqliteWorkflowStore) -> None:
    """The stage is there, the message applied."""
    workflow = gate()
    store.store(workflow)
    Orchestrator(queue, store)
    stage = store.retrieve_stage(workflow.stages[0].id)
    stage.context["by"] = "me"

    with store.transaction(queue) as txn:
        txn.store_stage(stage)
        txn.push_message(StartWorkflow(execution_id=workflow.id))
        txn.mark_message_processed("m", "StartWorkflow", workflow.id)
        assert store.retrieve(workflow.id).stages[0].context == {}

    started = store.retrieve(workflow.id)
    assert (started.status, started.stages[0].context) == (WorkflowStatus.RUNNING, {"by": "me"})


def test_a_transaction_without_a_queue_uses_the_one_that_serves_the_store(
    queue: SqliteQueue, store: SqliteWorkflowStore
) -> None:
    workflow = gate()
    store.store(workflow)
    queue.serve(store)

    with store.transaction() as txn:
        txn.push_message(StartWorkflow(execution_id=workflow.id))

    assert store.retrieve(workflow.id).status is WorkflowStatus.RUNNING


def test_a_transaction_that_fails_does_nothing(store: SqliteWorkflowStore) -> None:
    """By an error inside, or by what it is asked."""
    workflow = gate()
    store.store(workflow)
    stage = store.retrieve_stage(workflow.stages[0].id)
    stage.context["by"] = "me"

    def in_one_go() -> None:
        with store.transaction() as txn:
            txn.store_stage(stage)
            txn.update_workflow_status(workflow)
            txn.push_message(StartWorkflow(execution_id=workflow.id))

    with pytest.raises(TypeError, match="give the transaction its queue"):
        in_one_go()

    assert store.retrieve(workflow.id).stages[0].context == {}


def test_a_stage_that_was_changed_meanwhile_is_not_stored(store: SqliteWorkflowStore) -> None:
    """Each change counts in its version."""
    workflow = gate()
    store.store(workflow)
    mine, yours = (store.retrieve_stage(workflow.stages[0].id) for _ in "12")
    store.store_stage(mine)

    with pytest.raises(ConcurrencyError, match="read it again"):
        store.store_stage(yours)
    assert store.retrieve_stage(mine.id).version == 1


def test_what_is_paused_before_its_start_is_resumed_before_it(queue: SqliteQueue, store: SqliteWorkflowStore) -> None:
    """And says who paused it."""
    workflow = gate()
    store.store(workflow)
    orchestrator = Orchestrator(queue, store)
    assert not store.resume(workflow.id)
    assert store.pause(workflow.id, paused_by="alice")
    assert not store.pause(workflow.id, paused_by="eve")
    paused = store.retrieve(workflow.id)
    assert paused.paused is not None
    assert (paused.status, paused.paused.paused_by) == (WorkflowStatus.PAUSED, "alice")

    with pytest.raises(ValueError, match="paused before it was started"):
        orchestrator.start(workflow)
    assert store.resume(workflow.id)
    orchestrator.start(workflow)
    assert store.retrieve(workflow.id).status is WorkflowStatus.RUNNING


def test_a_lock_that_is_extended_keeps_a_message_from_others(queue: SqliteQueue) -> None:
    """Until it is acknowledged; then there is nothing to be kept."""
    queue.push(StartWorkflow(execution_id="w"))
    message = queue.poll_one()
    assert message is not None

    assert queue.extend_lock(message, timedelta(seconds=0))
    again = queue.poll_one()
    assert again is not None
    assert queue.extend_lock(again)
    assert queue.poll_one() is None
    queue.ack(again)
    assert not queue.extend_lock(again)


def test_a_queue_tells_what_it_has_messages_about(queue: SqliteQueue) -> None:
    """By the whole id."""
    queue.push(RunTask(execution_id="w", stage_id="stage-1", task_id="task-12"))

    assert queue.has_pending_message_for_task("task-12")
    assert not queue.has_pending_message_for_task("task-1")
    assert queue.has_pending_message_for_stage("stage-1")
    assert not queue.has_pending_message_for_stage("task-12")


def test_what_has_not_ended_is_found_in_all_applications(queue: SqliteQueue, store: SqliteWorkflowStore) -> None:
    """Stored, or running; or what has the statuses that are asked for."""
    done, waiting, stored = (Workflow.create(name, name, gate().stages) for name in ("a", "b", "c"))
    done.status = WorkflowStatus.SUCCEEDED
    for workflow in (done, waiting, stored):
        store.store(workflow)
    Orchestrator(queue, store=store).start(waiting)

    found = {one.id for one in store.get_all_pending_workflows()}
    ended = store.get_all_pending_workflows(WorkflowCriteria(statuses={WorkflowStatus.SUCCEEDED}))

    assert found == {waiting.id, stored.id}
    assert [one.id for one in ended] == [done.id]


def test_requisites_that_were_given_as_a_list_are_a_set(store: SqliteWorkflowStore) -> None:
    """In what is stored."""
    workflow = Workflow.create("app", "w", [StageExecution(ref_id="a"), StageExecution(ref_id="b")])
    workflow.stages[1].requisite_stage_ref_ids = ["a"]  # type: ignore[assignment]
    store.store(workflow)

    assert store.retrieve(workflow.id).stages[1].requisite_stage_ref_ids == {"a"}
