"""Joins of every kind, in the awkward cases (wcp 1.5, 1.6; the smallest cases of PROTOCOL 7.5)."""

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.engine import outside, places
from stabilize_celery.engine.restart import restart
from stabilize_celery.engine.steps import Members, Slot, workflow_slot
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import JoinMode, JoinType, SplitType
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from tests.simulation.stalling import Stalled
from tests.simulation.stories import ROUGH, Story, stage

SEEDS = range(12)
OR, ONE, SOME = JoinType.OR, JoinType.DISCRIMINATOR, JoinType.N_OF_M


def split(ref: str, *after: str, **conditions: Any) -> StageExecution:
    """An OR split; branches by keyword, taken or not."""
    return stage(ref, *after, split_type=SplitType.OR, split_conditions={k: str(v) for k, v in conditions.items()})


def stopped(ref: str, *after: str) -> StageExecution:
    return stage(ref, *after, does="fail", context={"failPipeline": False})


def gate(ref: str, *after: str, **more: Any) -> StageExecution:
    return stage(ref, *after, does=more.pop("does", "approval"), context={"signal": ref}, **more)


def jumping(times: int, target: str) -> Callable[[StageExecution], TaskResult]:
    """A task that jumps the first `times` times."""
    seen: set[str] = set()

    def jump(stage: StageExecution) -> TaskResult:
        run = stage.context.get("passes", 0)
        seen.add(str(run))
        return TaskResult.jump_to(target, outputs={"passes": run + 1}) if run < times else TaskResult.success()

    return jump


@pytest.mark.parametrize("seed", SEEDS)
def test_an_or_join_waits_for_the_branches_that_are_live_only(seed: int) -> None:
    """WCP-7: one branch not taken, one stopped, one two stages long."""
    story = Story(seed, ROUGH).start(
        split("a", b=True, c=False, d=True, e=True),
        stage("b", "a"), stage("c", "a"), stopped("d", "a"), stage("e", "a"), stage("e2", "e"),
        stage("j", "b", "c", "d", "e2", join_type=OR),
    )  # fmt: skip
    story.run()

    assert (story.status, story.events("join.fired")) == ("SUCCEEDED", ["j"])
    assert story.statuses["c"] == "SKIPPED"
    assert story.order.index("j") > story.order.index("e2")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_or_join_without_a_live_branch_is_skipped(seed: int) -> None:
    """Nothing arrives: SKIPPED, and what follows it too."""
    story = Story(seed, ROUGH).start(
        split("a", b=False, c=False, z=True), stage("b", "a"), stage("c", "a"), stage("z", "a"),
        stage("j", "b", "c", join_type=OR), stage("k", "j", "z", join_type=OR),
    )  # fmt: skip
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.statuses == {
        "a": "SUCCEEDED",
        "b": "SKIPPED",
        "c": "SKIPPED",
        "z": "SUCCEEDED",
        "j": "SKIPPED",
        "k": "SUCCEEDED",
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_an_or_join_fires_though_a_stage_elsewhere_still_waits(seed: int) -> None:
    """Closing is told at once, not only when the workflow stands still."""
    story = Story(seed, ROUGH).start(
        split("a", b=True, c=False, w=True), stage("b", "a"), stage("c", "a"), stage("c2", "c"),
        gate("w", "a"), stage("j", "b", "c2", join_type=OR),
    )  # fmt: skip
    story.run()

    assert story.statuses["j"] == "SUCCEEDED"
    assert story.statuses["w"] == "SUSPENDED"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_discriminator_fires_on_the_first_and_absorbs_the_rest(seed: int) -> None:
    """WCP-9: once; the workflow waits for the late branches."""
    story = Story(seed, ROUGH).start(
        stage("a"), *(stage(f"b{i}", "a") for i in range(4)), stage("j", *(f"b{i}" for i in range(4)), join_type=ONE)
    )
    story.run()

    assert (story.status, story.events("join.fired")) == ("SUCCEEDED", ["j"])
    assert story.events("stage.completed").count("j") == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("alive", "fires"), [(3, 1), (2, 1), (1, 0)])
