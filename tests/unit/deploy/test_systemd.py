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


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_a_unit_says_how_a_folder_of_payloads_is_opened(file: Path) -> None:
    """Nothing can be written otherwise; uncommented, the line is one of the service's."""
    opened = configparser.ConfigParser(interpolation=None)
    opened.read_string(file.read_text().replace("#ReadWritePaths", "ReadWritePaths"))

    assert opened["Service"]["ReadWritePaths"].startswith("/")


def test_workers_on_a_host_serve_their_metrics_at_ports_of_their_own() -> None:
    """All read the same file of settings, so the port stands in the unit: a second worker could not have it."""
    told = {
        file.name: word.partition("=")[2]
        for file in UNITS
        for word in read(file)["Service"]["Environment"].split()
        if word.startswith("STABILIZE_METRICS_PORT=")
    }
    tasks = told["stabilize-tasks@.service"]
    ports = [told["stabilize-control.service"], *(tasks.replace("%i", str(instance)) for instance in range(1, 10))]

    assert len(set(ports)) == 10
    assert all(1024 < int(port) < 65_536 for port in ports)


def test_all_belong_to_the_target() -> None:
    """It starts and stops them together."""
    assert len(UNITS) == 3
    assert all(read(file)["Unit"]["PartOf"] == "stabilize.target" for file in UNITS)
    assert read(FOLDER / "stabilize.target")["Install"]["WantedBy"] == "multi-user.target"
