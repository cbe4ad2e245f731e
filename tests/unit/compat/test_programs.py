"""Programs written for `stabilize`, with their imports changed and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from stabilize_celery import (
    JoinType,
    RetryableTask,
    StageExecution,
    Task,
    TaskExecution,
    TaskResult,
    TransientError,
    Workflow,
    WorkflowStatus,
)
from stabilize_celery.client import Outcome
from stabilize_celery.compat import (
    AddMultiInstance,
    CancelRegion,
    CeleryQueue,
    Orchestrator,
    QueueProcessor,
    QueueProcessorConfig,
    RedisWorkflowStore,
    SignalStage,
    TaskRegistry,
    approve,
    recover_on_startup,
    reject,
)
from stabilize_celery.errors import ConfigurationError, WorkflowNotFoundError
from stabilize_celery.models.multi_instance import MultiInstanceConfig


class HelloTask(Task):
    def execute(self, stage: StageExecution) -> TaskResult:
        name = stage.context.get("name", "World")
        return TaskResult.success(outputs={"greeting": f"Hello, {name}!"})


class FlakyTask(RetryableTask):
    tries = 0

    def get_timeout(self) -> timedelta:
        return timedelta(minutes=1)

    def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
        return timedelta(milliseconds=10)

    def execute(self, stage: StageExecution) -> TaskResult:
        type(self).tries += 1
        if type(self).tries < 3:
            raise TransientError("not yet", retry_after=0.01)
        return TaskResult.success(outputs={"tries": type(self).tries})


@dataclass
class Program:
    store: RedisWorkflowStore
    queue: CeleryQueue
    registry: TaskRegistry
    processor: QueueProcessor
    orchestrator: Orchestrator

    def run(self, workflow: Workflow) -> Workflow:
        """Start it, handle all there is, and return it."""
        self.orchestrator.start(workflow)
        self.processor.process_all(timeout=10)
        return self.store.retrieve(workflow.id)


@pytest.fixture(params=["memory", "redis"])
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    store = RedisWorkflowStore(url, create_tables=True)
    queue = CeleryQueue(table_name="queue_messages")
    queue._create_table()
    registry = TaskRegistry()
    registry.register("hello", HelloTask)
    registry.register("flaky", FlakyTask)
    registry.register("fail", lambda stage: TaskResult.terminal(error="meant to fail"))
    config = QueueProcessorConfig(max_workers=4, recover_on_start=True)
    with store, QueueProcessor(queue, config, store=store, task_registry=registry) as processor:
        yield Program(store, queue, registry, processor, Orchestrator(queue))


def stage(ref_id: str, kind: str, *after: str, **more: Any) -> StageExecution:
    task = TaskExecution.create(name=kind, implementing_class=kind, stage_start=True, stage_end=True)
    return StageExecution(
        ref_id=ref_id, type="t", name=ref_id, requisite_stage_ref_ids=set(after), tasks=[task], **more
    )


def test_the_first_program_of_its_readme(program: Program) -> None:
    """Store, start, process all, retrieve."""
    workflow = Workflow.create(
        application="my-app", name="Hello", stages=[stage("1", "hello", context={"name": "Stabilize"})]
    )
    program.store.store(workflow)
    assert program.store.retrieve(workflow.id).status is WorkflowStatus.NOT_STARTED
    program.orchestrator.start(workflow)

    assert program.processor.process_all(timeout=10.0) >= 3

    result = program.store.retrieve(workflow.id)
    assert result.status is WorkflowStatus.SUCCEEDED
    assert result.stages[0].outputs["greeting"] == "Hello, Stabilize!"
    assert program.store.count_by_application("my-app") == 1
    assert [one.id for one in program.store.retrieve_by_application("my-app")] == [workflow.id]


def test_a_fan_out_with_a_retry_and_a_join(program: Program) -> None:
    """Branches run, one is tried again, the join waits for both; the processor waits for the back-off."""
    FlakyTask.tries = 0
    stages = [stage("a", "hello"), stage("b", "hello", "a"), stage("c", "flaky", "a")]
    join = stage("d", "hello", "b", "c", join_type=JoinType.AND)
    workflow = Workflow.create("app", "diamond", [*stages, join])
    program.orchestrator.start(workflow)
    program.processor.process_all(timeout=30)

    result = program.store.wait(workflow, timeout=1)
    assert result.status is WorkflowStatus.SUCCEEDED
    assert {one.ref_id: one.outputs for one in result.stages}["c"] == {"tries": 3}


def test_a_failure_ends_the_workflow(program: Program) -> None:
    workflow = Workflow.create("app", "bad", [stage("a", "fail"), stage("b", "hello", "a")])
    program.orchestrator.start(workflow)
    program.processor.process_all(timeout=10)

    assert program.store.retrieve(workflow.id).status is WorkflowStatus.TERMINAL
    assert program.orchestrator.restart(workflow, workflow.stages[0].id)
    program.registry.register("fail", HelloTask)
    program.processor.process_all(timeout=10)
    assert program.orchestrator.get_execution(workflow.id).status is WorkflowStatus.SUCCEEDED


@pytest.mark.parametrize(("decide", "ends"), [(approve, "SUCCEEDED"), (reject, "TERMINAL")])
def test_a_person_decides(program: Program, decide: Callable[..., Outcome], ends: str) -> None:
    """The processor returns while somebody is waited for, at once and not at its timeout."""
    workflow = Workflow.create("app", "approval", [stage("gate", "approval"), stage("after", "hello", "gate")])
    program.orchestrator.start(workflow)
    began = time.monotonic()
    program.processor.process_all(timeout=30)
    assert time.monotonic() - began < 20
    assert program.store.retrieve(workflow.id).stages[0].status is WorkflowStatus.SUSPENDED

    assert decide(program.queue, workflow.id, workflow.stages[0].id, {"by": "me"}, store=program.store)
    program.processor.process_all(timeout=10)
    assert program.store.retrieve(workflow.id).status.name == ends


def test_messages_pushed_by_hand(program: Program) -> None:
    """A signal by its name, one more instance, a region."""
    many = stage("many", "hello", mi_config=MultiInstanceConfig(count=1, allow_dynamic=True))
    gates = [stage("gate", "approval", context={"signal": "go"}), stage("area", "approval", cancel_region="r")]
    workflow = Workflow.create("app", "pushed", [*gates, many])
    program.orchestrator.start(workflow)
    program.processor.process_all(timeout=10)
    pushed: dict[str, Any] = {"execution_id": workflow.id, "execution_type": "PIPELINE"}

    assert not program.queue.push(AddMultiInstance(**pushed, stage_id="many"))
    assert program.queue.push(SignalStage(**pushed, stage_id="gate", signal_name="go", signal_data={"a": 1}))
    assert program.queue.push(CancelRegion(**pushed, region="r"))
    program.processor.process_all(timeout=10)
    result = program.store.retrieve(workflow.id)
    assert {one.ref_id: one.status.name for one in result.stages} == {
        "gate": "SUCCEEDED", "area": "CANCELED", "many": "SUCCEEDED",
    }  # fmt: skip


def test_pause_resume_and_cancel(program: Program) -> None:
    gate = stage("gate", "approval", context={"signal": "go"})
    workflow = Workflow.create("app", "paused", [gate, stage("after", "hello", "gate")])
    program.orchestrator.start(workflow)
    program.processor.process_all(timeout=10)
    assert program.store.pause(workflow.id, "me")
    approve(program.queue, workflow.id, "gate", name="go")
    program.processor.process_all(timeout=5)
    assert program.store.retrieve(workflow.id).status is WorkflowStatus.PAUSED
    assert program.orchestrator.unpause(workflow)
    program.processor.process_all(timeout=10)
    assert program.store.retrieve(workflow.id).status is WorkflowStatus.SUCCEEDED

    other = Workflow.create("app", "other", [stage("gate", "approval")])
    program.orchestrator.start(other)
    program.processor.process_all(timeout=10)
    assert program.orchestrator.cancel(other, user="me", reason="enough")
    program.processor.process_all(timeout=10)
    assert program.store.retrieve(other.id).status is WorkflowStatus.CANCELED


def test_it_runs_in_the_background(program: Program) -> None:
    """Start, wait for the workflow, stop: no thread is left."""
    program.processor.start()
    workflow = Workflow.create("app", "background", [stage("a", "hello"), stage("b", "hello", "a")])
    program.orchestrator.start(workflow)

    assert program.store.wait(workflow, timeout=30).status is WorkflowStatus.SUCCEEDED
    with pytest.raises(RuntimeError, match="background"):
        program.processor.process_all()
    program.processor.stop(wait=True, timeout=10)
    assert not program.processor.is_running
    assert recover_on_startup(program.store, program.queue) == []


def test_what_was_started_before_the_processor_came_is_done(redis_url: str) -> None:
    """Another process may have started it: the ledger knows."""
    with RedisWorkflowStore(redis_url) as store:
        Orchestrator(CeleryQueue(), store).start(Workflow.create("app", "early", [stage("a", "hello")]))
        workflow_id = next(store.retrieve_by_application("app")).id
    with RedisWorkflowStore(redis_url) as store:
        registry = TaskRegistry()
        registry.register("hello", HelloTask)
        with QueueProcessor(CeleryQueue(), store=store, task_registry=registry) as processor:
            processor.process_all(timeout=30)
            assert store.retrieve(workflow_id).status is WorkflowStatus.SUCCEEDED


def test_what_waits_for_its_start_is_in_all_stores_of_a_redis(redis_url: str) -> None:
    """Of one namespace, until the last of them is closed."""
    workflow = Workflow.create("app", "waits", [stage("a", "hello")])
    with RedisWorkflowStore(redis_url) as first, RedisWorkflowStore(redis_url) as second:
        first.store(workflow)
        assert second.retrieve(workflow.id).status is WorkflowStatus.NOT_STARTED
        with RedisWorkflowStore(redis_url, namespace="other") as other:
            assert not other.exists(workflow.id)
        Orchestrator(CeleryQueue(), second).start(workflow)
        assert first.retrieve(workflow.id).status is WorkflowStatus.RUNNING
        first.store(left := Workflow.create("app", "left", [stage("a", "hello")]))

    with RedisWorkflowStore(redis_url) as third:
        assert not third.exists(left.id)


def test_mistakes_are_told() -> None:
    """No store, an unknown workflow, an unknown stage, a delay, a handler of one's own."""
    with pytest.raises(ConfigurationError, match="which store"):
        Orchestrator(CeleryQueue()).start(Workflow.create("a", "n", [stage("a", "hello")]))
    queue, store = CeleryQueue(), RedisWorkflowStore("memory://")
    queue.serve(store)
    with pytest.raises(WorkflowNotFoundError):
        approve(queue, "nobody", "a")
    workflow = Workflow.create("a", "n", [stage("a", "hello")])
    Orchestrator(queue).start(workflow)
    with pytest.raises(KeyError, match="no stage 'b'; its stages: a"):
        approve(queue, workflow.id, "b")
    with pytest.raises(ValueError, match="scheduled_time"):
        queue.push(SignalStage(execution_id=workflow.id), delay=5)
    with pytest.raises(TypeError, match="can't be replaced"):
        QueueProcessor(queue).register_handler(object())