def test_n_of_m_fires_at_its_threshold_or_is_skipped(seed: int, alive: int, fires: int) -> None:
    """WCP-30: two of three; out of reach means skipped."""
    branches = [stage(f"b{i}", "a") if i < alive else stopped(f"b{i}", "a") for i in range(3)]
    joined = stage("j", "b0", "b1", "b2", join_type=SOME, join_threshold=2)
    story = Story(seed, ROUGH).start(stage("a"), *branches, joined).run()

    assert (story.status, len(story.events("join.fired"))) == ("SUCCEEDED", fires)
    assert story.statuses["j"] == ("SUCCEEDED" if fires else "SKIPPED")


@pytest.mark.parametrize("seed", SEEDS)
def test_multi_merge_runs_for_every_arrival(seed: int) -> None:
    """WCP-8: three branches, three runs, and three of what follows."""
    story = Story(seed, ROUGH).start(
        stage("a"), *(stage(f"b{i}", "a") for i in range(3)),
        stage("m", "b0", "b1", "b2", join_type=JoinType.MULTI_MERGE), stage("z", "m"),
    )  # fmt: skip
    story.run()

    assert story.events("stage.completed").count("m") == 3
    assert story.events("stage.completed").count("z") == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_threads_are_split_and_merged_in_whole_groups(seed: int) -> None:
    """WCP-41, WCP-42: five threads, groups of two: two firings, one given up."""
    story = Story(seed, ROUGH).start(
        stage("a", thread_split=5), stage("b", "a"), stage("m", "b", thread_merge=2), stage("z", "m")
    )
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.events("stage.completed").count("b") == 5
    assert story.events("stage.completed").count("z") == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_an_or_join_in_a_loop_fires_once_per_pass(seed: int) -> None:
    """WCP-38: the loop around it comes round three times."""
    story = Story(seed, ROUGH, again=jumping(2, "a")).start(
        stage("a"), stage("b", "a"), stage("c", "a"), stage("j", "b", "c", join_type=OR),
        stage("back", "j", does="again", jump_targets=["a"]), stage("z", "back"),
    )  # fmt: skip
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.events("join.fired") == ["j"] * 3
    assert story.bodies["z"] >= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_discriminator_is_ready_again_in_each_pass_of_a_loop(seed: int) -> None:
    """WCP-9, WCP-28: with k complete waves there are k firings."""
    story = Story(seed, ROUGH, again=jumping(2, "a")).start(
        stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c"),
        stage("j", "b", "c", join_type=ONE),
        stage("back", "d", does="again", jump_targets=["a"]), stage("z", "back"),
    )  # fmt: skip
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.events("join.fired").count("j") == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_doomed_and_join_lets_the_or_join_behind_it_fire(seed: int) -> None:
    """PROTOCOL 7.5: AND with a dead branch closes, beside a thread that waits."""
    story = Story(seed, ROUGH).start(
        stage("a"), stage("b", "a"), stopped("c", "a"), gate("w", "a"),
        stage("t", "b", "c"), stage("k", "t", "b", join_type=OR),
    )  # fmt: skip
    story.run()

    assert story.statuses["k"] == "SUCCEEDED"
    assert story.statuses["w"] == "SUSPENDED"
    assert story.events("join.fired") == ["k"]


