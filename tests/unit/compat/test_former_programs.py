"""Programs with the SQL classes, handlers and helpers that upstream's examples have: they run, or say what to use."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stabilize_celery
from stabilize_celery import (
    LifecycleManager,
    Orchestrator,
    PostgresQueue,
    PostgresWorkflowStore,
    QueueProcessor,
    SqliteQueue,
    SqliteWorkflowStore,
    StageDefinitionBuilder,
    StageExecution,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    Workflow,
    WorkflowLauncher,
    WorkflowStatus,
    WorkflowStream,
    bind_context,
    clear_context,
    configure_logging,
    emit_progress,
    get_lifecycle_manager,
    get_logger,
    install_shutdown_handlers,
    register_builder,
    set_lifecycle_manager,
    task_logger,
    trace_task,
    unbind_context,
)
from stabilize_celery.compat import (
    CompleteStageHandler,
    Event,
    EventType,
    HighwayTask,
    LoopBuilder,
    MultiInstanceBuilder,
    RunTaskHandler,
    SqliteEventStore,
    StartStageHandler,
    configure_event_sourcing,
    create_simple_pipeline,
    create_stage_config,
    get_builder,
    get_event_bus,
    register_all_handlers,
)
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.tasks.builders import SHARED

UPSTREAM = (Path(__file__).parent / "upstream_names.txt").read_text().split()


@pytest.fixture(autouse=True)
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says where Redis is."""
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)


def stage(ref_id: str, kind: str, *after: str, **more: Any) -> StageExecution:
    return StageExecution(
        ref_id=ref_id, name=ref_id, tasks=[TaskExecution.create(kind, kind)], requisite_stage_ref_ids=set(after), **more
    )


def registry_of(**tasks: Any) -> TaskRegistry:
    registry = TaskRegistry()
    for name, task in {"ok": lambda stage: TaskResult.success(outputs={stage.ref_id: 1}), **tasks}.items():
        registry.register(name, task)
    return registry


@pytest.mark.parametrize("name", UPSTREAM)
def test_every_public_name_of_upstream_is_here(name: str) -> None:
    """From the package, and from `compat` or the package's own modules."""
    assert name in stabilize_celery.__all__
    assert getattr(stabilize_celery, name) is not None


# -- stores and queues -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite:///{folder}/w.db"])
def test_a_program_on_sqlite_runs_in_memory(url: str, tmp_path: Path) -> None:
    """Its file is never made; the log says where workflows are."""
    url = url.format(folder=tmp_path)
    store, queue = SqliteWorkflowStore(url, create_tables=True), SqliteQueue(url, table_name="queue_messages")
    queue._create_table()
    with QueueProcessor(queue, store=store, task_registry=registry_of()) as processor:
        workflow = Workflow.create("app", "w", [stage("a", "ok")])
        store.store(workflow)
        Orchestrator(queue).start(workflow)
        processor.process_all(timeout=10)

    assert store.retrieve(workflow.id).status is WorkflowStatus.SUCCEEDED
    assert list(tmp_path.iterdir()) == []


def test_two_stores_of_one_file_have_the_same_workflows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And those of `:memory:` have not; what is stored and not started counts, too."""
    url = f"sqlite:///{tmp_path}/one.db"
    workflow = Workflow.create("app", "w", [stage("a", "ok")])
    SqliteWorkflowStore(url).store(workflow)

    assert SqliteWorkflowStore(url).retrieve(workflow.id).name == "w"
    assert not SqliteWorkflowStore("sqlite:///:memory:").exists(workflow.id)
    assert "end with it; set STABILIZE_REDIS_URL" in caplog.text


def test_with_a_redis_they_are_there(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says where, whatever the SQL URL is; a Redis URL in its place is taken as it is."""
    monkeypatch.setenv("STABILIZE_REDIS_URL", redis_url)

    for store in (PostgresWorkflowStore("postgresql://db/x"), SqliteWorkflowStore("sqlite:///x.db")):
        assert store.client.settings.redis_url == redis_url
    monkeypatch.delenv("STABILIZE_REDIS_URL")
    assert PostgresWorkflowStore(redis_url).is_healthy()


