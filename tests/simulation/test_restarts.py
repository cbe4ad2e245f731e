"""Restart: the stage and what follows run again; what lies beside keeps its results, and a loop is open anew."""

from typing import Any

import pytest

from stabilize_celery.client.why.explain import explain
from stabilize_celery.client.why.locks import all_locks
from stabilize_celery.engine import outside
from stabilize_celery.engine.restart import restart
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import JoinType, SplitType
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.runtime.survey import survey
from stabilize_celery.tasks.call import current_call
from tests.simulation.stories import ROUGH, Story, stage, workflow
from tests.simulation.tuning import seeds


def _hold(_stage: StageExecution) -> TaskResult:
    return TaskResult.suspend() if current_call().signal is None else TaskResult.success()


@pytest.mark.parametrize("again", ["a", "body", "check"])
def test_a_restart_in_a_loop_tells_those_behind_it_anew_what_can_still_come(again: str) -> None:
    """The OR join fires once q is dead again, though a stage beside it waits."""
    story = Story(0, ROUGH, hold=_hold).start(
        stage("a"),
        stage("body", "a"),
        stage(
            "check",
            "body",
            jump_targets=["body"],
            split_type=SplitType.OR,
            split_conditions={"p": "True", "q": "False"},
        ),
        stage("p", "check"),
        stage("q", "check"),
        stage("w", "check", does="hold"),
        stage("j", "p", "q", join_type=JoinType.OR),
    )
    story.run()
    story.ask(outside.skip_stage, "w")
    assert story.run().status == "SUCCEEDED"

    assert story.ask(restart, again).took_effect
    story.run()

    assert (story.statuses["w"], story.statuses["j"]) == ("SUSPENDED", "SUCCEEDED")


@pytest.mark.parametrize("join", [{}, {"join_type": JoinType.OR}, {"join_type": JoinType.N_OF_M, "join_threshold": 2}])
def test_what_waited_at_a_join_beside_is_gone(join: dict[str, Any]) -> None:
    """The join was cancelled with the workflow, and a restart elsewhere does not let it fire."""
    fails = [True]

    def once(_stage: StageExecution) -> TaskResult:
        if current_call().signal is None and fails[0]:
            return TaskResult.suspend()
        return TaskResult.terminal(error="broken") if fails[0] else TaskResult.success()

    story = Story(0, ROUGH, hold=_hold, once=once).start(
        stage("a"),
        stage("b", "a", does="once"),
        stage("c", "a"),
        stage("d", "a", does="hold"),
        stage("k", "c", "d", **join),
        stage("l", "k"),
    )
    story.run()
    story.ask(outside.signal, "b", "go", None)
    before = story.run().statuses
    assert (before["b"], before["k"]) == ("TERMINAL", "CANCELED")
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    fails[0] = False
    assert story.ask(restart, "b").took_effect
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.statuses == {**before, "b": "SUCCEEDED"}
    assert story.bodies["l"] == 0


@pytest.mark.parametrize("seed", seeds(5))
def test_what_a_join_beside_could_only_give_up_was_not_cancelled(seed: int) -> None:
    """It is SKIPPED once the workflow has been cut short, and after a restart elsewhere, too."""
    fails = [True]

    def once(_stage: StageExecution) -> TaskResult:
        return TaskResult.terminal(error="broken") if fails[0] else TaskResult.success()

    story = Story(seed, ROUGH, once=once).start(
        stage("a", split_type=SplitType.XOR, split_conditions={"b": "False", "c": "True"}),
        stage("b", "a"),
        stage("c", "a"),
        stage("d"),
        stage("j", "b", "d"),
        stage("e", "c", "d", does="once"),
    )
    before = story.run().statuses
    assert (before["e"], before["j"]) == ("TERMINAL", "SKIPPED")
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    fails[0] = False
    assert story.ask(restart, "e").took_effect

    assert story.run().statuses == {**before, "e": "SUCCEEDED"}


