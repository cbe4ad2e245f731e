"""What pipelines do, told with the real engine in virtual time."""

from datetime import timedelta
from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.engine.restart import restart
from stabilize_celery.errors import TransientError
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SplitType, SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.runtime.reading import read_view
from stabilize_celery.store.contract import Filter
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.variants import RetryableTask
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


def test_data_comes_from_the_causal_past_and_never_from_a_sibling() -> None:
    """b sees a's output, not c's; d sees both."""
    seen: dict[str, dict[str, Any]] = {}

    def look(stage: StageExecution) -> TaskResult:
        seen[stage.ref_id] = {name: stage.context.get(name) for name in ("a", "b", "c")}
        return TaskResult.success(outputs={stage.ref_id: stage.ref_id})

    stages = [stage(r, *u, does="look") for r, *u in (("a",), ("b", "a"), ("c", "a"), ("d", "b", "c"))]
    Story(3, look=look).start(*stages).run()

    assert seen["b"] == {"a": "a", "b": None, "c": None}
    assert seen["c"] == {"a": "a", "b": None, "c": None}
    assert seen["d"] == {"a": "a", "b": "b", "c": "c"}


def test_reducers_combine_what_branches_wrote() -> None:
    """`sum` over the branches' values; without a reducer the latest value wins."""
    seen: dict[str, Any] = {}

    def look(stage: StageExecution) -> TaskResult:
        seen.update(stage.context)
        return TaskResult.success()

    branches = [stage(f"b{i}", "a", context={"outputs": {"n": i, "names": [f"b{i}"]}}) for i in range(4)]
    joined = stage("j", *(b.ref_id for b in branches), does="look", output_reducers={"n": "sum", "names": "extend"})
    Story(1, look=look).start(stage("a"), *branches, joined).run()

    assert seen["n"] == 6
    assert sorted(seen["names"]) == ["b0", "b1", "b2", "b3"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"context": {"stageEnabled": {"type": "expression", "expression": "n > 1"}}},
        {"mi_config": MultiInstanceConfig(count_from_context="n")},
    ],
    ids=["body", "condition", "instances"],
)
def test_a_reducer_that_can_not_combine_its_values_fails_the_stage(more: dict[str, Any]) -> None:
    """Whoever looks first: a body, a condition, a number of instances."""
    story = Story(1).start(
        stage("a"),
        stage("b", "a", context={"outputs": {"n": "text"}}),
        stage("c", "a", context={"outputs": {"n": 1}}),
        stage("j", "b", "c", output_reducers={"n": "sum"}, **more),
    )
    story.run()

    assert story.status == "TERMINAL"
    assert "'sum' can't combine ['text', 1]" in read_view(story.simulation.store, story.id).record.reason


def test_own_context_wins_over_the_past_and_the_past_over_the_workflow() -> None:
    """wcp 1.4: workflow context, causal past, own context; the later wins."""
    seen: dict[str, Any] = {}

    def look(stage: StageExecution) -> TaskResult:
        seen.update({name: stage.context[name] for name in ("x", "y", "z")})
        return TaskResult.success()

    first = stage("a", context={"outputs": {"y": "past", "z": "past"}})
    Story(look=look).start(
        first, stage("b", "a", does="look", context={"z": "own"}), context={"x": "w", "y": "w", "z": "w"}
    ).run()

    assert seen == {"x": "w", "y": "past", "z": "own"}


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


@pytest.mark.parametrize("seed", SEEDS)
def test_a_signal_sent_before_the_wait_is_kept_and_used_once(seed: int) -> None:
    """Persistent: kept in order until a wait uses it; another name wakes nobody."""
    gate = stage("gate", does="approval", context={"signal": "approve"})
    story = Story(seed, ROUGH).start(gate, stage("b", "gate"))
    assert story.ask(outside.signal, "gate", "approve", {"by": "ops"}).took_effect

    story.run()

    assert story.status == "SUCCEEDED"
    assert story.outputs("gate") == {"signal": "approve", "payload": {"by": "ops"}}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_waiting_stage_is_woken_by_its_signal_only(seed: int) -> None:
    """SUSPENDED with nothing owed, until the signal of that name comes."""
    gate = stage("gate", does="approval", context={"signal": "approve"})
    story = Story(seed, ROUGH).start(gate, stage("b", "gate")).run()
    assert story.statuses["gate"] == "SUSPENDED"
    story.ask(outside.signal, "gate", "reject_all", {})
    story.run()
    assert story.statuses["gate"] == "SUSPENDED"

    story.ask(outside.signal, "gate", "approve", 7)
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.outputs("gate")["payload"] == 7


