"""What a stage sees of a long way behind it: all of it, at a cost that does not grow (docs/decisions/009)."""

from typing import Any

import pytest

from stabilize_celery.engine.past import NEAR
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.testing import Faults
from tests.simulation.stories import CALM, ROUGH, Story, stage

LONG = NEAR + 40


def writes(**outputs: Any) -> dict[str, Any]:
    return {"outputs": outputs}


def chain(name: str, length: int, *after: str) -> list[StageExecution]:
    """Stages one after another, each of which writes a name of its own and the common name `newest`."""
    refs = [f"{name}{at}" for at in range(length)]
    return [
        stage(ref, *(refs[at - 1 : at] or after), context=writes(**{ref: at}, newest=ref))
        for at, ref in enumerate(refs)
    ]


def collect(stage: StageExecution) -> TaskResult:
    """Write all that is seen."""
    return TaskResult.success(outputs={"seen": {k: v for k, v in stage.context.items() if k != "seen"}})


@pytest.mark.parametrize("faults", [CALM, ROUGH])
def test_the_end_of_a_long_chain_sees_every_name_and_the_latest_value(faults: Faults) -> None:
    """However many stages lie between."""
    story = (
        Story(1, faults, collect=collect).start(*chain("s", LONG), stage("end", f"s{LONG - 1}", does="collect")).run()
    )

    assert story.outputs("end")["seen"] == {**{f"s{at}": at for at in range(LONG)}, "newest": f"s{LONG - 1}"}


def test_branches_that_wrote_much_meet_with_all_they_wrote() -> None:
    """Also a name written before they parted, long ago in one branch and just now in the other."""
    story = Story(2, collect=collect).start(
        stage("start", context=writes(common="start", untouched=1)),
        *chain("left", LONG, "start"),
        stage("old", f"left{LONG - 1}", context=writes(common="left")),
        stage("right", "start", context=writes(right=1)),
        stage("end", "old", "right", does="collect"),
    )
    seen = story.run().outputs("end")["seen"]

    assert seen["common"] == "left"
    assert (seen["untouched"], seen["right"], seen["left0"], seen[f"left{LONG - 1}"]) == (1, 1, 0, LONG - 1)


def test_a_fan_out_wider_than_a_page_meets_in_one_join() -> None:
    """Every branch's own name, and a reducer over a name that all of them write."""
    wide = 2 * NEAR
    branches = [stage(f"b{at}", "start", context=writes(**{f"b{at}": at}, total=1)) for at in range(wide)]
    join = stage("join", *(branch.ref_id for branch in branches), does="collect", output_reducers={"total": "sum"})
    story = Story(3, collect=collect).start(stage("start"), *branches, join, *chain("s", 3, "join")).run()

    seen = story.outputs("join")["seen"]
    assert {f"b{at}": at for at in range(wide)}.items() <= seen.items()
    assert seen["total"] == wide


def test_a_condition_looks_at_what_was_written_long_ago() -> None:
    """Small values travel along; a large one is found on its page."""
    large = list(range(5_000))
    enabled = {"type": "expression", "expression": "flag == 7 and large[1] == 1"}
    story = Story(4).start(
        stage("start", context=writes(flag=7, large=large)),
        *chain("s", LONG, "start"),
        stage("end", f"s{LONG - 1}", context={"stageEnabled": enabled}),
    )

    assert story.run().statuses["end"] == "SUCCEEDED"


def test_a_loop_of_many_passes_sees_the_latest_of_each_name() -> None:
    """Each pass hides what the one before wrote."""

    def step(stage: StageExecution) -> TaskResult:
        number = stage.context.get("number", 0) + 1
        outputs = {"number": number, f"pass{number}": number}
        return TaskResult.jump_to("loop", outputs=outputs) if number < NEAR + 20 else TaskResult.success(outputs)

    story = Story(5, step=step, collect=collect).start(
        stage("loop", does="step", jump_targets=["loop"]), stage("end", "loop", does="collect")
    )
    seen = story.run().outputs("end")["seen"]

    assert seen == {"number": NEAR + 20, **{f"pass{at}": at for at in range(1, NEAR + 21)}}
