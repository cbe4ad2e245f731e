"""What programs find where they look for it: signals, statuses, conditions, in the order of before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stabilize_celery.compat import (
    ConfigurationError,
    ExpressionError,
    Orchestrator,
    QueueProcessor,
    SignalStage,
    SplitType,
    SqliteQueue,
    SqliteWorkflowStore,
    StageExecution,
    SynchronousQueueProcessor,
    Task,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    Trigger,
    Workflow,
    WorkflowCriteria,
    WorkflowStatus,
    create_queue,
    create_repository,
    evaluate_expression,
    get_default_registry,
    get_task,
    register_task,
    task,
)


class WaitsForAnything(Task):
    """As upstream's guide has it."""

    def execute(self, stage: StageExecution) -> TaskResult:
        if stage.context.get("_signal_name"):
            return TaskResult.success(outputs={"got": stage.context["_signal_data"]})
        return TaskResult.suspend()


@pytest.fixture(autouse=True)
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says where Redis is."""
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL", "STABILIZE_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def processor() -> Iterator[QueueProcessor]:
    registry = TaskRegistry()
    registry.register("ok", lambda stage: TaskResult.success(outputs={"by": stage.ref_id}))
    registry.register("fail", lambda _: TaskResult.terminal("as it should"))
    registry.register("waits", WaitsForAnything)
    store = SqliteWorkflowStore("sqlite:///:memory:")
    with QueueProcessor(SqliteQueue(), store=store, task_registry=registry) as processor:
        yield processor


def stage(ref_id: str, kind: str, *after: str, **more: Any) -> StageExecution:
    tasks = [TaskExecution.create(kind, kind)]
    return StageExecution(ref_id=ref_id, name=ref_id, tasks=tasks, requisite_stage_ref_ids=set(after), **more)


def run(processor: QueueProcessor, *stages: StageExecution, **more: Any) -> dict[str, str]:
    workflow = Workflow.create("app", "w", stages, **more)
    Orchestrator(processor.queue).start(workflow)
    processor.process_all(timeout=30)
    return statuses(processor, workflow)


def statuses(processor: QueueProcessor, workflow: Workflow) -> dict[str, str]:
    return {one.ref_id: one.status.name for one in processor.store.retrieve(workflow.id).stages}


def test_a_signal_is_in_the_context_of_the_task_that_it_wakes(processor: QueueProcessor) -> None:
    """By the names that upstream gave it, whatever the signal is called."""
    workflow = Workflow.create("app", "w", [stage("a", "waits")])
    Orchestrator(processor.queue).start(workflow)
    processor.process_all(timeout=30)

    processor.queue.push(
        SignalStage(execution_id=workflow.id, stage_id="a", signal_name="full", signal_data={"level": 95})
    )
    processor.process_all(timeout=30)

    (ended,) = processor.store.retrieve(workflow.id).stages
    assert (ended.status, ended.outputs) == (WorkflowStatus.SUCCEEDED, {"got": {"level": 95}})
    assert "_signal_name" not in ended.context


def test_what_a_failure_kept_from_being_reached_is_not_started(processor: QueueProcessor) -> None:
    """Also behind a join that was reached from its other side; what a choice left out is SKIPPED."""
    choice = stage("choice", "ok", split_type=SplitType.OR, split_conditions={"yes": "True", "no": "False"})
    told = run(
        processor,
        choice, stage("yes", "ok", "choice"), stage("no", "ok", "choice"),
        stage("bad", "fail", "yes"), stage("join", "ok", "choice", "bad"), stage("end", "ok", "join"),
    )  # fmt: skip

    assert told == {
        "choice": "SUCCEEDED", "yes": "SUCCEEDED", "no": "SKIPPED", "bad": "TERMINAL",
        "join": "NOT_STARTED", "end": "NOT_STARTED",
    }  # fmt: skip


def test_what_a_cancellation_kept_from_being_reached_is_canceled(processor: QueueProcessor) -> None:
    workflow = Workflow.create("app", "w", [stage("a", "waits"), stage("b", "ok", "a"), stage("c", "ok", "b")])
    orchestrator = Orchestrator(processor.queue)
    orchestrator.start(workflow)
    processor.process_all(timeout=30)
    assert statuses(processor, workflow) == {"a": "SUSPENDED", "b": "NOT_STARTED", "c": "NOT_STARTED"}

    orchestrator.cancel(workflow, user="me", reason="enough")
    processor.process_all(timeout=30)

    assert set(statuses(processor, workflow).values()) == {"CANCELED"}
    assert {one.status.name for one in processor.store.wait(workflow, timeout=30).stages} == {"CANCELED"}


def test_what_had_done_its_work_when_another_failed_is_succeeded(processor: QueueProcessor) -> None:
    """The engine ends it CANCELED, because it was not over."""
    workflow = Workflow.create("app", "w", [stage("a", "ok"), stage("b", "fail", "a"), stage("c", "ok", "a")])
    Orchestrator(processor.queue).start(workflow)
    processor.process_all(timeout=30)

    assert statuses(processor, workflow) == {"a": "SUCCEEDED", "b": "TERMINAL", "c": "SUCCEEDED"}
    assert processor.store.client.get(workflow.id).stages[2].status is WorkflowStatus.CANCELED


def test_what_a_task_raised_is_in_the_context_of_its_stage(processor: QueueProcessor) -> None:
    """What it returned as its error stands there by itself."""

    def boom(_: StageExecution) -> TaskResult:
        raise ValueError("boom")

    processor.task_registry.register("boom", boom)
    workflow = Workflow.create("app", "w", [stage("a", "boom")])
    other = Workflow.create("app", "w", [stage("a", "fail")])
    for one in (workflow, other):
        Orchestrator(processor.queue).start(one)
    processor.process_all(timeout=30)

    details = processor.store.retrieve(workflow.id).stages[0].context["exception"]["details"]
    assert "boom" in details["error"]
    assert details["errors"] == [details["error"]]
    assert processor.store.retrieve(other.id).stages[0].context == {"error": "as it should"}


def test_what_a_task_put_out_before_it_failed_is_in_the_context_of_its_stage(processor: QueueProcessor) -> None:
    """Where programs look for exit codes and the like; what stands there stays."""

    def half(_: StageExecution) -> TaskResult:
        return TaskResult.failed_continue("half", outputs={"exit_code": 3, "mine": 1}, context={"mine": 2})

    processor.task_registry.register("half", half)
    workflow = Workflow.create("app", "w", [stage("a", "half")])
    Orchestrator(processor.queue).start(workflow)
    processor.process_all(timeout=30)

    (ended,) = processor.store.retrieve(workflow.id).stages
    assert ended.context == {"exit_code": 3, "mine": 2, "error": "half"}
    assert ended.outputs == {"exit_code": 3, "mine": 1}


def test_a_loop_counts_by_what_its_jumps_hand_on(processor: QueueProcessor) -> None:
    """The stage that jumped sees it, too, when it comes again."""

    class Check(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            rounds = stage.context.get("rounds", 0) + 1
            if rounds < 3:
                return TaskResult.jump_to("work", context={"rounds": rounds})
            return TaskResult.success(outputs={"done": rounds})

    processor.task_registry.register("check", Check)
    workflow = Workflow.create("app", "w", [stage("work", "ok"), stage("check", "check", "work")])
    Orchestrator(processor.queue).start(workflow)
    processor.process_all(timeout=30)

    ended = processor.store.retrieve(workflow.id)
    assert ended.status is WorkflowStatus.SUCCEEDED
    assert ended.stages[1].outputs == {"done": 3}


def test_a_task_type_that_nobody_will_ever_know_fails(processor: QueueProcessor) -> None:
    """In memory there is no other worker; what is registered later is known."""
    workflow = Workflow.create("app", "w", [stage("a", "okay")])
    Orchestrator(processor.queue).start(workflow)
    processor.process_all(timeout=30)

    (ended,) = processor.store.retrieve(workflow.id).stages
    assert ended.status is WorkflowStatus.TERMINAL
    assert "no task 'okay' is registered" in ended.context["exception"]["details"]["error"]
    processor.task_registry.register("okay", lambda _: TaskResult.success())
    assert run(processor, stage("a", "okay")) == {"a": "SUCCEEDED"}


def test_test_suites_find_the_task_types_by_the_handlers(processor: QueueProcessor) -> None:
    for handler in processor._handlers.values():
        handler.task_registry.register("more", lambda _: TaskResult.success())

    assert run(processor, stage("a", "more")) == {"a": "SUCCEEDED"}


def test_tasks_have_the_status_that_their_stage_gives_them(processor: QueueProcessor) -> None:
    """Borne, never begun, or called off."""

    def two(ref_id: str, kind: str, **context: Any) -> StageExecution:
        tasks = [TaskExecution.create("1", kind), TaskExecution.create("2", "ok")]
        return StageExecution(ref_id=ref_id, name=ref_id, tasks=tasks, context=context)

    flows = {
        name: Workflow.create("app", "w", [two("a", "fail", **context), stage("b", "ok", "a")])
        for name, context in {"ends": {}, "goes on": {"continuePipelineOnFailure": True}}.items()
    }
    flows["called off"] = Workflow.create("app", "w", [two("a", "waits")])
    orchestrator = Orchestrator(processor.queue)
    for flow in flows.values():
        orchestrator.start(flow)
    processor.process_all(timeout=30)
    orchestrator.cancel(flows["called off"], "me", "enough")
    processor.process_all(timeout=30)

    def told(name: str) -> list[str]:
        return [task.status.name for task in processor.store.retrieve(flows[name].id).stages[0].tasks]

    assert {name: told(name) for name in flows} == {
        "ends": ["TERMINAL", "SKIPPED"],
        "goes on": ["FAILED_CONTINUE", "SKIPPED"],
        "called off": ["CANCELED", "CANCELED"],
    }


def test_a_query_has_criteria(processor: QueueProcessor) -> None:
    """Statuses, a window of starts, and how many at most; newest first."""
    store = processor.store
    kinds = ("ok", "fail", "ok")
    workflows = [Workflow.create("app", "w", [stage("a", kind)], pipeline_config_id="p") for kind in kinds]
    for one in workflows:
        Orchestrator(processor.queue).start(one)
        processor.process_all(timeout=30)
    first, _, last = (one.id for one in workflows)

    def found(**criteria: Any) -> list[str]:
        return [one.id for one in store.retrieve_by_application("app", WorkflowCriteria(**criteria))]

    assert found(statuses={WorkflowStatus.SUCCEEDED}) == [last, first]
    assert found(page_size=1) == [last]
    assert found(start_time_before=1) == []
    assert len(found(start_time_after=1)) == len(kinds)
    pipeline = store.retrieve_by_pipeline_config_id("p", WorkflowCriteria(statuses={WorkflowStatus.TERMINAL}))
    assert [one.id for one in pipeline] == [workflows[1].id]


def test_process_all_handles_one_message_at_a_time(processor: QueueProcessor) -> None:
    """No task runs beside another: the second never comes to where the first waits for it."""
    both = threading.Barrier(2)

    def meet(stage: StageExecution) -> TaskResult:
        try:
            both.wait(0.5)
        except threading.BrokenBarrierError:
            return TaskResult.success(outputs={stage.ref_id: "alone"})
        return TaskResult.success(outputs={stage.ref_id: "together"})

    processor.task_registry.register("meet", meet)
    workflow = Workflow.create("app", "w", [stage("a", "meet"), stage("b", "meet")])
    Orchestrator(processor.queue).start(workflow)
    processor.process_all(timeout=30)

    assert processor.store.retrieve(workflow.id).get_context() == {"a": "alone", "b": "alone"}


def test_lists_of_several_branches_are_joined(processor: QueueProcessor) -> None:
    """Each item once; of other values the latest is seen. A join may say otherwise."""
    seen: dict[str, Any] = {}

    def found(stage: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={"found": [0, stage.ref_id], "by": stage.ref_id})

    def look(stage: StageExecution) -> TaskResult:
        seen[stage.ref_id] = (stage.context["found"], stage.context["by"])
        return TaskResult.success()

    processor.task_registry.register("found", found)
    processor.task_registry.register("look", look)
    run(
        processor,
        *(stage(name, "found") for name in "abc"),
        stage("all", "look", "a", "b", "c"),
        stage("last", "look", "a", "b", "c", output_reducers={"found": "last"}),
        stage("behind", "look", "all"),
    )

    assert seen == {"all": ([0, "a", "b", "c"], "c"), "last": ([0, "c"], "c"), "behind": ([0, "a", "b", "c"], "c")}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("config.limits.high", 7),
        ("config['limits'].high == 7 and not missing", True),
        ("'yes' if config.limits.high > 9 else 'no'", "no"),
        ("[] if not missing else 1", []),
        ("missing", None),
    ],
)
def test_an_expression_has_its_value_of_before(expression: str, value: Any) -> None:
    assert evaluate_expression(expression, {"config": {"limits": {"high": 7}}}) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 and 0", False),
        ("3 or missing", True),
        ("3 and ('a' or missing)", True),
        ("(0 or '') if 3 and 4 else 1", False),
    ],
)
def test_and_and_or_give_a_truth_value(expression: str, value: bool) -> None:
    """Not one of their operands, as Python has it."""
    assert evaluate_expression(expression, {}) is value


@pytest.mark.parametrize(("expression", "value"), [("1", True), (" 0 ", False), ("true", True), ("False", False)])
def test_a_number_alone_can_be_a_truth_value(expression: str, value: bool) -> None:
    """As switches of stages have it."""
    assert evaluate_expression(expression, {}) is value


@pytest.mark.parametrize("expression", ["", "a b", "().__class__", "text.upper()", "text.size", "f(1)"])
def test_no_attribute_of_an_object_is_ever_looked_at(expression: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate_expression(expression, {"text": "x"})


def test_a_program_makes_its_parts_by_url_and_has_its_tasks_in_the_process() -> None:
    """And runs to its end by the processor that has no threads of its own."""

    @task("greets", aliases=["says hello"])
    def greets(stage: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={"hello": stage.context["name"]})

    register_task("greets more", greets)
    url = "sqlite:///:memory:"
    store, queue = create_repository(url, create_tables=True), create_queue(url, lock_duration=timedelta(minutes=1))
    with SynchronousQueueProcessor(queue, store=store, task_registry=get_default_registry()) as processor:
        contexts = {"context": {"name": "you"}}
        stages = [stage("a", "greets", **contexts), stage("b", "says hello", **contexts)]
        assert run(processor, *stages, stage("c", "greets more", **contexts)) == dict.fromkeys("abc", "SUCCEEDED")
    assert get_task("greets").execute(stages[0]).outputs == {"hello": "you"}
    with pytest.raises(ConfigurationError, match="no PostgreSQL here"):
        create_repository("postgresql://db/x")


# -- SQLite ------------------------------------------------------------------------------------------------------------


def test_each_database_is_a_namespace_of_its_own(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file has one, each `:memory:` a new one; the environment may name one for all."""
    caplog.set_level(logging.INFO, "stabilize_celery")
    monkeypatch.setenv("STABILIZE_REDIS_URL", redis_url)
    file = f"sqlite:///{tmp_path}/one.db"
    workflow = Workflow.create("app", "w", [stage("a", "waits")])
    with SqliteWorkflowStore(file) as first, SqliteWorkflowStore(file) as same:
        first.start(workflow)
        assert same.exists(workflow.id)
        assert f"STABILIZE_NAMESPACE={first.client.settings.namespace}" in caplog.text
    for url in ("sqlite:///:memory:", f"sqlite:///{tmp_path}/two.db"):
        with SqliteWorkflowStore(url) as other:
            assert not other.exists(workflow.id)
            assert other.count_by_application("app") == 0

    monkeypatch.setenv("STABILIZE_NAMESPACE", "ours")
    assert SqliteWorkflowStore(file).client.settings.namespace == "ours"