def test_a_transient_signal_that_nobody_waits_for_is_refused() -> None:
    """WCP-23: lost, and said so."""
    story = Story().start(stage("gate", does="approval", context={"signal": "go"}))

    answer = story.ask(outside.signal, "gate", "go", None, transient=True)

    assert not answer.took_effect
    assert "nobody waits" in answer.told


def test_a_wait_fails_at_its_deadline() -> None:
    """approval's `deadline_s`."""
    gate = stage("gate", does="approval", context={"signal": "approve", "deadline_s": 60})
    story = Story().start(gate).run()

    assert story.status == "TERMINAL"
    assert story.events("stage.timed_out") == ["gate"]


@pytest.mark.parametrize("seed", SEEDS)
def test_restart_runs_the_stage_and_what_follows_it_again(seed: int) -> None:
    """The rest keeps its results; the join counts the kept branch once."""
    broken = [True]

    def maybe(stage: StageExecution) -> TaskResult:
        return TaskResult.terminal(error="broken") if broken[0] else TaskResult.success(outputs={"b": 2})

    stages = [stage("a"), stage("x", "a"), stage("b", "a", does="maybe"), stage("c", "b", "x"), stage("d", "c")]
    stages[2].context["allowSiblingStagesToContinueOnFailure"] = True
    story = Story(seed, ROUGH, maybe=maybe).start(*stages).run()
    assert story.status == "TERMINAL"
    broken[0] = False

    assert story.ask(restart, "b").took_effect
    story.run()

    assert story.status == "SUCCEEDED"
    assert set(story.statuses.values()) == {"SUCCEEDED"}
    assert story.events("stage.completed").count("x") == 1
    assert story.events("stage.completed").count("c") == 1


