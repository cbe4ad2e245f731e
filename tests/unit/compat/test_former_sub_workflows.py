"""Workflows inside a stage as upstream's programs describe them: by `_sub_workflow_config`."""

from __future__ import annotations

from typing import Any

import pytest

from stabilize_celery.compat import (
    Orchestrator,
    QueueProcessor,
    SqliteQueue,
    SqliteWorkflowStore,
    StageExecution,
    SubWorkflowTask,
    TaskExecution,
    TaskRegistry,
    TaskResult,
    Workflow,
    WorkflowStatus,
)


def stage(ref_id: str, kind: str, *after: str, **more: Any) -> StageExecution:
    tasks = [TaskExecution.create(kind, kind)]
    return StageExecution(ref_id=ref_id, name=ref_id, tasks=tasks, requisite_stage_ref_ids=set(after), **more)


def config(kind: str) -> dict[str, Any]:
    stages = [stage("draft", kind), stage("polish", "noop", "draft")]
    return {"application": "inner", "name": "report", "context": {"topic": "loops"}, "stages": stages}


def written(kind: str) -> dict[str, Any]:
    tasks = [{"name": "t", "implementing_class": kind}]
    return {**config(kind), "stages": [{"ref_id": "draft", "name": "draft", "tasks": tasks}]}


class BuildsItself(SubWorkflowTask):
    """As upstream's research example has it: it builds its workflow on its first execution only."""

    built = 0

    def execute(self, stage: StageExecution) -> TaskResult:
        if stage.context.get("_sub_workflow_id") is None:
            type(self).built += 1
            stage.context["_sub_workflow_config"] = config("writes")
        return super().execute(stage)


@pytest.fixture(autouse=True)
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says where Redis is."""
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL", "STABILIZE_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


def run(outer: StageExecution) -> StageExecution:
    registry = TaskRegistry()
    registry.register("builds", BuildsItself)
    registry.register("sub_workflow", SubWorkflowTask)
    registry.register("writes", lambda stage: TaskResult.success(outputs={"text": f"on {stage.context['topic']}"}))
    registry.register("fails", lambda _: TaskResult.terminal("no ink"))
    store, queue = SqliteWorkflowStore("sqlite:///:memory:"), SqliteQueue()
    workflow = Workflow.create("app", "w", [outer])
    with QueueProcessor(queue, store=store, task_registry=registry) as processor:
        Orchestrator(queue, store=store).start(workflow)
        processor.process_all(timeout=30)
    (ended,) = store.retrieve(workflow.id).stages
    return ended


def test_a_task_may_build_its_workflow_when_it_runs() -> None:
    """Once: when the inner one has ended, the task finds its id."""
    BuildsItself.built = 0

    ended = run(stage("report", "builds"))

    assert ended.status is WorkflowStatus.SUCCEEDED
    assert BuildsItself.built == 1
    assert ended.outputs["sub_workflow_status"] == "SUCCEEDED"
    assert ended.outputs["sub_workflow_outputs"] == {"text": "on loops"}
    assert ended.outputs["sub_workflow_id"]


def test_a_stage_may_describe_its_workflow_in_its_context() -> None:
    """As JSON has it; of objects, which its guide shows, upstream's store made texts that it could not start."""
    ended = run(stage("report", "sub_workflow", context={"_sub_workflow_config": written("writes")}))

    assert ended.outputs["sub_workflow_outputs"] == {"text": "on loops"}


def test_the_failure_of_the_inner_one_is_that_of_the_stage() -> None:
    ended = run(stage("report", "sub_workflow", context={"_sub_workflow_config": written("fails")}))

    assert ended.status is WorkflowStatus.TERMINAL
    assert ended.context["error"] == "Child workflow failed with status TERMINAL"
    assert ended.context["sub_workflow_status"] == "TERMINAL"


def test_a_stage_that_says_nothing_of_a_workflow_fails() -> None:
    ended = run(stage("report", "sub_workflow"))

    assert ended.status is WorkflowStatus.TERMINAL
    assert ended.context["error"] == "No _sub_workflow_config in context"