def test_a_merge_behind_runs_for_what_came_from_outside_too() -> None:
    """Nothing comes from the restarted side: without the branch from outside the merge would be SKIPPED."""
    story = Story().start(
        stage("a"),
        stage("b", "a"),
        stage("c", "b", does="fail", context={"failPipeline": False}),
        stage("m", "a", "c", join_type=JoinType.MULTI_MERGE),
        stage("n", "m"),
    )
    before = story.run().statuses
    assert (before["c"], before["m"], before["n"]) == ("STOPPED", "SUCCEEDED", "SUCCEEDED")

    for passes in (2, 3):
        story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)
        assert story.ask(restart, "b").took_effect
        assert story.run().statuses == before
        assert story.bodies == {"a": 1} | dict.fromkeys("bcmn", passes)


@pytest.mark.parametrize("join", [{}, {"join_type": JoinType.OR}, {"join_type": JoinType.MULTI_MERGE}])
def test_a_restarted_join_keeps_what_came_for_a_restart_before_it(join: dict[str, Any]) -> None:
    """What came from beside is still there once a stage before the join runs again, too, and only for that."""
    story = Story().start(stage("a"), stage("b"), stage("c", "a", "b", **join))
    before = story.run().statuses

    for again, runs in (("c", "c"), ("b", "bc"), ("c", "c"), ("a", "ac")):
        story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)
        story.bodies.clear()
        assert story.ask(restart, again).took_effect
        assert story.run().statuses == before
        assert set(story.bodies) == set(runs)


LIMITED = {
    "pipeline_config_id": "nightly",
    "is_limit_concurrent": True,
    "keep_waiting_pipelines": True,
    "max_concurrent_executions": 1,
}
SLOTS = "PIPELINE:tests:nightly"


def _slots(story: Story) -> tuple[int, int]:
    """How many hold a slot of the pipeline, and how many wait for one."""
    lock = next((one for one in all_locks(story.simulation.store) if one.name == SLOTS), None)
    return (len(lock.holders), len(lock.waiters)) if lock else (0, 0)


MINUTE_MS = 60_000


@pytest.mark.parametrize("seed", range(5))
def test_a_restarted_workflow_waits_for_a_slot_of_its_pipeline_like_any_other(seed: int) -> None:
    """It waits BUFFERED behind who runs, `why` names that, and its slot goes to the next when it has ended again."""
    story = Story(seed, ROUGH, hold=_hold)
    simulation = story.simulation
    again = story.start(stage("a"), stage("b", "a", does="hold"), stage("c", "b"), **LIMITED).id
    simulation.pass_time(MINUTE_MS)
    story.ask(outside.skip_stage, "b")
    simulation.pass_time(MINUTE_MS)
    runs = simulation.start(workflow(stage("a", does="hold"), **LIMITED))
    simulation.pass_time(MINUTE_MS)

    assert story.ask(restart, "b").took_effect
    simulation.pass_time(MINUTE_MS)
    waiting = simulation.start(workflow(stage("a"), **LIMITED))
    simulation.pass_time(MINUTE_MS)

    assert (story.status, story.statuses) == ("BUFFERED", {"a": "SUCCEEDED", "b": "NOT_STARTED", "c": "NOT_STARTED"})
    assert (_slots(story), survey(simulation.store, simulation, simulation.settings, mends=False)) == ((1, 2), [])
    (reason,) = explain(simulation.store, again, simulation.settings)
    assert (reason.kind, "1st of 2 in line" in reason.text) == ("slot", True)

    story.id = runs
    story.ask(outside.signal, "a", "go", None)
    story.id = again
    simulation.pass_time(MINUTE_MS)
    assert (story.status, story.statuses["b"]) == ("RUNNING", "SUSPENDED")
    assert _slots(story) == (1, 1)

    story.ask(outside.signal, "b", "go", None)
    simulation.pass_time(MINUTE_MS)
    assert (story.status, simulation.read(waiting).status.name) == ("SUCCEEDED", "SUCCEEDED")
    assert (story.bodies["a"], story.bodies["c"]) == (2, 2)
    assert (_slots(story), survey(simulation.store, simulation, simulation.settings, mends=False)) == ((0, 0), [])