class AgainTask(Task):
    """Goes back until it was there three times."""

    times = 0

    def execute(self, stage: StageExecution) -> TaskResult:
        type(self).times += 1
        if type(self).times < 3:
            return TaskResult.jump_to("prepare", context={"round": self.times})
        return TaskResult.success()


def test_a_task_may_jump_though_its_stage_declares_nothing(program: Program) -> None:
    """There a stage may jump anywhere; here it declares where, and the processor reads that off the task's code."""
    AgainTask.times = 0
    program.registry.register("again", AgainTask)

    ended = program.run(Workflow.create("app", "loop", [stage("prepare", "hello"), stage("check", "again", "prepare")]))

    assert ended.status is WorkflowStatus.SUCCEEDED
    assert AgainTask.times == 3


def test_a_stage_that_joins_may_send_one_branch_back(program: Program) -> None:
    """It starts again behind that one; the other branch, which is done, does not run again."""
    AgainTask.times = 0
    program.registry.register("again", AgainTask)
    branches = [stage("prepare", "hello"), stage("beside", "hello")]

    ended = program.run(Workflow.create("app", "loop", [*branches, stage("check", "again", "prepare", "beside")]))

    assert ended.status is WorkflowStatus.SUCCEEDED
    assert AgainTask.times == 3


