"""Restart: the stage and what follows run again; what lies beside keeps its results, and a loop is open anew."""

from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.engine.restart import restart
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import JoinType, SplitType
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from tests.simulation.stories import ROUGH, Story, stage


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
