"""Calls as upstream's programs write them: with its names of arguments, in its order."""

from __future__ import annotations

import inspect
import sqlite3
import time
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from stabilize_celery import compat
from stabilize_celery.compat import (
    CancelWorkflow,
    ConcurrencyError,
    Event,
    EventBus,
    EventType,
    HandlerConfig,
    Orchestrator,
    QueueProcessor,
    QueueProcessorConfig,
    RunTaskHandler,
    SqliteEventStore,
    SqliteQueue,
    SqliteWorkflowStore,
    StageExecution,
    StageGraphBuilder,
    StartWorkflow,
    SynchronousQueueProcessor,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    TransientError,
    Workflow,
    WorkflowRecovery,
    WorkflowStatus,
    configure_event_bus,
    recover_on_startup,
    reset_event_bus,
    send_signal,
)
from stabilize_celery.compat.executing import FormerExecutor
from stabilize_celery.tasks.options import TaskOptions

CALLS = (Path(__file__).parent / "upstream_calls.txt").read_text().splitlines()
"""A callable of upstream 0.20 or 0.33, and its parameters; behind `*` those that have a name only."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteWorkflowStore]:
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    with SqliteWorkflowStore("sqlite:///:memory:", create_tables=True) as store:
        yield store


@pytest.fixture
def queue() -> SqliteQueue:
    return SqliteQueue("sqlite:///:memory:")


def one_stage(kind: str = "say") -> Workflow:
    stage = StageExecution(ref_id="1", type="x", name="1", tasks=[TaskExecution.create("t", kind)])
    return Workflow.create(application="app", name="w", stages=[stage])


def registry() -> TaskRegistry:
    made = TaskRegistry()
    made.register("say", lambda _: TaskResult.success(outputs={"said": True}))
    return made


@pytest.mark.parametrize("call", CALLS)
def test_what_upstream_takes_is_taken_by_its_name_and_in_its_place(call: str) -> None:
    name, *parameters = call.split()
    cut = parameters.index("*") if "*" in parameters else len(parameters)
    ours = inspect.signature(attrgetter(name)(compat))
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [one.name for one in ours.parameters.values() if one.kind in positional and one.name != "self"]
    kinds = {one.kind for one in ours.parameters.values()}

    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        assert places[:cut] == parameters[:cut]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        assert {*parameters} - {"*"} <= {*ours.parameters}


# -- processors --------------------------------------------------------------------------------------------------------


def test_a_synchronous_processor_works_only_when_it_is_told_to(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    """Starting and stopping it does nothing; what is pushed is handled at once, with all that comes of it."""
    workflow = one_stage()
    store.store(workflow)
    processor = SynchronousQueueProcessor(queue, store, registry(), QueueProcessorConfig(max_workers=2))
    processor.start()
    assert not processor.is_running

    processor.push_and_process(StartWorkflow(execution_id=workflow.id))

    assert store.retrieve(workflow.id).status is WorkflowStatus.SUCCEEDED
    assert processor.stop() == 0
    assert not processor.is_stopping


def test_a_processor_is_set_by_a_handler_config(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    """In upstream's place, before the task types; what is about circuits and bulkheads is accepted."""
    workflow = one_stage()
    config, types = HandlerConfig(max_workers=3), registry()
    with QueueProcessor(
        queue, None, store, config, types, bulkhead_manager=None, circuit_factory=object()
    ) as processor:
        Orchestrator(queue).start(execution=workflow, handler_config=config)
        processor.process_all()

        assert processor.config.max_workers == 3
        assert store.retrieve(execution_id=workflow.id).status is WorkflowStatus.SUCCEEDED
        assert QueueProcessorConfig.from_handler_config(handler_config=config).max_workers == 3


def test_the_pauses_between_tries_are_those_of_the_handler_config(
    store: SqliteWorkflowStore, queue: SqliteQueue
) -> None:
    """So a test-suite does not wait for them; a task that is registered with pauses of its own keeps them."""
    tries: list[str] = []
    own = TaskRegistry()

    def fail(stage: StageExecution) -> TaskResult:
        tries.append(stage.ref_id)
        if len(tries) < 4:
            raise TransientError("again")
        return TaskResult.success()

    own.register("say", fail)
    config = HandlerConfig(task_backoff_min_delay_ms=1, task_backoff_max_delay_ms=2)
    workflow = one_stage()
    with QueueProcessor(queue, store=store, handler_config=config, task_registry=own) as processor:
        Orchestrator(queue).start(workflow)
        processor.process_all(timeout=1)

    assert store.retrieve(workflow.id).status is WorkflowStatus.SUCCEEDED
    assert FormerExecutor(1, config=config)._with_pauses(TaskOptions(backoff_s=7)).backoff_s == 7


