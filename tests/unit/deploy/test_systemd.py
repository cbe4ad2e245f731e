"""The systemd units run what there is, stop warm, and have few rights."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest

from tests.unit.deploy.commands import check_command

FOLDER = Path(__file__).parents[3] / "deploy/systemd"
UNITS = sorted(FOLDER.glob("*.service"))


def read(file: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(file)
    return parser


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_what_a_unit_runs_exists(file: Path) -> None:
    """The module or the command, with its options."""
    check_command(shlex.split(read(file)["Service"]["ExecStart"]))


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_a_unit_stops_warm_and_comes_back(file: Path) -> None:
    """SIGTERM to the main process alone: Celery tells its children; the time that tasks need."""
    service = read(file)["Service"]

    assert (service["KillMode"], service["KillSignal"], service["Restart"]) == ("mixed", "SIGTERM", "always")
    assert service["TimeoutStopSec"] == ("15min" if "tasks" in file.name else service["TimeoutStopSec"])
    assert "REMAP_SIGTERM" not in service["Environment"]


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_a_unit_has_few_rights(file: Path) -> None:
    """A user of its own; nothing of the system is written; passwords stand in a file, not in the unit."""
    service = read(file)["Service"]

    assert service["User"] == "stabilize"
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    assert service["EnvironmentFile"].startswith("/etc/")
    assert read(file)["Install"]["WantedBy"] == "stabilize.target"


def test_all_belong_to_the_target() -> None:
    """It starts and stops them together."""
    assert len(UNITS) == 3
    assert all(read(file)["Unit"]["PartOf"] == "stabilize.target" for file in UNITS)
    assert read(FOLDER / "stabilize.target")["Install"]["WantedBy"] == "multi-user.target"