@pytest.mark.parametrize("kind", [PostgresWorkflowStore, PostgresQueue])
def test_postgresql_without_a_redis_is_refused(kind: Any) -> None:
    """What other processes share can't be this process' memory."""
    with pytest.raises(ConfigurationError, match="no PostgreSQL here"):
        kind("postgresql://db/x")


def test_an_orchestrator_finds_the_store_of_a_workflow() -> None:
    """A program that gives it to nobody but the workflow's `store()` runs."""
    store, queue = SqliteWorkflowStore("sqlite:///:memory:"), SqliteQueue("sqlite:///:memory:")
    workflow = Workflow.create("app", "w", [stage("a", "ok")])
    store.store(workflow)

    Orchestrator(queue).start(workflow)
    QueueProcessor(queue, task_registry=registry_of()).process_all(timeout=10)

    assert store.retrieve(workflow.id).status is WorkflowStatus.SUCCEEDED


def test_what_is_not_started_may_be_changed() -> None:
    """Then its state is the engine's."""
    store, queue = SqliteWorkflowStore(), SqliteQueue()
    workflow = Workflow.create("app", "w", [stage("a", "ok"), stage("b", "ok", "a")])
    store.store(workflow)
    first = store.retrieve_stage(workflow.stages[0].id)
    first.context["x"] = 1
    store.store_stage(first)
    assert store.retrieve(workflow.id).stages[0].context == {"x": 1}
    assert [one.ref_id for one in store.get_downstream_stages(workflow.id, "a")] == ["b"]
    assert [one.ref_id for one in store.get_upstream_stages(workflow.id, "b")] == ["a"]
    store.remove_stage(workflow, workflow.stages[1].id)
    assert [one.ref_id for one in store.retrieve(workflow.id).stages] == ["a"]

    Orchestrator(queue, store).start(workflow)
    with pytest.raises(ValueError, match="its state is the engine's"):
        store.store_stage(first)


# -- handlers ----------------------------------------------------------------------------------------------------------


def test_handlers_bring_the_processor_its_store_and_its_tasks() -> None:
    """As programs did before the processor knew both."""
    store, queue, registry = SqliteWorkflowStore(), SqliteQueue(), registry_of()
    processor = QueueProcessor(queue)
    for handler in (StartStageHandler(queue, store), RunTaskHandler(queue, store, registry)):
        processor.register_handler(handler)
    workflow = Workflow.create("app", "w", [stage("a", "ok")])
    Orchestrator(queue).start(workflow)
    processor.process_all(timeout=10)

    assert store.retrieve(workflow.id).status is WorkflowStatus.SUCCEEDED
    register_all_handlers(processor, store, registry, queue)


def test_a_handler_with_code_of_its_own_is_refused() -> None:
    """It would never be called."""

    class Mine(CompleteStageHandler):
        pass

    processor = QueueProcessor(SqliteQueue())
    with pytest.raises(TypeError, match="Mine: handlers can't be replaced"):
        processor.register_handler(Mine(None, None))
    with pytest.raises(TypeError, match="can't take the engine's place"):
        processor.register_handler_func(StartStageHandler, print)


def test_highway_says_what_to_use() -> None:
    ended = HighwayTask().execute(StageExecution(ref_id="s"))

    assert (ended.status.name, "`http` task" in ended.context["error"]) == ("TERMINAL", True)


# -- builders ----------------------------------------------------------------------------------------------------------


def run(stages: list[StageExecution], registry: TaskRegistry) -> Workflow:
    store, queue = SqliteWorkflowStore(), SqliteQueue()
    with QueueProcessor(queue, store=store, task_registry=registry) as processor:
        workflow = Workflow.create("app", "w", stages)
        Orchestrator(queue).start(workflow)
        processor.process_all(timeout=20)
        return store.retrieve(workflow.id)


