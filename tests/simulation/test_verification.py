"""`verification` in a stage's context: the outputs are checked before anything downstream sees them."""

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.verification import VerifyResult
from tests.simulation.laws import Laws
from tests.simulation.stories import CALM, ROUGH, Story, stage
from tests.simulation.tuning import seeds

Checking = Callable[[StageExecution], VerifyResult]


def story_of(
    seed: int, wanted: Any, check: Checking | None = None, faults: Any = CALM, *, does: Any = "work", **more: Any
) -> Story:
    story = Story(seed, faults)
    if check is not None:
        story.simulation.registry.verifiers.register("check", check)
    context = {"outputs": {"n": 1}, "verification": wanted, **more}
    story.start(stage("a", does=does, context=context), stage("b", "a"))
    return story


def reason(story: Story) -> str:
    return str(story.workflow.stages[0].tasks[-1].task_exception_details["message"])


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"required_keys": ["n"]}, ""),
        ({"type": "output", "required_keys": ["n"], "type_checks": {"n": "number"}}, ""),
        ({"required_keys": ["n", "m"]}, "Missing required outputs: m"),
        ({"type_checks": {"n": "str"}}, "Type errors: n: expected str, got int"),
        ({"type_checks": {"n": "strin"}}, "did you mean 'string'"),
        ({"type": "magic"}, "type must be output or callable"),
        ({"callable": "chek"}, "no verifier 'chek' is registered"),
        ("chek", "no verifier 'chek' is registered"),
        (7, "a verifier's name or a mapping"),
        ({"required_keys": 7}, "a list of required_keys"),
        ({"required_keys": ["n"], "max_retries": "many"}, "must be numbers"),
    ],
)
def test_outputs_that_do_not_pass_fail_their_stage_in_words(wanted: Any, told: str) -> None:
    """What is asked for wrongly, too: a check that is silently left out is none."""
    story = story_of(1, wanted).run()

    assert story.status == ("TERMINAL" if told else "SUCCEEDED")
    assert story.bodies["b"] == (not told)
    if told:
        assert told in reason(story)
        assert story.outputs("a") == {}


@pytest.mark.parametrize("seed", seeds(15))
def test_a_check_that_cannot_tell_yet_is_made_again_and_the_work_is_not(seed: int) -> None:
    """Whatever dies meanwhile: the outputs are kept, out of sight, until it can tell."""
    seen: list[dict[str, Any]] = []

    def check(found: StageExecution) -> VerifyResult:
        seen.append(dict(found.outputs))
        assert story.outputs("a") == {}
        if len(seen) % 2:
            raise ConnectionError("away")
        return VerifyResult.ok() if len(seen) > 3 else VerifyResult.retry("not there yet")

    story = story_of(seed, {"callable": "check", "max_retries": 9, "retry_delay_seconds": 5}, check, CALM)
    laws = Laws(story.simulation)
    began_us = story.simulation.now_us
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.outputs("a") == {"n": 1}
    assert story.bodies["a"] == 1
    assert seen == [{"n": 1}] * 4
    assert story.simulation.now_us - began_us > 15_000_000
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)
    laws.require_the_end(story.id)


@pytest.mark.parametrize("seed", seeds(15))
def test_a_check_survives_its_workers(seed: int) -> None:
    """Rough faults: it passes in the end, and what comes after starts once."""
    made: list[int] = []

    def check(_found: StageExecution) -> VerifyResult:
        made.append(1)
        return VerifyResult.ok() if len(made) > 2 else VerifyResult.retry()

    story = story_of(seed, "check", check, ROUGH).run()

    assert story.status == "SUCCEEDED"
    assert story.outputs("a") == {"n": 1}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda _: VerifyResult.retry("still dark"), "still dark (given up after 4 checks)"),
        (lambda _: VerifyResult.failed("too small"), "the outputs do not pass: too small"),
        (lambda found: found.outputs["m"], "KeyError: 'm'"),
        (lambda _: True, "returned bool, not a VerifyResult"),
    ],
)
def test_a_check_that_fails_or_never_passes_fails_the_stage(answer: Any, told: str) -> None:
    """With its own words; outputs that did not pass are not kept."""
    story = story_of(2, "check", answer).run()

    assert (story.status, story.outputs("a"), story.bodies["a"]) == ("TERMINAL", {}, 1)
    assert told in reason(story)


def test_only_the_last_tasks_success_is_checked() -> None:
    """The outputs are the stage's: those of all its tasks together."""
    seen: list[dict[str, Any]] = []

    def check(found: StageExecution) -> VerifyResult:
        seen.append(dict(found.outputs))
        return VerifyResult.skipped()

    story = Story(3)
    story.simulation.registry.verifiers.register("check", check)
    story.simulation.registry.register("more", lambda _: TaskResult.success({"m": 2}))
    wanted = {"outputs": {"n": 1}, "verification": "check"}
    story.start(
        stage("a", does=["work", "more"], context=wanted),
        stage("f", does="fail", context={"verification": "check", "continuePipelineOnFailure": True}),
    ).run()

    assert story.status == "SUCCEEDED"
    assert seen == [{"n": 1, "m": 2}]


def test_what_is_inherited_asks_for_no_check() -> None:
    """An output of that name upstream is a value like any other."""
    story = Story(4)
    story.start(stage("a", context={"outputs": {"verification": "nobody knows it"}}), stage("b", "a")).run()

    assert story.status == "SUCCEEDED"
