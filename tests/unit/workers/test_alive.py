"""The probe of a worker's life."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stabilize_celery.settings import Settings
from stabilize_celery.transport.upkeep import Upkeep
from tests.unit.runtime.world import World
from workers.alive import is_alive, main


def test_a_file_that_was_touched_lately_is_a_sign_of_life(tmp_path: Path) -> None:
    """One that is old, or not there, is none."""
    file = tmp_path / "alive"
    assert not is_alive(file, time.time())
    file.touch()

    assert is_alive(file, time.time())
    assert not is_alive(file, time.time() + 61)


def test_a_worker_touches_its_file_in_each_round_of_its_keeper(tmp_path: Path) -> None:
    """Whether or not Redis answers."""
    world, file = World(), tmp_path / "alive"
    upkeep = Upkeep(
        world.store,
        world.publisher,
        Settings(alive_file=str(file)),
        "w@h#1",
        None,  # type: ignore[arg-type]
        running=list,
        line=dict,
        time_limit_s=lambda _: None,
    )
    upkeep.keeper_round()

    assert is_alive(file, time.time())


def test_a_file_that_can_not_be_written_does_not_stop_the_keeper(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told; the work goes on."""
    world = World()
    world.keeper.give_back()
    world.begin("w1")
    world.owe("w1", "Run:t..0", due_ms=world.now_ms, pub=0)
    settings = Settings(alive_file=str(tmp_path / "no such folder" / "alive"))
    upkeep = Upkeep(
        world.store,
        world.publisher,
        settings,
        "w@h#1",
        None,  # type: ignore[arg-type]
        running=list,
        line=dict,
        time_limit_s=lambda _: None,
    )

    upkeep.keeper_round()

    assert [sent.task_id for sent in world.publisher.take("RunTask")] == ["w1/Run:t..0"]
    assert "STABILIZE_ALIVE_FILE can't be written" in caplog.text


def test_who_does_not_say_where_to_look_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2: the probe is set up wrongly."""
    monkeypatch.delenv("STABILIZE_ALIVE_FILE", raising=False)

    assert main() == 2
    assert "STABILIZE_ALIVE_FILE" in capsys.readouterr().err


def test_the_command_loads_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """It runs every few seconds beside a worker."""
    file = tmp_path / "alive"
    file.touch()
    code = (
        "import sys, workers.alive as alive; code = alive.main(); "
        "sys.exit(code or any(name.startswith(('stabilize', 'celery', 'redis')) for name in sys.modules))"
    )
    env = {**os.environ, "STABILIZE_ALIVE_FILE": str(file)}

    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0