def test_test_suites_may_empty_the_tables_of_a_new_database() -> None:
    """There is nothing in it; other SQL is refused."""
    connection = SqliteWorkflowStore("sqlite:///:memory:")._get_connection()
    connection.execute("DELETE FROM task_executions").commit()
    connection.close()

    with pytest.raises(TypeError, match="there is no SQL here"):
        connection.execute("SELECT * FROM task_executions")


def test_a_task_sees_what_triggered_its_workflow(processor: QueueProcessor) -> None:
    """And its other fields, which are read when they are asked for."""

    def looks(stage: StageExecution) -> TaskResult:
        workflow = stage.execution
        by = {"user": workflow.trigger.user, "for": workflow.trigger.parameters, "of": workflow.pipeline_config_id}
        return TaskResult.success(outputs={**by, "context": workflow.context, "has_begun": bool(workflow.start_time)})

    processor.task_registry.register("looks", looks)
    trigger = Trigger(type="webhook", user="ann", parameters={"branch": "main"})
    workflow = Workflow.create("app", "w", [stage("a", "looks")], trigger, "nightly", {"of": "all"})
    Orchestrator(processor.queue).start(workflow)
    processor.process_all(timeout=30)

    (ended,) = processor.store.retrieve(workflow.id).stages
    told = {"user": "ann", "for": {"branch": "main"}, "of": "nightly", "context": {"of": "all"}, "has_begun": True}
    assert ended.outputs == told


@pytest.mark.parametrize("how", ["ends well", "fails", "is cancelled"])
def test_tasks_clean_up_however_their_stage_ends(processor: QueueProcessor, how: str) -> None:
    """Once, with the context as the task left it."""
    cleaned: list[str] = []

    class Holds(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            stage.context["holds"] = "a file"
            if how == "is cancelled":
                return TaskResult.suspend()
            return TaskResult.success() if how == "ends well" else TaskResult.terminal("no")

        def on_cleanup(self, stage: StageExecution) -> None:
            cleaned.append(stage.context["holds"])

    processor.task_registry.register("holds", Holds)
    workflow = Workflow.create("app", "w", [stage("a", "holds")])
    orchestrator = Orchestrator(processor.queue)
    orchestrator.start(workflow)
    processor.process_all(timeout=1)
    if how == "is cancelled":
        assert not cleaned
        orchestrator.cancel(workflow, "ann", "enough")
        processor.process_all(timeout=1)

    assert cleaned == ["a file"]