@pytest.mark.parametrize("seed", SEEDS)
def test_case_2_a_jump_may_still_enter_a_doomed_join(seed: int) -> None:
    """A->B, A->C(STOPPED), T=AND(B,C), A->D(waits, then jumps to T), K=OR(T,B): K runs once."""
    story = Story(seed, ROUGH, hop=_wait_then_jump("t")).start(
        stage("a"), stage("b", "a"), stopped("c", "a"), stage("t", "b", "c"),
        gate("d", "a", does="hop", jump_targets=["t"]), stage("k", "t", "b", join_type=OR),
    )  # fmt: skip
    story.run()
    assert story.bodies["k"] == 0
    story.ask(outside.signal, "d", "d", None)
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.events("join.fired") == ["k"]
    assert story.events("stage.completed").count("t") == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_case_4_a_self_jump_does_not_hold_the_or_join_for_ever(seed: int) -> None:
    """A->B(STOPPED), A->C(waits), T=AND(B,C) with a self-jump, K=OR(T,A)."""
    story = Story(seed, ROUGH).start(
        stage("a"), stopped("b", "a"), gate("c", "a"), stage("t", "b", "c", jump_targets=["t"]),
        stage("k", "t", "a", join_type=OR),
    )  # fmt: skip
    story.run()

    story.ask(outside.signal, "c", "c", None)
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.events("join.fired") == ["k"]


@pytest.mark.parametrize("seed", SEEDS)
def test_case_7_a_discriminator_counts_a_split_thread_once_per_cycle(seed: int) -> None:
    """A XOR B or C, C->D, B thread_split 2, J=DISCRIMINATOR(B,D): J runs twice."""
    story = Story(seed, ROUGH).start(
        split("a", b=True, c=False), stage("b", "a", thread_split=2), stage("c", "a"), stage("d", "c"),
        stage("j", "b", "d", join_type=ONE),
    )  # fmt: skip
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.events("stage.completed").count("j") == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_restart_opens_what_was_closed(seed: int) -> None:
    """A restarted branch is waited for again by the OR join behind it."""
    broken = [True]

    def maybe(_stage: StageExecution) -> TaskResult:
        return TaskResult.terminal(error="broken") if broken[0] else TaskResult.success()

    story = Story(seed, ROUGH, maybe=maybe).start(
        stage("a"), stage("b", "a", does="maybe"), stage("c", "a"), stage("j", "b", "c", join_type=OR)
    )
    story.run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)
    broken[0] = False
    assert story.ask(restart, "b").took_effect
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.statuses["j"] == "SUCCEEDED"


def _wait_then_jump(target: str) -> Callable[[StageExecution], TaskResult]:
    def hop(_stage: StageExecution) -> TaskResult:
        return TaskResult.suspend() if current_call().signal is None else TaskResult.jump_to(target)

    return hop


@pytest.mark.parametrize("seed", range(30))
def test_an_and_join_in_a_loop_fires_once_per_pass(seed: int) -> None:
    """Nobody asks what can still come: what waits is kept, whatever the loop does."""

    def back(stage: StageExecution) -> TaskResult:
        passes = stage.context.get("passes", 0) + 1
        outputs = {"passes": passes}
        return TaskResult.jump_to("a", outputs=outputs) if passes < 3 else TaskResult.success(outputs=outputs)

    story = Story(seed, ROUGH, back=back).start(
        stage("a"), stage("b", "a"), stage("c", "a"), stage("j", "b", "c", does="back", jump_targets=["a"])
    )
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.events("stage.started").count("j") == 3


def test_case_10_a_cancelling_join_takes_all_that_came_before_it_fired() -> None:
    """J=cancelling DISCRIMINATOR(B,C,D): D comes before its look commits, C between two looks of its second try."""
    branches = [gate(ref, "a") for ref in "bcd"]
    story = Story().start(stage("a"), *branches, stage("j", *"bcd", join_type=ONE, join_mode=JoinMode.CANCELLING))
    story.run()
    for ref in "bcd":
        story.ask(outside.signal, ref, ref, None)
        story.handle("Run:", ref)
    story.handle("Done:", "b")

    def loses_its_first_try() -> None:
        story.handle("Done:", "d")
        Stalled(story.simulation, is_its, lambda: story.handle("Done:", "c"), before=Members(places.LIVE))

    def is_its(slot: Slot) -> bool:
        return slot == workflow_slot(story.id)

    Stalled(story.simulation, is_its, loses_its_first_try)
    story.handle("Eval:", "j")
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.events("join.fired") == ["j"]
