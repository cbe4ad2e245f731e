"""Before and after stages when their parent, or one of them, is cut short (wcp 1.3, 1.8)."""

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from tests.simulation.laws import Laws
from tests.simulation.stories import ROUGH, Story, stage

SEEDS = range(12)
BEFORE, AFTER = SyntheticStageOwner.STAGE_BEFORE, SyntheticStageOwner.STAGE_AFTER


def around(parent: StageExecution, owner: SyntheticStageOwner, made: StageExecution) -> StageExecution:
    made.parent_stage_id, made.synthetic_stage_owner = parent.id, owner
    return made


def waiting(ref_id: str, *after: str, **context: object) -> StageExecution:
    return stage(ref_id, *after, does="approval", context={"signal": "s", **context})


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("owner", [BEFORE, AFTER])
def test_a_parent_that_times_out_takes_its_synthetic_stages_with_it(seed: int, owner: SyntheticStageOwner) -> None:
    """STOPPED by its time-out: nothing of it lives on, and the workflow ends."""
    main = stage("main", context={"stageTimeoutMs": 60_000, "failPipeline": False})
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    story.start(main, around(main, owner, waiting("s")), stage("z")).run()

    assert (story.status, laws.broken) == ("SUCCEEDED", [])
    assert story.statuses == {"main": "STOPPED", "s": "CANCELED", "z": "SUCCEEDED"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("ask", "main", "after"), [("cancel", "CANCELED", "SKIPPED"), ("skip", "SKIPPED", "SUCCEEDED")]
)
def test_a_parent_ended_from_outside_takes_its_synthetic_stages_with_it(
    seed: int, ask: str, main: str, after: str
) -> None:
    """Cancelled: the thread is gone. Skipped: it goes on, without the rest of the work."""
    parent = stage("main")
    story = Story(seed, ROUGH).start(parent, around(parent, BEFORE, waiting("pre")), stage("z", "main")).run()

    assert story.ask(outside.cancel_stage if ask == "cancel" else outside.skip_stage, "main").took_effect
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.statuses == {"main": main, "pre": "CANCELED", "z": after}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("ask", "pre", "main"), [("cancel", "CANCELED", "CANCELED"), ("skip", "SKIPPED", "SUCCEEDED")])
def test_a_before_stage_ended_from_outside_is_told_to_its_parent(seed: int, ask: str, pre: str, main: str) -> None:
    """Cancelled, its parent is, too; skipped, the parent goes on to its tasks."""
    parent = stage("main")
    story = Story(seed, ROUGH).start(parent, around(parent, BEFORE, waiting("pre"))).run()

    assert story.ask(outside.cancel_stage if ask == "cancel" else outside.skip_stage, "pre").took_effect
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.statuses == {"main": main, "pre": pre}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_signal_does_not_wake_a_stage_that_was_taken_away_with_its_sibling(seed: int) -> None:
    """One before stage fails while the other waits: the wait is over, a signal is kept for nobody."""
    main = stage("main", context={"failPipeline": False})
    fails = around(main, BEFORE, stage("fails", does="late"))
    story = Story(seed, ROUGH, late=lambda _: TaskResult.terminal(error="late"))
    story.start(main, around(main, BEFORE, waiting("waits")), fails, waiting("open")).run()
    assert story.statuses["main"] == "STOPPED"
    assert story.statuses["waits"] == "CANCELED"

    story.ask(outside.signal, "waits", "s", None)
    story.run()
    story.ask(outside.signal, "open", "s", None)
    story.run()

    assert (story.status, story.statuses["waits"]) == ("SUCCEEDED", "CANCELED")


@pytest.mark.parametrize("seed", SEEDS)
def test_nested_synthetic_stages_go_with_their_grandparent(seed: int) -> None:
    """A before stage may have before stages of its own."""
    main = stage("main", context={"stageTimeoutMs": 60_000, "failPipeline": False})
    outer = around(main, BEFORE, stage("outer"))
    inner = around(outer, BEFORE, waiting("inner"))
    story = Story(seed, ROUGH).start(main, outer, inner).run()

    assert story.status == "SUCCEEDED"
    assert story.statuses == {"main": "STOPPED", "outer": "CANCELED", "inner": "CANCELED"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_time_out_bounds_the_after_stages_of_instances_too(seed: int, goes_on: bool) -> None:
    """What the instances came to stands already; what runs behind them is at work all the same."""

    def fail_once(one: StageExecution) -> TaskResult:
        return TaskResult.terminal(error="no") if goes_on and one.context["instance_index"] else TaskResult.success()

    context = {"stageTimeoutMs": 60_000, "continuePipelineOnFailure": goes_on}
    main = stage("main", does="fail_once", context=context, mi_config=MultiInstanceConfig(count=2))
    story = Story(seed, ROUGH, fail_once=fail_once).start(main, around(main, AFTER, waiting("s")), stage("z", "main"))
    story.run()

    ended = ("FAILED_CONTINUE", "SUCCEEDED") if goes_on else ("TERMINAL", "TERMINAL")
    assert (story.statuses["main"], story.status, story.statuses["s"]) == (*ended, "CANCELED")


def _family(owner: SyntheticStageOwner) -> list[StageExecution]:
    """A stage with parts of each kind: one that waits, one with a part of its own, and instances."""
    main = stage("main", cancel_region="r")
    outer = around(main, owner, stage("outer"))
    crowd = around(main, owner, waiting("crowd"))
    crowd.mi_config = MultiInstanceConfig(count=2)
    return [main, around(main, owner, waiting("one")), outer, around(outer, BEFORE, waiting("inner")), crowd]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("owner", [BEFORE, AFTER])
@pytest.mark.parametrize(
    ("event", "what"), [(outside.cancel_stage, "main"), (outside.cancel_region, "r"), (outside.skip_stage, "main")]
)
def test_the_commit_that_ends_a_run_takes_its_parts_away(
    seed: int, owner: SyntheticStageOwner, event: Callable[..., Any], what: str
) -> None:
    """From the answer on no signal finds them, though nothing else has been handled yet."""
    story = Story(seed, ROUGH).start(*_family(owner), waiting("open")).run()
    assert {story.statuses[ref] for ref in ("one", "inner", "crowd")} == {"SUSPENDED"}

    assert story.ask(event, what).took_effect
    at_once = {ref: status for ref, status in story.statuses.items() if ref not in ("main", "open")}
    woken = [story.ask(outside.signal, ref, "s", None, transient=True) for ref in at_once]
    story.run()
    story.ask(outside.signal, "open", "s", None)
    story.run()

    assert at_once == dict.fromkeys(("one", "outer", "inner", "crowd"), "CANCELED")
    assert not any(answer.took_effect for answer in woken)
    assert (story.status, set(story.bodies)) == ("SUCCEEDED", set() if owner is BEFORE else {"main"})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stage_that_clears_its_own_region_spares_all_that_is_part_of_its_run(seed: int) -> None:
    """However deep: a before stage clears the region of its parent, and a part of its sibling waits on."""
    main = stage("main")
    outer, clears = around(main, BEFORE, stage("outer")), around(main, BEFORE, stage("clears", cancels_regions=["r"]))
    inner, other = around(outer, BEFORE, waiting("inner")), waiting("other")
    inner.cancel_region = other.cancel_region = "r"
    story = Story(seed, ROUGH).start(main, outer, clears, inner, other).run()

    story.ask(outside.signal, "inner", "s", None)
    story.run()

    assert story.status == "SUCCEEDED"
    assert {story.statuses[ref] for ref in ("inner", "outer", "main")} == {"SUCCEEDED"}
