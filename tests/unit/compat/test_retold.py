"""What a retrieved workflow tells, where upstream's told something else than the engine keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stabilize_celery.compat import (
    Orchestrator,
    PermanentError,
    QueueProcessor,
    SqliteQueue,
    SqliteWorkflowStore,
    StageExecution,
    SyntheticStageOwner,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    TransientError,
    Workflow,
    WorkflowStatus,
)


@pytest.fixture(autouse=True)
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says where Redis is."""
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL", "STABILIZE_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run() -> Iterator[Callable[..., Workflow]]:
    """Runs stages, whose tasks are functions by name, to their end."""
    store, queue, registry = SqliteWorkflowStore("sqlite:///:memory:"), SqliteQueue(), TaskRegistry()
    with QueueProcessor(queue, store=store, task_registry=registry) as processor:

        def run_them(*stages: StageExecution, **tasks: Callable[[StageExecution], Any]) -> Workflow:
            for name, body in tasks.items():
                registry.register(name, body)
            workflow = Workflow.create("app", "w", list(stages))
            Orchestrator(queue, store=store).start(workflow)
            processor.process_all(timeout=30)
            return store.retrieve(workflow.id)

        yield run_them


def stage(ref_id: str, *after: str, does: str = "notes", **context: Any) -> StageExecution:
    tasks = [TaskExecution.create(does, does)]
    return StageExecution(ref_id=ref_id, tasks=tasks, requisite_stage_ref_ids=set(after), context=context)


def notes(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={stage.ref_id: 1, "last": stage.ref_id, "all": [stage.ref_id]})


def test_a_stage_that_has_started_tells_what_it_saw_of_those_before_it(run: Callable[..., Workflow]) -> None:
    """The nearest of one name, lists of several branches joined, its own context before all; not what came later."""
    part = stage("part", own=2)
    part.parent_stage_id, part.synthetic_stage_owner = "d", SyntheticStageOwner.STAGE_BEFORE
    ended = run(
        stage("a"), stage("b", "a"), stage("c", "a", a="mine"), stage("d", "b", "c"), part, stage("e"), notes=notes
    )

    contexts = {one.ref_id: one.context for one in ended.stages}
    assert contexts["a"] == contexts["e"] == {}
    assert contexts["b"] == {"a": 1, "last": "a", "all": ["a"]}
    assert contexts["c"] == {"a": "mine", "last": "a", "all": ["a"]}
    assert {**contexts["d"], "last": ""} == {"a": 1, "b": 1, "c": 1, "last": "", "all": ["b", "c"]}
    assert {**contexts["part"], "last": ""} == {"own": 2, "a": 1, "b": 1, "c": 1, "last": "", "all": ["b", "c"]}


def test_a_joining_stage_tells_what_its_reducers_made_of_its_branches(run: Callable[..., Workflow]) -> None:
    def counts(stage: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={"count": stage.context["brings"]})

    join = stage("join", "a", "b", does="noop")
    join.output_reducers = {"count": "sum"}
    ended = run(stage("a", does="counts", brings=1), stage("b", does="counts", brings=2), join, counts=counts)

    assert ended.stages[-1].context["count"] == 3


def test_a_stage_that_has_not_started_tells_its_own_context_only(run: Callable[..., Workflow]) -> None:
    ended = run(stage("a"), stage("b", "a", stageEnabled=False), notes=notes)

    assert ended.stages[1].context == {"stageEnabled": False}


def test_a_failure_that_was_tried_again_is_not_told_of_a_success(run: Callable[..., Workflow]) -> None:
    """Programs look for `exception` to see whether a stage has failed."""

    def flaky(stage: StageExecution) -> TaskResult:
        if "seen" not in stage.context:
            raise TransientError("not yet", retry_after=0.01, context_update={"seen": True})
        return TaskResult.success()

    (ended,) = run(stage("a", does="flaky"), flaky=flaky).stages

    assert (ended.status, ended.context) == (WorkflowStatus.SUCCEEDED, {"seen": True})


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ValueError("x"), "UNKNOWN"),
        (PermanentError("x"), "USER_CODE_ERROR"),
        (PermissionError("x"), "AUTHENTICATION_FAILED"),
    ],
)
def test_an_exception_is_told_with_its_kind(run: Callable[..., Workflow], raised: Exception, code: str) -> None:
    def boom(_: StageExecution) -> TaskResult:
        raise raised

    (ended,) = run(stage("a", does="boom"), boom=boom).stages

    assert ended.context["exception"]["details"]["error_code"] == code
    assert ended.tasks[0].task_exception_details["exception"] == ended.context["exception"]


@pytest.mark.parametrize(
    ("result", "context"),
    [
        (TaskResult.stopped(), {}),
        (TaskResult.redirect(), {"error": "the task redirects, but names no stage to jump to"}),
    ],
)
def test_what_a_task_answers_is_no_exception(
    run: Callable[..., Workflow], result: TaskResult, context: dict[str, Any]
) -> None:
    (ended,) = run(stage("a", does="answers"), answers=lambda _: result).stages

    assert ended.context == context


def test_a_stage_that_is_skipped_by_hand_has_succeeded_without_its_tasks(run: Callable[..., Workflow]) -> None:
    skipped, after = run(stage("a", manualSkip=True), stage("b", "a"), notes=notes).stages

    assert (skipped.status, skipped.tasks[0].status) == (WorkflowStatus.SUCCEEDED, WorkflowStatus.SKIPPED)
    assert after.status is WorkflowStatus.SUCCEEDED


def test_what_a_jump_hands_on_is_no_output(run: Callable[..., Workflow]) -> None:
    """It stands in the contexts of both stages; what the task puts out as well stays an output."""

    def hop(_: StageExecution) -> TaskResult:
        return TaskResult.jump_to("c", context={"why": "late", "n": 1}, outputs={"n": 2})

    ended = run(stage("a", does="hop"), stage("b", "a"), stage("c", "b"), hop=hop, notes=notes)

    jumped, _, target = ended.stages
    assert (jumped.outputs, jumped.context["why"], target.context["why"]) == ({"n": 2}, "late", "late")
    assert "why" not in ended.get_context()


def test_a_jump_that_was_refused_fails_its_task(run: Callable[..., Workflow]) -> None:
    (ended,) = run(stage("a", does="hop"), hop=lambda _: TaskResult.jump_to("nowhere")).stages

    assert (ended.status, ended.tasks[0].status) == (WorkflowStatus.TERMINAL, WorkflowStatus.TERMINAL)
    assert "nowhere" in ended.context["jump_error"]


def test_what_a_task_changes_in_its_stage_is_not_kept(run: Callable[..., Workflow]) -> None:
    """Neither in the context nor in the outputs: only what it returns is, as upstream."""

    def changes(stage: StageExecution) -> TaskResult:
        stage.context["mine"] = 1
        stage.context["given"].append(2)
        stage.outputs["put"] = 3
        return TaskResult.success(outputs={"returned": 4})

    (ended,) = run(stage("a", does="changes", given=[1]), changes=changes).stages

    assert (ended.context, ended.outputs) == ({"given": [1]}, {"returned": 4})
