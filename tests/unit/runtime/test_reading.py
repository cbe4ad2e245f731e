"""A workflow as users see it: what it is, how far each stage is, what a task's code finds around it (wcp 1.2)."""

from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.engine.standing import waiting
from stabilize_celery.engine.state import Run, WorkflowRecord
from stabilize_celery.models.graph import StageGraphBuilder
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import JoinType, SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.attached import AttachedWorkflow
from stabilize_celery.runtime.reading import StageView, read_view
from stabilize_celery.tasks.builders import StageDefinitionBuilder
from stabilize_celery.testing import Simulation
from tests.unit.engine.driving import plan_of
from tests.unit.runtime.test_service import stage, workflow

LIVE, FAILED = (WorkflowRecord(status=status) for status in ("RUNNING", "TERMINAL"))
DONE, FAILED_AT_LAST = (WorkflowRecord(status=status, is_settled=True) for status in ("SUCCEEDED", "TERMINAL"))
CUT_SHORT = WorkflowRecord(status="SUCCEEDED")


def run(status: str, created_us: int = 1, instance: int | None = None) -> tuple[str, Run]:
    parent = "" if instance is None else "t1"
    return f"t{created_us}", Run(ref="a", status=status, created_us=created_us, instance=instance, parent=parent)


def view(*runs: tuple[str, Run], is_cut: bool = False, is_reachable: bool = True) -> StageView:
    return StageView(plan_of(), {}, runs, 0, is_reachable, is_cut=is_cut, suspended=waiting(dict(runs)))


@pytest.mark.parametrize(
    ("seen", "record", "status"),
    [
        (view(), LIVE, "NOT_STARTED"),
        (view(is_reachable=False), LIVE, "SKIPPED"),
        (view(), DONE, "SKIPPED"),
        (view(), FAILED_AT_LAST, "SKIPPED"),
        (view(is_cut=True), CUT_SHORT, "CANCELED"),
        (view(run("SUCCEEDED"), is_cut=True), FAILED, "CANCELED"),
        (view(run("RUNNING")), FAILED, "CANCELED"),
        (view(run("RUNNING"), run("SUSPENDED", 2, 0)), CUT_SHORT, "CANCELED"),
        (view(run("SUCCEEDED")), LIVE, "SUCCEEDED"),
        (view(run("RUNNING", 1), run("SUCCEEDED", 2)), LIVE, "RUNNING"),
        (view(run("RUNNING", 1), run("BUFFERED", 2)), LIVE, "BUFFERED"),
        (view(run("STOPPED", 1), run("SUCCEEDED", 2)), DONE, "SUCCEEDED"),
        (view(run("RUNNING"), run("SUSPENDED", 2, 0), run("SUSPENDED", 3, 1)), LIVE, "SUSPENDED"),
        (view(run("RUNNING"), run("SUSPENDED", 2, 0), run("RUNNING", 3, 1)), LIVE, "RUNNING"),
    ],
)
def test_a_stage_has_the_status_of_its_newest_unfinished_run(
    seen: StageView, record: WorkflowRecord, status: str
) -> None:
    """Else of its newest one; without any, whether a thread may still come; arrivals taken away count as cancelled."""
    assert seen.status(record) == status


def start(*stages: StageExecution, tasks: dict[str, Any] | None = None, **more: Any) -> tuple[Simulation, str]:
    simulation = Simulation(1, {"work": lambda _: TaskResult.success(outputs={"o": 1}), **(tasks or {})})
    workflow_id = simulation.start(workflow(*stages, **more))
    simulation.run(workflow_id)
    return simulation, workflow_id


def test_a_workflow_reads_back_as_it_was_written_with_how_far_it_is() -> None:
    """Definition, trigger, times, outputs, tasks."""
    main = stage("b", "a", context={"c": 1})
    pre = stage("pre")
    pre.parent_stage_id, pre.synthetic_stage_owner = main.id, SyntheticStageOwner.STAGE_BEFORE
    simulation, workflow_id = start(stage("a"), main, pre, context={"w": 1})

    found = simulation.read(workflow_id)

    by_ref = {each.ref_id: each for each in found.stages}
    assert (found.status.name, found.name, found.context) == ("SUCCEEDED", "orders", {"w": 1})
    assert found.start_time is not None
    assert found.end_time is not None
    assert found.start_time <= found.end_time
    assert (by_ref["b"].context, by_ref["b"].outputs) == ({"c": 1}, {"o": 1})
    assert by_ref["pre"].parent_stage_id == by_ref["b"].id
    (task,) = by_ref["a"].tasks
    assert (task.status.name, task.stage_start, task.stage_end) == ("SUCCEEDED", True, True)
    assert task.start_time is not None
    assert task.end_time is not None