def test_a_redirection_to_nowhere_fails_and_keeps_what_it_said(program: Program) -> None:
    """Its context is the stage's."""
    program.registry.register("nowhere", lambda _: TaskResult.redirect(context={"asked": True}))

    ended = program.run(Workflow.create("app", "w", [stage("a", "nowhere")]))

    assert ended.status is WorkflowStatus.TERMINAL
    assert ended.stages[0].context["asked"] is True


def test_recovery_on_start_is_asked_for_once(program: Program) -> None:
    """A program that put its own into `run_recovery` finds it called; nobody else's start is changed."""
    calls: list[str] = []

    class Own(QueueProcessor):
        def run_recovery(self) -> list[Any]:
            calls.append("looked")
            return super().run_recovery()

    for config in (QueueProcessorConfig(recover_on_start=True), QueueProcessorConfig()):
        with Own(CeleryQueue(), config, RedisWorkflowStore("memory://"), task_registry=program.registry) as own:
            own.start()

    assert calls == ["looked"]


def test_jumps_are_limited_as_the_stages_say(program: Program) -> None:
    """There each stage has a limit of its own in its context; here the workflow has one."""
    AgainTask.times = 0
    program.registry.register("again", AgainTask)
    check = stage("check", "again", "prepare", context={"_max_jumps": 1})

    ended = program.run(Workflow.create("app", "loop", [stage("prepare", "hello"), check]))

    assert ended.status is WorkflowStatus.TERMINAL
    assert AgainTask.times == 2


