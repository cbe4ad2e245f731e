"""`stabilize-celery server`: an embedded Redis for programs that are not ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

pytestmark = pytest.mark.real

COMMAND = [sys.executable, "-m", "stabilize_celery", "server"]
ENV = {name: value for name, value in os.environ.items() if not name.startswith("STABILIZE_")}


def started(home: Path) -> tuple[subprocess.Popen[str], str]:
    """The command, and the URL that it tells."""
    command = [*COMMAND, "--home", str(home)]
    process = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    with process.stdout:
        name, _, url = process.stdout.readline().strip().partition("=")
    assert name == "export STABILIZE_REDIS_URL"
    return process, url


def test_it_runs_until_it_is_ended_and_keeps_what_it_holds(tmp_path: Path) -> None:
    """The line that it prints is for a shell; the next one finds what the first one was given."""
    first, url = started(tmp_path / "home")
    with redis.Redis.from_url(url) as client:
        client.set("kept", 1)
    first.send_signal(signal.SIGINT)
    assert first.wait(20) == 0
    second, url = started(tmp_path / "home")
    with redis.Redis.from_url(url) as client:
        found = client.get("kept")
    second.send_signal(signal.SIGTERM)

    assert second.wait(20) == 0
    assert found == b"1"


def test_ctrl_c_ends_it_while_somebody_listens(tmp_path: Path) -> None:
    """A terminal sends the signal to all that it runs; the server of the data folder ends in order all the same."""
    process, url = started(tmp_path / "home")
    with redis.Redis.from_url(url) as client, client.pubsub() as listening:
        client.set("kept", 1)
        listening.subscribe("news")
        os.killpg(process.pid, signal.SIGINT)

        assert process.wait(20) == 0
    assert not is_running(tmp_path / "home")


def is_running(home: Path) -> bool:
    """Whether a server holds the data folder."""
    told = json.loads((home / "server.json").read_text())
    return psutil.pid_exists(told["pid"])


def test_it_is_not_run_beside_a_server_that_is_given(tmp_path: Path) -> None:
    """The password of that one is not told."""
    given = ["--redis-url", "redis://:secret@localhost:1/0"]
    done = subprocess.run([*COMMAND, *given], env=ENV, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "configured already" in done.stderr
    assert "secret" not in done.stderr
