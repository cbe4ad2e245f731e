"""Jumps of programs written for upstream: where they may go, how often, and what their stages' contexts tell of them."""

from __future__ import annotations

from typing import Any

import pytest

from stabilize_celery.compat import (
    Orchestrator,
    QueueProcessor,
    SqliteQueue,
    SqliteWorkflowStore,
    StageExecution,
    Task,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    Workflow,
    WorkflowStatus,
)


class GoesBack(Task):
    """Goes back to `target` until it was there as often as the stage says, and notes what it finds."""

    def execute(self, stage: StageExecution) -> TaskResult:
        count = stage.context.get("_jump_count", 0)
        if count < stage.context["times"]:
            return TaskResult.jump_to(stage.context["target"], context={"round": count + 1})
        return TaskResult.success(outputs={"found": count})


def stage(ref_id: str, kind: str, *after: str, **more: Any) -> StageExecution:
    tasks = [TaskExecution.create(kind, kind)]
    return StageExecution(ref_id=ref_id, name=ref_id, tasks=tasks, requisite_stage_ref_ids=set(after), **more)


def loop(times: int, target: str = "work", **more: Any) -> Workflow:
    check = stage("check", "back", "work", context={"times": times, "target": target})
    return Workflow.create("app", "loop", [stage("work", "noop"), check], **more)


@pytest.fixture(autouse=True)
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says where Redis is."""
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL", "STABILIZE_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


def run(workflow: Workflow, task: Any = GoesBack) -> Workflow:
    """As upstream's larger examples do: the workflow is started before there is a processor."""
    registry = TaskRegistry()
    registry.register("back", task)
    store, queue = SqliteWorkflowStore("sqlite:///:memory:"), SqliteQueue()
    store.store(workflow)
    Orchestrator(queue, store=store).start(workflow)
    with QueueProcessor(queue, store=store, task_registry=registry) as processor:
        processor.process_all(timeout=30)
    return store.retrieve(workflow.id)


def test_a_workflow_started_before_its_processor_is_made_may_jump() -> None:
    """The task types of the process are known, though nobody has said yet which ones the processor gets."""
    ended = run(loop(times=2))

    assert ended.status is WorkflowStatus.SUCCEEDED
    assert ended.stages[1].outputs == {"found": 2}


def back(stage: StageExecution) -> TaskResult:
    """What tasks below call, from this module."""
    return TaskResult.jump_to("work")


class Planner:
    """What a task holds."""

    def choose(self, stage: StageExecution) -> TaskResult:
        return back(stage)


class Twice(Task):
    """What tasks below are made from."""

    def execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.success() if stage.context.get("_jump_count") else self.again(stage)

    def again(self, stage: StageExecution) -> TaskResult:
        raise NotImplementedError


class Jumps(Twice):
    """Says so by the class itself."""

    def again(self, stage: StageExecution) -> TaskResult:
        return TaskResult(status=WorkflowStatus.REDIRECT, target_stage_ref_id="work")


class FromItsBase(Jumps):
    """Jumps by its base's code."""


class ByAFunction(Twice):
    """Jumps by a function of the module."""

    def again(self, stage: StageExecution) -> TaskResult:
        return back(stage)


class ByWhatItHolds(Twice):
    """Jumps by an object that it was given."""

    def __init__(self) -> None:
        self.planner = Planner()

    def again(self, stage: StageExecution) -> TaskResult:
        return self.planner.choose(stage)


WAYS = {"back": [back]}


class ByATable(Twice):
    """Jumps by a function of a table of its module."""

    def again(self, stage: StageExecution) -> TaskResult:
        return WAYS["back"][0](stage)


def closed_in() -> Any:
    go = Jumps().again
    return lambda stage: TaskResult.success() if stage.context.get("_jump_count") else go(stage)


@pytest.mark.parametrize("task", [FromItsBase, ByAFunction, ByWhatItHolds, ByATable, closed_in()])
def test_a_task_may_jump_by_code_that_is_not_its_own(task: Any) -> None:
    """Its base's, a function's of its module, an object's that it holds, or what a function has from around it."""
    check = stage("check", "back", "work")

    ended = run(Workflow.create("app", "loop", [stage("work", "noop"), check]), task)

    assert ended.status is WorkflowStatus.SUCCEEDED
    assert ended.stages[0].context["_jump_count"] == 1


def test_both_ends_of_a_jump_tell_of_it() -> None:
    """How often, and from where to where, by which names; nothing of it is put out."""
    work, check = run(loop(times=2)).stages

    first, second = check.context["_jump_history"]
    assert first == {"from_stage": "check", "to_stage": "work", "jump_number": 1, "context_keys": ["round"]}
    assert second["jump_number"] == check.context["_jump_count"] == work.context["_jump_count"] == 2
    assert work.context["_jump_history"] == [first, second]
    assert "_jump_count" not in {**work.outputs, **check.outputs}


def test_a_stage_that_was_not_jumped_to_or_from_tells_nothing_of_jumps() -> None:
    workflow = loop(times=1)
    workflow.add_stage(stage("after", "noop", "check"))

    after = run(workflow).stage_by_ref_id("after")

    assert after is not None
    assert after.status is WorkflowStatus.SUCCEEDED
    assert not [name for name in after.context if "jump" in name]


@pytest.mark.parametrize(
    ("more", "limit"),
    [
        pytest.param({}, 10, id="upstream's default"),
        pytest.param({"context": {"_max_jumps": 3}}, 3, id="of the workflow"),
        pytest.param({"context": {"_max_jumps": 0}}, 0, id="none"),
    ],
)
def test_a_loop_without_an_end_fails_at_its_limit(more: dict[str, Any], limit: int) -> None:
    """As many jumps as there, and its stage says so."""
    ended = run(loop(times=1000, **more))

    assert ended.status is WorkflowStatus.TERMINAL
    assert ended.stages[1].context["jump_error"] == f"Max jump count exceeded: {limit}/{limit}"
    assert ended.stages[1].context.get("_jump_count", 0) == limit


def test_a_jump_to_a_stage_that_is_not_there_says_so() -> None:
    ended = run(loop(times=1, target="wrok"))

    assert ended.status is WorkflowStatus.TERMINAL
    assert ended.stages[1].context["jump_error"] == "Target stage not found: wrok"


def test_a_jump_that_can_not_be_read_off_the_code_must_be_declared() -> None:
    """The text says so; it was not too many jumps."""

    class Hidden(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            found: TaskResult = getattr(TaskResult, "_".join(("jump", "to")))("work")
            return found

    ended = run(loop(times=1), Hidden)

    assert ended.status is WorkflowStatus.TERMINAL
    assert ended.stages[1].context["jump_error"] == (
        "Jump to 'work' is not declared: add it to the jump_targets of stage 'check'"
    )


def test_a_task_that_can_not_be_made_fails_when_it_is_executed() -> None:
    """Not the start of its workflow."""

    class Broken(GoesBack):
        def __init__(self) -> None:
            raise RuntimeError("no")

    assert run(loop(times=1), Broken).status is WorkflowStatus.TERMINAL