def test_who_cancels_and_pauses_is_named(program: Program) -> None:
    """As the program says, and not as its process is called."""
    workflow = Workflow.create("app", "w", [stage("a", "hello")])
    program.store.store(workflow)
    program.orchestrator.start(workflow)

    assert program.store.pause(workflow.id, paused_by="alice")
    paused = program.store.retrieve(workflow.id).paused
    assert paused is not None
    assert paused.paused_by == "alice"
    assert program.orchestrator.cancel(workflow, user="bob", reason="enough")
    ended = program.store.retrieve(workflow.id)
    assert (ended.canceled_by, ended.cancellation_reason) == ("bob", "enough")


def test_what_is_cancelled_before_its_start_never_starts(program: Program) -> None:
    """It is CANCELED, with all its stages, and says who did it."""
    workflow = Workflow.create("app", "w", [stage("a", "hello")])
    program.store.store(workflow)

    assert program.orchestrator.cancel(workflow, user="bob", reason="too late")
    assert not program.orchestrator.cancel(workflow, user="eve")

    found = program.store.retrieve(workflow.id)
    assert (found.status, found.canceled_by) == (WorkflowStatus.CANCELED, "bob")
    assert {stage.status for stage in found.stages} == {WorkflowStatus.CANCELED}
    with pytest.raises(ValueError, match="cancelled before it was started"):
        program.orchestrator.start(workflow)


def test_a_stage_is_found_by_its_id(program: Program) -> None:
    """Of what was stored or started here; else both ids are needed."""
    a = stage("a", "hello")
    program.run(Workflow.create("app", "w", [a]))

    assert program.store.retrieve_stage(a.id).status is WorkflowStatus.SUCCEEDED
    with pytest.raises(KeyError, match="give workflow_id, too"):
        program.store.retrieve_stage("another")