@pytest.fixture
def as_before() -> Iterator[None]:
    """What a test makes known to the process is unknown to the next one."""
    before = dict(SHARED._builders)
    yield
    SHARED._builders.clear()
    SHARED._builders.update(before)


@pytest.mark.usefixtures("as_before")
def test_a_launcher_makes_stages_of_types() -> None:
    """A builder that the program has made known gives them their tasks; other keys of a stage are its context."""

    class Greet(StageDefinitionBuilder):
        type = "greet"

        def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
            return [TaskExecution.create("hello", "hello")]

    register_builder(Greet())
    assert isinstance(get_builder("greet"), Greet)
    store, queue = SqliteWorkflowStore(), SqliteQueue()
    hello = lambda stage: TaskResult.success(outputs={"said": stage.context["words"]})  # noqa: E731
    with QueueProcessor(queue, store=store, task_registry=registry_of(hello=hello)) as processor:
        launcher = WorkflowLauncher(store, Orchestrator(queue))
        stages = [
            create_stage_config("1", "greet", "A", words="hi"),
            create_stage_config("2", "greet", "B", ["1"], words="bye"),
        ]
        started = launcher.start(create_simple_pipeline("p", "app", stages), {"user": "ann"})
        processor.process_all(timeout=10)

    ended = store.retrieve(started.id)
    assert (ended.status, ended.trigger.user) == (WorkflowStatus.SUCCEEDED, "ann")
    assert [one.outputs["said"] for one in ended.stages] == ["hi", "bye"]


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(("config", "is_limited"), [({}, False), ({"id": "nightly"}, True)])
def test_a_launcher_limits_what_has_an_id(config: dict[str, str], is_limited: bool) -> None:
    """As there: a limit of a configuration without an id limits nothing, and is no mistake."""
    store, queue = SqliteWorkflowStore(), SqliteQueue()
    launcher = WorkflowLauncher(store, Orchestrator(queue))
    stages = [create_stage_config("1", "wait", "A", seconds=0)]
    limits = {"limitConcurrent": True, "maxConcurrentExecutions": 1, **config}
    made = launcher.parse_execution({**create_simple_pipeline("p", "app", stages), "id": None, **limits})

    assert made.is_limit_concurrent is is_limited
    made.validate()


@pytest.mark.parametrize(
    ("kind", "limit", "rounds"), [("while", 3, 3), ("while", 0, 0), ("until", 3, 3), ("until", 0, 1)]
)
def test_loops_run_their_body_as_often_as_their_condition_says(kind: str, limit: int, rounds: int) -> None:
    """What follows the loop's last stage runs once, behind it."""
    seen: list[int] = []

    def count(stage: StageExecution) -> TaskResult:
        seen.append(len(seen) + 1)
        return TaskResult.success(outputs={"n": len(seen)})

    body = [stage("body", "count")]
    first = stage("first", "zero")
    loop = (
        LoopBuilder.while_loop("n < limit", body, "l")
        if kind == "while"
        else LoopBuilder.repeat_until("n >= limit", body, "l")
    )
    loop[0].requisite_stage_ref_ids = {"first"}
    zero = lambda stage: TaskResult.success(outputs={"n": 0, "limit": limit})  # noqa: E731
    ended = run([first, *loop, stage("after", "ok", loop[-1].ref_id)], registry_of(count=count, zero=zero))

    assert (ended.status, len(seen)) == (WorkflowStatus.SUCCEEDED, rounds)
    assert ended.stages[-1].outputs == {"after": 1}


def test_instances_run_and_are_joined() -> None:
    """One for each item, by the names that programs look for."""
    parent = stage("p", "ok", context={"names": ["a", "b", "c"]})
    made = MultiInstanceBuilder.create_from_collection(parent, "names", item_context_key="who")
    assert [one.ref_id for one in made] == ["p_instance_0", "p_instance_1", "p_instance_2", "p_mi_join"]
    for one in made[:-1]:
        one.tasks = [TaskExecution.create("greet", "greet")]
    ended = run(
        [parent, *made],
        registry_of(greet=lambda stage: TaskResult.success(outputs={stage.ref_id: stage.context["who"]})),
    )

    assert ended.status is WorkflowStatus.SUCCEEDED
    assert ended.get_context() == {"p": 1, "p_instance_0": "a", "p_instance_1": "b", "p_instance_2": "c"}
    assert MultiInstanceBuilder.create_from_context(parent, "nothing") == []
    with pytest.raises(ValueError, match="there are 2 instances"):
        MultiInstanceBuilder.create_fixed(parent, 2, join_threshold=3)


