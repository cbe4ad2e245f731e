"""The command: what it prints and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from stabilize_celery.testing.conformance.__main__ import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    def scenario(name: str, status: str) -> dict[str, Any]:
        stage = {"ref_id": "A", "type": "script", "tasks": [{"name": "t", "does": [{"sleep": 1}]}]}
        workflows = [{"name": "main", "stages": [stage]}]
        expect = {"status": status, "runs": {"A": 1}}
        return {"id": name, "pattern": 1, "title": name.title(), "workflows": workflows, "expect": expect}

    path = tmp_path / "scenarios.json"
    path.write_text(
        json.dumps({"format": 1, "scenarios": [scenario("good", "SUCCEEDED"), scenario("bad", "TERMINAL")]})
    )
    return path


def test_a_difference_is_told_and_counted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The failing scenario is named with its seed and what was seen; the count is the last line."""
    assert main([str(path), "--seeds", "2"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FAILED bad (seed 0): Bad"
    assert 'expected status "TERMINAL", saw SUCCEEDED' in lines[1]
    assert lines[-1] == "1 passed, 1 failed"


def test_a_scenario_can_be_run_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing failed the exit code is 0."""
    assert main([str(path), "--only", "good"]) == 0

    assert capsys.readouterr().out == "1 passed, 0 failed\n"


def test_everything_as_one_object(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints one object and nothing else."""
    assert main([str(path), "--json", "--seeds", "1"]) == 1

    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["failed"]) == (1, 1)
    assert [one["passed"] for one in told["scenarios"]] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "nobody"], "no file has the scenario 'nobody'"),
        (["--seeds", "0"], "at least 1"),
        (["missing.json"], "missing.json: No such file"),
    ],
)
def test_bad_usage_ends_with_2(path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    """A bad file or option is told on stderr, without a traceback."""
    assert main([str(path), *arguments]) == 2

    assert told in capsys.readouterr().err