def test_what_one_processor_leaves_another_one_does(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    """Though the first one is not closed, as after a crash that a test plays."""
    workflow = one_stage()
    Orchestrator(queue, store).start(workflow)
    first = QueueProcessor(queue, store=store, task_registry=registry())
    assert first.process_one()

    with QueueProcessor(SqliteQueue(), store=store, task_registry=registry()) as second:
        second.process_all(timeout=20)
        assert store.retrieve(workflow.id).status is WorkflowStatus.SUCCEEDED


def test_a_function_as_handler_is_refused_by_name(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    processor = QueueProcessor(queue, store=store)
    processor.register_handler(RunTaskHandler(queue, store, registry()))

    with pytest.raises(TypeError, match="can't take the engine's place"):
        processor.register_handler_func(message_type=CancelWorkflow, handler_func=print)


# -- stores and queues -------------------------------------------------------------------------------------------------


def test_a_store_is_asked_by_the_id_of_an_execution(store: SqliteWorkflowStore) -> None:
    workflow = one_stage()
    store.store(execution=workflow)

    assert store.exists(execution_id=workflow.id)
    assert store.get_upstream_stages(execution_id=workflow.id, stage_ref_id="1") == []
    store.pause(execution_id=workflow.id, paused_by="me")
    store.resume(execution_id=workflow.id)
    store.cancel(execution_id=workflow.id, canceled_by="me", reason="enough")
    assert store.retrieve(workflow.id).canceled_by == "me"
    store.delete(execution_id=workflow.id)
    assert not store.exists(workflow.id)


def test_what_is_stored_already_can_not_be_stored_again(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    """Started or not; else its run would not be seen any more."""
    workflow = one_stage()
    store.store(workflow)
    with pytest.raises(sqlite3.IntegrityError, match="is stored already"):
        store.store(workflow)

    Orchestrator(queue, store).start(workflow)
    with pytest.raises(sqlite3.IntegrityError, match="is stored already"):
        store.store(workflow)
    assert store.retrieve(workflow.id).status is WorkflowStatus.RUNNING


def test_what_was_stored_only_is_started_by_a_recovery(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    """At the start of a processor that is to recover, too; one that was cancelled, or is another's, is not."""
    one, other, cancelled = one_stage(), one_stage(), one_stage()
    other.application = "other"
    for workflow in (one, other, cancelled):
        store.store(workflow)
    store.cancel(cancelled.id)

    (told,) = recover_on_startup(store, queue, "app")
    assert (told.workflow_id, told.status, told.stages_requeued) == (one.id, "recovered", 1)
    assert queue.size() == 1
    assert store.retrieve(other.id).status is WorkflowStatus.NOT_STARTED
    with QueueProcessor(
        queue, QueueProcessorConfig(recover_on_start=True), store, task_registry=registry()
    ) as processor:
        processor.start()
        ended = [store.wait(workflow.id, 20).status for workflow in (one, other)]
    assert ended == [WorkflowStatus.SUCCEEDED] * 2


def test_what_was_stored_as_running_is_started_from_its_beginning(
    store: SqliteWorkflowStore, queue: SqliteQueue
) -> None:
    """Not if it was started too long ago, and not if a part of it has ended: nobody would know its outputs."""
    young, old, half = one_stage(), one_stage(), one_stage()
    for workflow, hours in ((young, 0), (old, 100), (half, 0)):
        workflow.status = WorkflowStatus.RUNNING
        workflow.start_time = int((time.time() - 3600 * hours) * 1000)
    half.stages[0].status = WorkflowStatus.SUCCEEDED
    for workflow in (young, old, half):
        store.store(workflow)

    told = {one.workflow_id: one.status for one in WorkflowRecovery(store, queue, 24.0).recover_pending_workflows()}

    assert told == {young.id: "recovered", half.id: "failed"}


def test_versions_grow_with_a_run(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    """Of stages and tasks."""
    workflow = one_stage()
    with QueueProcessor(queue, store=store, task_registry=registry()) as processor:
        store.store(workflow)
        assert store.retrieve(workflow.id).stages[0].version == 0
        Orchestrator(queue).start(workflow)
        processor.process_all()

    stage = store.retrieve(workflow.id).stages[0]
    assert (stage.version, stage.tasks[0].version) == (2, 2)


def test_keys_of_outputs_are_texts_as_json_has_them(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    """At any depth, and in a context that is changed before it is stored."""
    workflow, types = one_stage(), TaskRegistry()
    types.register("say", lambda _: TaskResult.success({"by": [{1: "a", False: "b", None: {2.5: "c"}}]}))
    workflow.stages[0].context["of"] = {1: 2}
    with QueueProcessor(queue, store=store, task_registry=types) as processor:
        store.store(workflow)
        Orchestrator(queue).start(workflow)
        processor.process_all()

    stage = store.retrieve(workflow.id).stages[0]
    assert stage.outputs == {"by": [{"1": "a", "false": "b", "null": {"2.5": "c"}}]}
    assert stage.context == {"of": {"1": 2}}


def test_stages_of_one_name_can_not_be_stored(store: SqliteWorkflowStore) -> None:
    workflow = one_stage()
    workflow.stages.append(one_stage().stages[0])

    with pytest.raises(sqlite3.IntegrityError, match="several stages with the ref_id '1'"):
        store.store(workflow)


def test_a_store_lists_workflows_and_what_is_above_a_stage(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    workflow = one_stage()
    workflow.add_stage(StageExecution(ref_id="2", name="2", requisite_stage_ref_ids={"1"}))
    store.store(workflow)
    Orchestrator(queue).start(workflow)
    with QueueProcessor(queue, store=store, task_registry=registry()) as processor:
        processor.process_all()
    newer = one_stage()
    store.store(newer)

    assert store.get_merged_ancestor_outputs(workflow.id, "2") == {"said": True}
    assert {one.id for one in store.list_workflows("app")} == {workflow.id, newer.id}
    assert len(store.list_workflows("app", limit=1)) == 1


def test_a_graph_builder_tells_what_was_added() -> None:
    graph = StageGraphBuilder.before_stages(one_stage().stages[0])
    assert (graph.is_empty(), graph.last_stage, graph.stages) == (True, None, [])

    first, second = StageExecution(ref_id="a"), StageExecution(ref_id="b")
    graph.append(first).append(second)

    assert (graph.is_empty(), graph.last_stage, graph.stages) == (False, second, [first, second])


def test_a_stage_is_stored_only_where_it_is_in_the_expected_phase(store: SqliteWorkflowStore) -> None:
    """Also within a transaction."""
    workflow = one_stage()
    store.store(workflow)
    stage = store.retrieve(workflow.id).stages[0]

    store.store_stage(stage, "NOT_STARTED")
    with pytest.raises(ConcurrencyError, match="NOT_STARTED by now, not RUNNING"):
        store.store_stage(stage, "RUNNING")
    with pytest.raises(ConcurrencyError), store.transaction() as txn:
        txn.store_stage(stage, expected_phase="RUNNING")


def test_a_signal_is_sent_by_its_name_and_data(store: SqliteWorkflowStore, queue: SqliteQueue) -> None:
    workflow = one_stage("approval")
    with QueueProcessor(queue, store=store, task_registry=registry()) as processor:
        Orchestrator(queue).start(workflow)
        processor.process_all()
        named: dict[str, Any] = {"signal_name": "approve", "signal_data": {"by": "me"}, "execution_type": "PIPELINE"}
        assert send_signal(queue=queue, execution_id=workflow.id, stage_id=workflow.stages[0].id, **named)
        processor.process_all()

    assert store.retrieve(workflow.id).stages[0].outputs["approval"]["by"] == "me"


# -- events ------------------------------------------------------------------------------------------------------------


def test_an_event_store_is_made_by_a_connection_string() -> None:
    named = SqliteEventStore(connection_string="sqlite:///:memory:", create_tables=True)

    assert SqliteEventStore("sqlite:///:memory:", True).url == named.url


def test_a_bus_tells_an_error_to_the_handler_that_it_was_given() -> None:
    """The bus of the process, too."""
    told: list[str] = []

    def fail(_: Event) -> None:
        raise RuntimeError("no")

    for bus in (
        EventBus(max_workers=2, error_handler=lambda *about: told.append(about[0])),
        configure_event_bus(4, lambda *about: told.append(about[0])),
    ):
        bus.subscribe("failing", fail)
        bus.publish(Event(EventType.WORKFLOW_STARTED, workflow_id="w"))
    reset_event_bus()

    assert told == ["failing", "failing"]