# -- streams -----------------------------------------------------------------------------------------------------------


def test_a_stream_tells_what_happens_and_how_far_a_task_is() -> None:
    """From its beginning to its end, then from its end on."""

    def work(stage: StageExecution) -> TaskResult:
        emit_progress(stage, "half", percent=50)
        return TaskResult.success()

    store, queue = SqliteWorkflowStore(), SqliteQueue()
    workflow = Workflow.create("app", "w", [stage("a", "work")])
    with QueueProcessor(queue, store=store, task_registry=registry_of(work=work)) as processor:
        processor.start()
        Orchestrator(queue).start(workflow)
        items = list(WorkflowStream(workflow.id).follow(include_history=True, timeout=20))

    assert (items[0].event_type, items[-1].event_type) == ("workflow.created", "workflow.completed")
    [told] = [item for item in items if item.event_type == "custom.progress"]
    assert told.data == {"message": "half", "stage_ref_id": "a", "percent": 50}
    assert [item.sequence for item in items] == sorted({item.sequence for item in items})
    assert [item.event_type for item in WorkflowStream(workflow.id, store).replay()] == [
        item.event_type for item in items
    ]
    assert [item.event_type for item in WorkflowStream(workflow.id).follow()] == ["workflow.completed"]
    heard: list[str] = []
    with WorkflowStream(workflow.id) as stream:
        stream.on_event(lambda item: heard.append(item.event_type))
        assert stream._listener is not None
        stream._listener.join(20)
    assert heard == ["workflow.completed"]


def test_a_stream_may_be_made_before_its_workflow_is_started() -> None:
    """As programs do that want to hear all of it; another workflow's events are not among them."""
    store, queue = SqliteWorkflowStore(), SqliteQueue()
    workflow, other = (Workflow.create("app", name, [stage("a", "ok")]) for name in ("w", "other"))
    heard: list[str] = []
    with (
        QueueProcessor(queue, store=store, task_registry=registry_of()) as processor,
        WorkflowStream(workflow.id) as stream,
    ):
        stream.on_event(lambda item: heard.append(item.workflow_id))
        for one in (other, workflow):
            Orchestrator(queue).start(one)
        processor.process_all(timeout=10)
        assert stream._listener is not None
        stream._listener.join(20)

    assert set(heard) == {workflow.id}


def test_progress_that_is_no_json_fails_its_task_and_nothing_outside_of_one() -> None:
    """The error names the key."""

    def work(stage: StageExecution) -> TaskResult:
        emit_progress(stage, thing=object())
        return TaskResult.success()

    emit_progress(StageExecution(ref_id="s"), "nobody listens")
    ended = run([stage("a", "work")], registry_of(work=work))

    assert ended.status is WorkflowStatus.TERMINAL
    assert "progress.thing" in str(ended.stages[0].tasks[0].task_exception_details)


