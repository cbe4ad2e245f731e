"""What pipelines do, told with the real engine in virtual time."""

from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.errors import TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.store.contract import Filter
from stabilize_celery.tasks.call import current_call
from tests.simulation.stories import ROUGH, Story, stage, workflow

SEEDS = range(25)


@pytest.mark.parametrize("seed", range(150))
def test_a_diamond_with_a_mutex_runs_each_stage_once_whatever_breaks(seed: int) -> None:
    """Duplicates, losses, interruptions and deaths: every transition happens once."""
    story = Story(seed, ROUGH).start(
        stage("a"), stage("b", "a", mutex_key="m"), stage("c", "a", mutex_key="m"), stage("d", "b", "c")
    )

    story.run()

    assert story.status == "SUCCEEDED"
    assert sorted(story.events("stage.completed")) == ["a", "b", "c", "d"]
    assert sorted(story.events("stage.started")) == ["a", "b", "c", "d"]
    assert story.events("join.fired") == ["d"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failure_ends_the_workflow_and_nothing_after_it_runs(seed: int) -> None:
    """TERMINAL takes the other threads away; what was not reached is SKIPPED."""
    story = Story(seed, ROUGH).start(stage("a", does="fail"), stage("b", "a"), stage("c", "b")).run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    assert story.statuses == {"a": "TERMINAL", "b": "SKIPPED", "c": "SKIPPED"}
    assert story.status == "TERMINAL"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_transient_error_is_tried_again_in_the_same_run(seed: int) -> None:
    """Two failures, then success: one run, three attempts, context updates kept."""
    tries: list[int] = []

    def flaky(stage: StageExecution) -> TaskResult:
        tries.append(stage.context.get("seen", 0))
        if stage.context.get("seen", 0) < 2:
            raise TransientError("not yet", retry_after=0.2, context_update={"seen": stage.context.get("seen", 0) + 1})
        return TaskResult.success(outputs={"tries": stage.context["seen"]})

    story = Story(seed, ROUGH, flaky=flaky).start(stage("a", does="flaky")).run()

    assert story.status == "SUCCEEDED"
    assert story.outputs("a") == {"tries": 2}
    assert sorted(set(tries)) == [0, 1, 2]


def test_an_exception_is_a_failure_with_its_traceback() -> None:
    """What the author did not plan ends the stage, and is kept for people."""

    def crash(_stage: StageExecution) -> TaskResult:
        raise ZeroDivisionError("the author's bug")

    story = Story(crash=crash).start(stage("a", does="crash")).run()

    error = story.workflow.stages[0].tasks[0].task_exception_details
    assert story.status == "TERMINAL"
    assert "ZeroDivisionError" in error["traceback"]
    assert "the author's bug" in error["message"]


@pytest.mark.parametrize(
    ("context", "expected", "status"),
    [
        (
            {"continuePipelineOnFailure": True},
            {"a": "FAILED_CONTINUE", "b": "SUCCEEDED", "c": "SUCCEEDED"},
            "SUCCEEDED",
        ),
        ({"failPipeline": False}, {"a": "STOPPED", "b": "SKIPPED", "c": "SUCCEEDED"}, "SUCCEEDED"),
        (
            {"failPipeline": False, "completeOtherBranchesThenFail": True},
            {"a": "STOPPED", "b": "SKIPPED", "c": "SUCCEEDED"},
            "TERMINAL",
        ),
        (
            {"allowSiblingStagesToContinueOnFailure": True},
            {"a": "TERMINAL", "b": "SKIPPED", "c": "SUCCEEDED"},
            "TERMINAL",
        ),
    ],
)
def test_failure_modes(context: dict[str, Any], expected: dict[str, str], status: str) -> None:
    """wcp 1.3: what a failure does to its thread, to the others, and to the outcome."""
    story = Story(2).start(stage("a", does="fail", context=context), stage("b", "a"), stage("c")).run()

    assert story.statuses == expected
    assert story.status == status


def test_a_task_that_is_still_running_is_polled_until_it_is_done() -> None:
    """RUNNING asks again after a back-off; context is kept between polls."""

    def poll(stage: StageExecution) -> TaskResult:
        seen = stage.context.get("polls", 0)
        return TaskResult.success(outputs={"polls": seen}) if seen == 3 else TaskResult.running({"polls": seen + 1})

    story = Story(poll=poll).start(stage("a", does="poll")).run()

    assert story.outputs("a") == {"polls": 3}


def test_a_jump_moves_one_thread_and_the_bound_holds() -> None:
    """WCP-10: three passes, then on; jumps above max_jumps fail the stage."""
    passes: list[int] = []

    def loop(stage: StageExecution) -> TaskResult:
        passes.append(current_call().run_number)
        return TaskResult.jump_to("a") if len(passes) < 4 else TaskResult.success()

    def forever(stage: StageExecution) -> TaskResult:
        return TaskResult.jump_to("a")

    story = Story(loop=loop).start(stage("a"), stage("b", "a", does="loop", jump_targets=["a"]), stage("c", "b")).run()
    endless = Story(forever=forever).start(stage("a"), stage("b", "a", does="forever", jump_targets=["a"]), max_jumps=5)
    endless.run()

    assert passes == [1, 2, 3, 4]
    assert story.bodies == {"a": 4, "c": 1}
    assert endless.status == "TERMINAL"
    assert endless.bodies["a"] == 6


def test_a_jump_that_was_not_declared_fails_the_stage() -> None:
    """Without jump_targets nobody could know what can still arrive (wcp 1.9)."""

    def jump(_stage: StageExecution) -> TaskResult:
        return TaskResult.jump_to("a")

    story = Story(jump=jump).start(stage("a"), stage("b", "a", does="jump")).run()

    assert story.statuses == {"a": "SUCCEEDED", "b": "TERMINAL"}


@pytest.mark.parametrize("seed", SEEDS)
def test_before_and_after_stages_run_around_the_tasks(seed: int) -> None:
    """Before stages, then tasks, then after stages, then what follows; their outputs are seen by those after them."""
    main = stage("main", "a", context={"outputs": {"m": 1}})
    before, after = stage("pre"), stage("post")
    for synthetic, owner in ((before, SyntheticStageOwner.STAGE_BEFORE), (after, SyntheticStageOwner.STAGE_AFTER)):
        synthetic.parent_stage_id, synthetic.synthetic_stage_owner = main.id, owner
    story = Story(seed, ROUGH).start(stage("a"), main, before, after, stage("z", "main")).run()

    assert story.status == "SUCCEEDED"
    assert list(dict.fromkeys(story.order)) == ["a", "pre", "main", "post", "z"]


def test_a_failed_before_stage_fails_its_parent() -> None:
    """The rest is not started."""
    main, before = stage("main"), stage("pre", does="fail")
    before.parent_stage_id, before.synthetic_stage_owner = main.id, SyntheticStageOwner.STAGE_BEFORE
    story = Story().start(main, before).run()

    assert story.statuses == {"main": "TERMINAL", "pre": "TERMINAL"}
    assert story.bodies == {"pre": 1}


@pytest.mark.parametrize("seed", SEEDS)
def test_an_inner_workflow_hands_its_outputs_back(seed: int) -> None:
    """The task waits without a worker; the child's outputs become the stage's."""
    inner = {"name": "inner", "stages": [_json_stage("i", {"answer": 42})]}
    caller = stage("call", does="sub_workflow", context={"workflow": inner})
    story = Story(seed, ROUGH).start(caller, stage("after", "call")).run()

    assert story.status == "SUCCEEDED"
    assert story.outputs("call")["answer"] == 42


@pytest.mark.parametrize("seed", SEEDS)
def test_cancelling_the_caller_cancels_the_inner_workflow(seed: int) -> None:
    """Also when the cancel overtakes its start."""
    inner = {"name": "inner", "stages": [_json_stage("gate", {}, "approval", {"signal": "never"})]}
    story = Story(seed, ROUGH).start(stage("call", does="sub_workflow", context={"workflow": inner})).run()
    story.ask(outside.cancel, "stop", "ops")

    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    child = story.events("stage.called")
    assert story.status == "CANCELED"
    assert child == ["call"]
    listed = story.simulation.store.listing(_everything(), 10, None).items
    assert {item.status for item in listed} == {"CANCELED"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_limited_pipeline_runs_its_executions_one_after_another(seed: int) -> None:
    """limitConcurrent: the second waits BUFFERED until the first has ended."""
    story = Story(seed, ROUGH)
    limited = {"pipeline_config_id": "p", "is_limit_concurrent": True, "max_concurrent_executions": 1}
    gate = stage("gate", does="approval", context={"signal": "go"})
    first = story.simulation.start(workflow(gate, **limited, keep_waiting_pipelines=True))
    story.simulation.run(first)
    second = story.simulation.start(workflow(stage("a"), **limited, keep_waiting_pipelines=True))
    story.simulation.run(second)
    assert story.simulation.read(second).status.name == "BUFFERED"

    story.id = first
    story.ask(outside.signal, "gate", "go", None)
    story.simulation.run(first, second)

    assert story.simulation.read(second).status.name == "SUCCEEDED"


def test_a_limit_of_none_limits_nothing() -> None:
    story = Story()
    none = {"pipeline_config_id": "p", "is_limit_concurrent": True, "max_concurrent_executions": 0}
    gates = [stage("gate", does="approval", context={"signal": "go"}) for _ in range(2)]
    started = [story.simulation.start(workflow(gate, **none)) for gate in gates]
    story.simulation.run(*started)

    assert [story.simulation.read(one).status.name for one in started] == ["RUNNING", "RUNNING"]


def _json_stage(
    ref_id: str, outputs: dict[str, Any], does: str = "work", context: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "ref_id": ref_id,
        "type": "test",
        "context": {"outputs": outputs, **(context or {})},
        "tasks": [{"name": does, "implementing_class": does}],
    }


def _everything() -> Any:
    return Filter()
