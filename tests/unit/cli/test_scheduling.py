"""`schedule`: each command on a real server, and with wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Program

STAGE = {"ref_id": "a", "type": "x", "name": "a", "tasks": [{"name": "t", "implementing_class": "t"}]}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"application": "shop", "name": "w", "stages": [STAGE]}))
    return str(path)


def test_a_schedule_is_added_shown_paused_resumed_and_removed(served: Program, file: str) -> None:
    added = served("schedule", "add", "nightly", file, "--cron", "0 3 * * *", "--timezone", "Europe/Berlin", "--json")
    assert (added.code, added.json["cron"], added.json["started"]) == (0, "0 3 * * *", 0)

    assert "nightly" in served("schedule", "list").out
    assert served("schedule", "add", "often", file, "--every", "1h30m", "--json").json["every_s"] == 5_400
    assert served("schedule", "show", "often").text.startswith("often: every 1h30m")
    assert served("schedule", "remove", "often").code == 0
    assert served("schedule", "show", "nightly").text.startswith("nightly: 0 3 * * * Europe/Berlin")
    assert served("schedule", "pause", "nightly").text == "Schedule nightly is paused"
    assert served("schedule", "list", "--json").json[0]["is_paused"] is True
    assert "paused" in served("schedule", "list").out
    again = served("schedule", "add", "nightly", file, "--cron", "0 3 * * *", "--timezone", "Europe/Berlin")
    assert again.text == "Schedule nightly is replaced, and stays paused: `stabilize-celery schedule resume nightly`"
    assert served("schedule", "resume", "nightly").text == "Schedule nightly goes on"
    assert served("schedule", "resume", "nightly").text == "Schedule nightly is not paused, and goes on as it did"
    assert served("schedule", "show", "nightly", "--json").json["next_ms"] == added.json["next_ms"]
    started = served("schedule", "start", "nightly", "--json").json["id"]
    assert served("status", started, "--json").json["name"] == "w"
    assert served("schedule", "remove", "nightly").code == 0
    assert served("schedule", "list").text == "There are no schedules."


def test_a_schedules_definition_hides_secrets_unless_they_are_asked_for(served: Program, tmp_path: Path) -> None:
    """In whatever shows it: being added, the list, the one."""
    secret = {"application": "shop", "name": "w", "stages": [{**STAGE, "context": {"api_key": "s-1", "host": "h"}}]}
    path = tmp_path / "secret.json"
    path.write_text(json.dumps(secret))
    added = served("schedule", "add", "nightly", str(path), "--every", "1h", "--json").json

    for options, shown in (((), "***"), (("--show-secrets",), "s-1")):
        listed = served("schedule", "list", "--json", *options).json[0]
        one = served("schedule", "show", "nightly", "--json", *options).json
        for found in (listed, one, *([] if options else [added])):
            assert found["definition"]["stages"][0]["context"] == {"api_key": shown, "host": "h"}


def test_a_name_of_two_lines_is_refused(served: Program, file: str) -> None:
    """Wherever schedules are listed it would look like two of them."""
    said = served("schedule", "add", "a\nb", file, "--every", "60")

    assert said.code == 2
    assert "NAME: must have no line breaks" in said.text
    assert served("schedule", "list").text == "There are no schedules."


@pytest.mark.parametrize("act", ["show", "pause", "resume", "start", "remove"])
def test_an_unknown_name_is_a_mistake(served: Program, file: str, act: str) -> None:
    served("schedule", "add", "other", file, "--every", "60")
    said = served("schedule", act, "nightly")

    assert said.code == 2
    assert "There is no schedule 'nightly'; `stabilize-celery schedule list` shows" in said.text


@pytest.mark.parametrize("act", ["show", "pause", "resume", "start", "remove"])
def test_a_misspelt_name_gets_the_right_one(served: Program, file: str, act: str) -> None:
    served("schedule", "add", "nightly", file, "--every", "60")

    said = served("schedule", act, "nightlie")

    assert (said.code, said.text) == (2, "There is no schedule 'nightlie'; did you mean 'nightly'?")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--cron", "99 * * * *"], "--cron: '99 * * * *' is not a cron expression"),
        ([], "Give --cron or --every, one of them"),
        (["--every", "5", "--cron", "0 3 * * *"], "Give --cron or --every, one of them"),
        (["--every", "0.1"], "--every: must be at least 1 s"),
        (["--every", "5", "--timezone", "Nowhere/Land"], "no time zone 'Nowhere/Land'"),
        (["--every", "5", "--missed", "maybe"], "'maybe' is not one of skip, once, all"),
    ],
)
def test_wrong_settings_are_told_and_nothing_is_added(
    served: Program, file: str, options: list[str], told: str
) -> None:
    said = served("schedule", "add", "nightly", file, *options)

    assert said.code == 2
    assert told in said.err
    assert "problem(s)" not in said.err
    assert "Traceback" not in said.err


def test_a_flaw_of_the_file_is_told_with_its_line(served: Program, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        "application: shop\nname: w\nstages:\n  - ref_id: a\n    type: x\n    requisite_stage_ref_ids: [b]\n"
    )
    said = served("schedule", "add", "nightly", str(path), "--every", "5")

    assert said.code == 2
    assert "line 6" in said.err
