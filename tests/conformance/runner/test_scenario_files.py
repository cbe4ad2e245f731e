"""A file that is not of the format is refused with one error that says where."""

import json
from pathlib import Path
from typing import Any

import pytest

from stabilize_celery.testing.conformance.scenario import ScenarioFileError, load_scenarios
from stabilize_celery.testing.conformance.steps import Step, compile_steps


def file_of(folder: Path, **changes: Any) -> Path:
    stage = {"ref_id": "A", "type": "script", "tasks": [{"name": "t", "does": ["succeed"]}]}
    stage |= changes.pop("stage", {})
    scenario: dict[str, Any] = {
        "id": "one",
        "pattern": 1,
        "title": "One",
        "workflows": [{"name": "main", "stages": [stage]}],
        "expect": {"status": "SUCCEEDED"},
    }
    path = folder / "scenarios.json"
    path.write_text(json.dumps({"format": 1, "scenarios": [scenario | changes]}))
    return path


def test_a_file_of_the_format_is_read(tmp_path: Path) -> None:
    """Remarks beside the title are no fault."""
    (scenario,) = load_scenarios(file_of(tmp_path, note="a remark", also=[2]))

    assert scenario.main.stage("A") is not None


def test_a_file_says_how_long_it_is_silent(tmp_path: Path) -> None:
    """A runner on real workers takes silence for the end: it must know of the longest sleep and the latest choice."""
    sleeper = {
        "choose_after": 7,
        "tasks": [{"name": "t", "does": [{"sleep": 2}, {"if": "True", "do": [{"sleep": 900}]}]}],
    }
    (scenario,) = load_scenarios(file_of(tmp_path, stage=sleeper))
    (hasty,) = load_scenarios(file_of(tmp_path))

    assert (scenario.longest_choice, scenario.longest_sleep) == (7, 900)
    assert (hasty.longest_choice, hasty.longest_sleep) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"expect": {"statsu": "SUCCEEDED"}}, "statsu"),
        ({"expect": {"runs": {"B": 1}}}, "no stage 'B'"),
        ({"expect": {"order": [["A#1", "other/A"]]}}, "no stage 'other/A'"),
        ({"expect": {"workflows": {"other": {}}}}, "'other'"),
        ({"stage": {"join_tpye": "AND"}}, "join_tpye"),
        ({"stage": {"tasks": [{"name": "t", "does": ["sleep"]}]}}, "'sleep' is not an action"),
        ({"stage": {"tasks": [{"name": "t", "does": [{"sleep": -1}]}]}}, "is not an action"),
        ({"events": [{"when": {"held": "A", "tick": 1}, "do": {"choose": "A"}}]}, "tick and held"),
        ({"events": [{"when": {"held": "A"}, "do": {"signal": "go"}}]}, "signal needs a stage"),
        ({"events": [{"when": {"event": "x"}, "do": {"choose": "A"}}]}, "event 'x'"),
        ({"workflows": []}, "needs a workflow"),
        ({"evnets": []}, "evnets"),
    ],
)
def test_a_mistake_is_one_clear_error(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    """The error names the file and the mistake."""
    with pytest.raises(ScenarioFileError, match=r"scenarios\.json") as caught:
        load_scenarios(file_of(tmp_path, **changes))

    assert told in str(caught.value)


def test_a_place_inside_an_if_is_one_number() -> None:
    """Actions are flat: behind an `if` that is false the next action outside of it follows."""
    steps = compile_steps([{"if": "x", "do": [{"sleep": 1}, {"if": "y", "do": ["fail"]}]}, "succeed"])

    assert steps == (Step("if", "x", 4), Step("sleep", 1), Step("if", "y", 4), Step("fail"), Step("succeed"))