def test_a_cancelled_workflow_says_by_whom_and_why() -> None:
    """And a paused one since when."""
    gate = stage("g", does="approval", context={"signal": "s"})
    simulation, workflow_id = start(gate)
    simulation.ask(workflow_id, lambda: outside.pause(workflow_id, "e1", "ops"))
    paused = simulation.read(workflow_id)
    simulation.ask(workflow_id, lambda: outside.cancel(workflow_id, "e2", "no more", "ops"))
    simulation.drain(until_ms=simulation.now_us // 1000 + 60_000)
    found = simulation.read(workflow_id)

    assert paused.status.name == "PAUSED"
    assert paused.paused is not None
    assert paused.paused.paused_by == "ops"
    assert (found.is_canceled, found.canceled_by, found.cancellation_reason) == (True, "ops", "no more")
    assert found.stages[0].tasks[0].status.name == "CANCELED"


def test_a_task_cut_short_has_the_end_of_its_run() -> None:
    """No task of an ended stage looks as if it were at work."""
    simulation, workflow_id = start(
        stage("g", does="approval", context={"signal": "s", "stageTimeoutMs": 1_000, "continuePipelineOnFailure": True})
    )

    (task,) = simulation.read(workflow_id).stages[0].tasks
    assert task.status.name == "TERMINAL"
    assert task.end_time is not None


def test_a_branch_that_cannot_come_any_more_is_skipped_before_the_end() -> None:
    """wcp 1.2: as soon as no thread can reach it, not only when the workflow ends."""
    failing = stage("a", does="fail", context={"failPipeline": False})
    simulation, workflow_id = start(
        failing,
        stage("b", "a"),
        stage("j", "b", "g", join_type=JoinType.OR),
        stage("g", does="approval", context={"signal": "s"}),
        tasks={"fail": lambda _: TaskResult.terminal(error="x")},
    )

    assert read_view(simulation.store, workflow_id).stages["b"].is_reachable is False
    assert {each.ref_id: each.status.name for each in simulation.read(workflow_id).stages}["b"] == "SKIPPED"
    assert {each.ref_id: each.status.name for each in simulation.read(workflow_id).stages}["j"] == "NOT_STARTED"


def test_stages_that_a_builder_planned_are_there_too() -> None:
    """Beside those of the definition, below their parent."""

    class Planner(StageDefinitionBuilder):
        @property
        def type(self) -> str:
            return "t"

        def after_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
            if stage.parent_stage_id is None and stage.synthetic_stage_owner is None:
                made = StageExecution.create_synthetic("other", "check", stage, SyntheticStageOwner.STAGE_AFTER)
                made.tasks = [TaskExecution.create("work", "work")]
                graph.add(made)

    simulation = Simulation(1, {"work": lambda _: TaskResult.success()})
    simulation.registry.register_builder(Planner())
    workflow_id = simulation.start(workflow(stage("a")))
    simulation.run(workflow_id)

    parent, planned = simulation.read(workflow_id).stages
    assert (planned.name, planned.status.name, planned.parent_stage_id) == ("check", "SUCCEEDED", parent.id)
    assert planned.synthetic_stage_owner is SyntheticStageOwner.STAGE_AFTER


def test_instances_do_not_hide_their_stage() -> None:
    """The stage's own run is what is shown; its outputs are lists in order of the instances."""
    many = stage("m", mi_config=MultiInstanceConfig(count=3))
    simulation, workflow_id = start(many)

    (found,) = simulation.read(workflow_id).stages
    assert (found.status.name, found.outputs) == ("SUCCEEDED", {"o": [1, 1, 1]})


def test_a_tasks_code_may_look_around_its_workflow() -> None:
    """Its name costs nothing; stages and context are read once, when they are looked at."""
    seen: list[Any] = []

    def look(found: StageExecution) -> TaskResult:
        seen.append((found.execution.name, found.execution.context["w"]))
        seen.append(sorted(each.ref_id for each in found.execution.stages))
        seen.append([each.ref_id for each in found.upstream_stages()])
        return TaskResult.success()

    start(stage("a"), stage("b", "a", does="look"), tasks={"look": look}, context={"w": 1})

    assert seen == [("orders", 1), ["a", "b"], ["a"]]


def test_a_workflow_that_is_looked_at_is_read_once() -> None:
    """Writing to its context changes the copy only."""
    reads: list[int] = []

    def load() -> Workflow:
        reads.append(1)
        return workflow(stage("a"), context={"w": 1})

    attached = AttachedWorkflow("w1", "tests", "orders", load)
    assert (attached.name, reads) == ("orders", [])
    assert [each.ref_id for each in attached.stages] == ["a"]
    attached.context = {"w": 2}
    assert attached.context == {"w": 2}
    attached.stages = []
    assert attached.stages == []
    assert reads == [1]
