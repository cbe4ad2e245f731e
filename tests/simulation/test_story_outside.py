"""Signals, restarts, pauses and cancellations of a workflow that runs."""

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.engine.restart import restart
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from tests.simulation.stories import ROUGH, Story, stage

SEEDS = range(25)


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