def test_the_time_out_of_a_restarted_workflow_counts_from_when_it_has_a_slot() -> None:
    """Waiting for the slot does not count; then the whole time is there again, and no more."""
    story = Story(hold=_hold)
    simulation = story.simulation
    again = story.start(stage("a", does="hold"), timeout_ms=200_000, **LIMITED).id
    simulation.pass_time(MINUTE_MS)
    story.ask(outside.skip_stage, "a")
    simulation.pass_time(MINUTE_MS)
    runs = simulation.start(workflow(stage("a", does="hold"), **LIMITED))
    simulation.pass_time(MINUTE_MS)
    assert story.ask(restart, "a").took_effect
    simulation.pass_time(5 * MINUTE_MS)
    assert story.status == "BUFFERED"

    story.id = runs
    assert story.ask(outside.skip_stage, "a").took_effect
    story.id = again
    simulation.pass_time(3 * MINUTE_MS)
    assert story.status == "RUNNING"
    simulation.pass_time(MINUTE_MS)
    assert (story.status, _slots(story)) == ("TERMINAL", (0, 0))


@pytest.mark.parametrize("act", ["cancel", "skip"])
def test_a_restarted_workflow_that_ends_while_it_waits_for_its_slot_leaves_the_line(act: str) -> None:
    """Cancelled, or its only stage skipped: nobody waits behind it, and it can be restarted again."""
    story = Story(hold=_hold)
    simulation = story.simulation
    again = story.start(stage("a"), **LIMITED).id
    simulation.pass_time(MINUTE_MS)
    runs = simulation.start(workflow(stage("a", does="hold"), **LIMITED))
    simulation.pass_time(MINUTE_MS)
    assert story.ask(restart, "a").took_effect
    simulation.pass_time(MINUTE_MS)

    ended = story.ask(outside.cancel, "no more", "ops") if act == "cancel" else story.ask(outside.skip_stage, "a")
    simulation.pass_time(MINUTE_MS)

    assert ended.took_effect
    assert (story.status, _slots(story)) == ("CANCELED" if act == "cancel" else "SUCCEEDED", (1, 0))
    assert story.ask(restart, "a").took_effect
    simulation.pass_time(MINUTE_MS)
    assert (story.status, _slots(story)) == ("BUFFERED", (1, 1))
    story.id = runs
    story.ask(outside.skip_stage, "a")
    simulation.pass_time(MINUTE_MS)
    assert simulation.read(again).status.name == "SUCCEEDED"
    assert _slots(story) == (0, 0)


def test_a_milestone_does_not_see_the_runs_from_before_a_restart() -> None:
    """The stage succeeded the first time: the other one waits until it has succeeded again."""
    x = stage("x", "a", milestone_ref_id="m", milestone_status="SUCCEEDED")
    story = Story(0, hold=_hold).start(stage("a"), stage("b", "a", does="hold"), stage("m", "b"), x).run()
    story.ask(outside.signal, "b", "any", None)
    assert story.run().status == "SUCCEEDED"

    assert story.ask(restart, "a").took_effect
    story.run()
    waits = dict(story.statuses)
    story.ask(outside.signal, "b", "any", None)
    story.run()

    assert (waits["m"], waits["x"]) == ("NOT_STARTED", "BUFFERED")
    assert (story.status, story.order[-2:]) == ("SUCCEEDED", ["m", "x"])


def test_a_milestone_that_was_missed_before_a_restart_holds_again_after_it() -> None:
    """`m` has not started: that is so again, though it had run."""
    x = stage("x", "a", milestone_ref_id="m", milestone_status="NOT_STARTED")
    story = Story(0).start(stage("a"), x, stage("m", "x")).run()
    assert (story.status, story.bodies["x"]) == ("SUCCEEDED", 1)

    assert story.ask(restart, "a").took_effect
    story.run()

    assert (story.status, story.statuses["x"], story.bodies["x"], story.bodies["m"]) == ("SUCCEEDED", "SUCCEEDED", 2, 2)