def test_restart_of_a_finished_workflow_runs_a_join_again_under_a_new_name() -> None:
    """A join's second firing is another thread than its first."""
    story = Story().start(stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c"), stage("e", "d")).run()

    story.ask(restart, "a")
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.bodies == {"a": 2, "b": 2, "c": 2, "d": 2, "e": 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_pause_holds_the_next_stage_back_until_resumed(seed: int) -> None:
    """What runs goes on; what would begin is parked, and comes back."""
    story = Story(seed, ROUGH)

    def pausing(stage: StageExecution) -> TaskResult:
        if not story.bodies[stage.ref_id]:
            story.bodies[stage.ref_id] += 1
            story.ask(outside.pause, "ops")
        return TaskResult.success()

    story.simulation.registry.register("pausing", pausing)
    story.start(stage("a", does="pausing"), stage("b", "a")).run()
    assert (story.status, story.bodies["b"]) == ("PAUSED", 0)

    assert story.ask(outside.resume).took_effect
    story.run()

    assert (story.status, story.statuses["b"]) == ("SUCCEEDED", "SUCCEEDED")


@pytest.mark.parametrize("seed", SEEDS)
def test_cancel_takes_everything_away(seed: int) -> None:
    """WCP-20: waiting, held and unreached stages; nothing runs afterwards; a second cancel has no effect."""
    gate = stage("gate", does="approval", context={"signal": "s"}, mutex_key="k")
    story = (
        Story(seed, ROUGH)
        .start(gate, stage("held", does="approval", context={"signal": "s"}, mutex_key="k"), stage("b", "gate"))
        .run()
    )

    assert story.ask(outside.cancel, "changed my mind", "ops").took_effect
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    assert story.status == "CANCELED"
    assert story.statuses["b"] == "SKIPPED"
    assert {story.statuses["gate"], story.statuses["held"]} == {"CANCELED"}
    assert not story.ask(outside.cancel, "again", "ops").took_effect
    assert story.simulation.store.locks() == []


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


def test_stage_enabled_false_bypasses_and_the_thread_goes_on() -> None:
    """SKIPPED, bypassed: an arrival at the join."""
    off = stage("b", "a", context={"stageEnabled": {"type": "expression", "expression": "a > 1"}})
    story = Story().start(stage("a"), off, stage("c", "a"), stage("d", "b", "c")).run()

    assert story.statuses == {"a": "SUCCEEDED", "b": "SKIPPED", "c": "SUCCEEDED", "d": "SUCCEEDED"}
    assert story.bodies["b"] == 0


@pytest.mark.parametrize(
    ("conditions", "default", "taken"),
    [
        ({"b": "a == 1", "c": "a == 1"}, None, {"b"}),
        ({"b": "a == 2", "c": "a < 5"}, None, {"c"}),
        ({"b": "a == 2", "c": "a == 3"}, "d", {"d"}),
    ],
)
def test_an_exclusive_choice_takes_the_first_that_holds(
    conditions: dict[str, str], default: str | None, taken: set[str]
) -> None:
    """WCP-4: in the written order, else the default."""
    split = stage("a", split_type=SplitType.XOR, split_conditions=conditions, split_default=default)
    if default is None:
        split.split_conditions["d"] = "False"
    story = Story().start(split, *(stage(ref, "a") for ref in "bcd")).run()

    assert {ref for ref in "bcd" if story.bodies[ref]} == taken
    assert story.status == "SUCCEEDED"


def test_a_condition_that_errs_fails_the_stage_and_names_the_name() -> None:
    """Fails closed: there is no safe branch to go on with."""
    split = stage("a", split_type=SplitType.OR, split_conditions={"b": "missing > 1"})
    story = Story().start(split, stage("b", "a")).run()

    assert story.statuses == {"a": "TERMINAL", "b": "SKIPPED"}
    assert story.events("stage.failed") == ["a"]


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


def test_a_stage_times_out() -> None:
    """stageTimeoutMs ends a stage that waits too long, with its reason."""
    gate = stage("gate", does="approval", context={"signal": "s", "stageTimeoutMs": 5_000})
    story = Story().start(gate, stage("b", "gate")).run()

    assert story.status == "TERMINAL"
    assert story.statuses == {"gate": "TERMINAL", "b": "SKIPPED"}


def test_a_workflow_times_out() -> None:
    """timeout_ms bounds the whole."""
    story = Story().start(stage("gate", does="approval", context={"signal": "s"}), timeout_ms=5_000).run()

    assert story.status == "TERMINAL"


def test_a_stage_does_not_start_before_its_scheduled_time() -> None:
    """scheduled_time, epoch ms."""
    story = Story()
    at_ms = story.simulation.now_us // 1000 + 30_000
    story.start(stage("a"), stage("b", "a", scheduled_time=at_ms)).run()

    started = story.workflow.stage_by_ref_id("b")
    assert started is not None
    assert started.start_time is not None
    assert started.start_time >= at_ms


def test_a_stage_whose_start_has_expired_is_bypassed() -> None:
    """start_time_expiry, epoch ms."""
    story = Story()
    story.start(stage("a"), stage("b", "a", start_time_expiry=1000), stage("c", "b")).run()

    assert story.statuses == {"a": "SUCCEEDED", "b": "SKIPPED", "c": "SUCCEEDED"}


def test_a_workflow_whose_start_has_expired_is_cancelled() -> None:
    """start_time_expiry of the workflow, epoch ms: nothing runs."""
    story = Story().start(stage("a"), start_time_expiry=1000).run()

    assert story.status == "CANCELED"
    assert story.bodies == {}


def test_retention_leaves_nothing_behind() -> None:
    """After the retention every key of the workflow is gone."""
    story = Story().start(stage("a"), stage("b", "a", mutex_key="k"), stage("c", "a"), stage("d", "b", "c")).run()
    day_ms = 24 * 3600 * 1000

    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 8 * day_ms)

    left = [key for key in story.simulation.store._wire.scan("*") if story.id.encode() in key]
    assert left == []


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


def test_a_retryable_task_times_out_over_all_its_attempts() -> None:
    """get_timeout bounds the task as a whole, polls included."""

    class Patient(RetryableTask):
        def execute(self, stage: StageExecution) -> TaskResult:
            return TaskResult.running()

        def get_timeout(self) -> timedelta:
            return timedelta(seconds=30)

        def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
            return timedelta(seconds=5)

    story = Story(patient=Patient).start(stage("a", does="patient")).run()

    assert story.status == "TERMINAL"
    assert story.events("stage.timed_out") == ["a"]


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