def test_events_are_told_once_and_kept() -> None:
    """To each subscriber what it wants, though another one fails; the store has the same ones."""
    heard: list[Event] = []
    bus, kept = get_event_bus(), SqliteEventStore("sqlite:///x.db", create_tables=True)
    configure_event_sourcing(kept)
    bus.subscribe("all", heard.append)
    bus.subscribe("fails", lambda event: heard.index("nothing"))  # type: ignore[arg-type]
    ends: list[str] = []
    bus.subscribe("ends", lambda event: ends.append(event.entity_id), event_types={EventType.STAGE_COMPLETED})
    try:
        with pytest.raises(ValueError, match="is there already"):
            bus.subscribe("all", print)
        ended = run(
            [stage("a", "ok"), stage("b", "fail", "a")], registry_of(fail=lambda stage: TaskResult.terminal("no"))
        )
    finally:
        assert [bus.unsubscribe(name) for name in ("all", "fails", "ends", "nobody")] == [True, True, True, False]

    kinds = [event.event_type for event in heard]
    assert (kinds[0], kinds[-1], ends) == (EventType.WORKFLOW_CREATED, EventType.WORKFLOW_FAILED, [ended.stages[0].id])
    for wanted in (EventType.TASK_FAILED, EventType.STAGE_FAILED, EventType.TASK_COMPLETED, EventType.WORKFLOW_STARTED):
        assert wanted in kinds
    assert (
        heard == [event for event in heard if event.workflow_id == ended.id] == kept.get_events_for_workflow(ended.id)
    )
    assert kept.get_events_for_workflow(ended.id, heard[1].sequence) == heard[2:]
    assert [event.sequence for event in heard] == list(range(1, len(heard) + 1))
    assert Event.from_dict(json.loads(json.dumps(heard[0].to_dict()))) == heard[0]
    assert Event().with_sequence(7).to_dict()["sequence"] == 7


# -- logs, spans, the end of a program ---------------------------------------------------------------------------------


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """What a test sets up is gone after it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    clear_context()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("logging_as_before")
def test_a_line_of_json_says_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    """What was bound to the context, to the logger, and what the line gives."""
    configure_logging(json_format=True)
    bind_context(request="r1", gone=1)
    unbind_context("gone")
    task_logger("w", "s", "t").bind(more=2).info("began %s", "now", part=3)

    line = json.loads(capsys.readouterr().out)
    told = {"request": "r1", "workflow_id": "w", "stage_id": "s", "task_id": "t", "more": 2, "part": 3}
    assert {name: line[name] for name in told} == told
    assert (line["text"], line["level"], "gone" in line) == ("began now", "INFO", False)


@pytest.mark.usefixtures("logging_as_before")
def test_a_line_of_text_says_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    """With its traceback where one is asked for; below the level nothing is written."""
    configure_logging(level=logging.WARNING)
    get_logger("mine").info("quiet")
    try:
        raise RuntimeError("no")
    except RuntimeError:
        get_logger("mine").exception("failed", name="x")

    written = capsys.readouterr().out
    assert "quiet" not in written
    assert '[ERROR] mine: failed name="x"\nTraceback' in written
    assert written.endswith("RuntimeError: no\n")


def test_a_span_lets_errors_through() -> None:
    """With or without OpenTelemetry."""
    with trace_task("w", "s", "t", "name", "type") as span:
        span.set_attribute("a", 1)
    with pytest.raises(KeyError), trace_task("w", "s", "t", "name", "type"):
        raise KeyError("x")


def test_a_program_ends_warmly() -> None:
    """What has begun is finished, then callbacks run in order, once; signals are given back."""
    before = signal.getsignal(signal.SIGTERM), get_lifecycle_manager()
    store, queue = SqliteWorkflowStore(), SqliteQueue()
    processor = QueueProcessor(queue, store=store, task_registry=registry_of())
    manager = install_shutdown_handlers(shutdown_timeout=10)
    called: list[str] = []
    manager.register_processor(processor)
    manager.add_shutdown_callback(lambda: called.append("first"))
    manager.on_shutdown(lambda: called.append(1 / 0))  # type: ignore[arg-type]
    manager.on_shutdown(lambda: called.append("last"))
    processor.start()
    try:
        signal.raise_signal(signal.SIGTERM)
        assert manager.wait_for_shutdown(20)
        manager.shutdown()
    finally:
        manager.uninstall_handlers()
        set_lifecycle_manager(before[1])

    assert (manager.is_shutdown_requested, processor.is_running, called) == (True, False, ["first", "last"])
    assert signal.getsignal(signal.SIGTERM) is before[0]
    assert LifecycleManager().is_shutdown_in_progress is False
