"""Stage builders, finalizers and clean-up: user code around a stage's tasks."""

import pytest

from stabilize_celery.models.graph import StageGraphBuilder
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.tasks.builders import StageDefinitionBuilder
from stabilize_celery.tasks.task import Task
from tests.simulation.stories import CALM, ROUGH, Story, stage

SEEDS = range(15)


class Deploy(StageDefinitionBuilder):
    """Plans a task, a before stage, an after stage, and one for when it fails."""

    @property
    def type(self) -> str:
        return "deploy"

    def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
        return [TaskExecution.create("work", stage.context.get("does", "work"))]

    def before_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(planned(stage, "prepare", SyntheticStageOwner.STAGE_BEFORE))

    def after_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(planned(stage, "verify", SyntheticStageOwner.STAGE_AFTER))

    def on_failure_stages(self, stage: StageExecution, graph: StageGraphBuilder) -> None:
        graph.add(planned(stage, "roll back", SyntheticStageOwner.STAGE_AFTER))


def planned(parent: StageExecution, name: str, owner: SyntheticStageOwner) -> StageExecution:
    made = StageExecution.create_synthetic("test", name, parent, owner)
    made.tasks = [TaskExecution.create("work", "work")]
    return made


def built(ref_id: str, *after: str, **context: object) -> StageExecution:
    return StageExecution(
        ref_id=ref_id, type="deploy", name=ref_id, requisite_stage_ref_ids=set(after), context=dict(context)
    )


def names(story: Story) -> list[str]:
    by_ref = {stage.ref_id: stage.name for stage in story.workflow.stages}
    return [by_ref[ref] for ref in dict.fromkeys(story.order)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_builder_plans_the_work_of_its_stages(seed: int) -> None:
    """Before stage, task, after stage, and only then what follows."""
    story = Story(seed, ROUGH)
    story.simulation.registry.register_builder(Deploy())
    story.start(built("d"), stage("z", "d")).run()

    assert story.status == "SUCCEEDED"
    assert names(story) == ["prepare", "d", "verify", "z"]
    assert {s.name: s.status.name for s in story.workflow.stages}["verify"] == "SUCCEEDED"


@pytest.mark.parametrize("seed", SEEDS)
def test_on_failure_stages_run_before_the_stage_ends_failed(seed: int) -> None:
    """They clean up; they do not rescue."""
    story = Story(seed, ROUGH)
    story.simulation.registry.register_builder(Deploy())
    story.start(built("d", does="fail"), stage("z", "d")).run()

    assert story.statuses["d"] == "TERMINAL"
    assert "roll back" in names(story)
    assert "verify" not in names(story)
    assert story.bodies["z"] == 0


def test_a_builder_that_raises_fails_its_stage_with_its_words() -> None:
    """User code: its error becomes the stage's."""

    class Broken(Deploy):
        def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
            raise ValueError("no region given")

    story = Story()
    story.simulation.registry.register_builder(Broken())
    story.start(built("d")).run()

    assert story.status == "TERMINAL"
    assert story.events("stage.failed") == ["d"]


@pytest.mark.parametrize("seed", SEEDS)
def test_finalizers_run_after_every_end(seed: int) -> None:
    """Named, registered in workers, at least once; a failing one is logged and stops nobody."""
    called: list[tuple[str, str]] = []
    story = Story(seed, CALM)
    story.simulation.registry.finalizers.register("note", lambda s: called.append((s.ref_id, s.status.name)))
    story.simulation.registry.finalizers.register("bad", lambda _: 1 / 0)
    story.start(
        stage("a", finalizer_names=["bad", "note"]), stage("b", "a", does="fail", finalizer_names=["note"])
    ).run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    assert sorted(set(called)) == [("a", "SUCCEEDED"), ("b", "TERMINAL")]


def test_cleanup_on_failure_calls_the_tasks_hook() -> None:
    """Only when the stage did not end well."""
    cleaned: list[str] = []

    class Messy(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            return TaskResult.terminal("broken") if stage.ref_id == "b" else TaskResult.success()

        def on_cleanup(self, stage: StageExecution) -> None:
            cleaned.append(stage.ref_id)

    story = Story(messy=Messy).start(
        stage("a", does="messy", cleanup_on_failure=True), stage("b", "a", does="messy", cleanup_on_failure=True)
    )
    story.run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    assert cleaned == ["b"]
