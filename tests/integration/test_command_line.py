"""The command line with real workers: the embedded server, `worker`, `start --wait`, `demo`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.fleet import eventually

pytestmark = pytest.mark.real

APP = """\
from celery import Celery
from stabilize_celery import Stabilize, TaskResult

app = Celery("plain"{broker})
stabilize = Stabilize(app)


@stabilize.task("double")
def double(stage):
    return TaskResult.success(outputs={{"n": 2 * stage.context["n"]}})


@stabilize.task("fail")
def fail(stage):
    return TaskResult.terminal(error="card declined")
"""
PIPELINE = """\
application: tests
name: doubled
stages:
  - {ref_id: a, tasks: [{name: double, implementing_class: double}]}
"""


class Shell:
    """Runs the program in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        left_out = ("STABILIZE_", "CELERY_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "stabilize_celery", *arguments]
        with (self.folder / f"log{len(self.processes)}").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=log, stderr=log, text=True, start_new_session=True
            )
        self.processes.append(process)
        return process

    def log(self, number: int = 0) -> str:
        return (self.folder / f"log{number}").read_text()

    def run(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "stabilize_celery", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    try:
        yield shell
    finally:
        shell.stop()


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                found.append(" ".join(process.cmdline()))
    return found


def test_without_any_server_a_worker_brings_its_own(shell: Shell) -> None:
    """The app names no broker: `worker` starts the embedded server, `start` finds it, and it ends with the worker."""
    (shell.folder / "plain.py").write_text(APP.format(broker=""))
    (shell.folder / "p.yaml").write_text(PIPELINE)
    shell.env["STABILIZE_HOME"] = str(shell.folder / "home")
    worker = shell.start("worker", "-A", "plain", "-c", "1")
    eventually(lambda: " ready." in shell.log())

    told = shell.run("start", "p.yaml", "--set", "n=21", "--wait")
    worker.terminate()

    assert "SUCCEEDED" in told
    assert worker.wait(30) == 0
    assert "Started an embedded" in shell.log()
    eventually(lambda: processes_of(shell.folder) == [] or None)


def test_an_app_that_names_its_broker_is_served_as_it_is(shell: Shell, redis_url: str) -> None:
    """Nobody gave a URL to the command, but the app has one: no embedded server beside it."""
    (shell.folder / "plain.py").write_text(APP.format(broker=f', broker="{redis_url}"'))
    (shell.folder / "p.yaml").write_text(PIPELINE.replace("double}", "fail}"))
    worker = shell.start("worker", "-A", "plain", "-c", "1", "--loglevel", "INFO")
    eventually(lambda: " ready." in shell.log())
    shell.env["STABILIZE_REDIS_URL"] = redis_url

    told = shell.run("start", "p.yaml", "--wait", code=1)
    worker.terminate()

    assert worker.wait(30) == 0
    assert "embedded" not in shell.log()
    assert "card declined" in told


def test_an_app_that_names_no_broker_takes_the_one_that_is_given(shell: Shell, redis_url: str) -> None:
    """Workers listen where producers with the same URL send to."""
    (shell.folder / "plain.py").write_text(APP.format(broker=""))
    (shell.folder / "p.yaml").write_text(PIPELINE)
    shell.env["STABILIZE_REDIS_URL"] = redis_url
    worker = shell.start("worker", "-A", "plain", "-c", "1", "--pool", "solo")
    eventually(lambda: " ready." in shell.log())

    told = shell.run("start", "p.yaml", "--set", "n=21", "--wait")
    worker.terminate()

    assert "SUCCEEDED" in told
    assert worker.wait(30) == 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_ctrl_c_ends_a_worker_warm_and_is_no_failure(shell: Shell, redis_url: str, pool: str) -> None:
    """As SIGTERM does; Celery's own exit code would be 1."""
    (shell.folder / "plain.py").write_text(APP.format(broker=""))
    worker = shell.start("worker", "-A", "plain", "-c", "1", "--pool", pool, "--redis-url", redis_url)
    eventually(lambda: " ready." in shell.log())
    os.killpg(worker.pid, signal.SIGINT)

    assert worker.wait(30) == 0
    assert "Warm shutdown" in shell.log()
    assert "Traceback" not in shell.log()


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["the command", "all in the terminal"])
def test_an_interrupted_worker_ends_its_own_server(shell: Shell, send: Callable[[int, int], None]) -> None:
    """Whether the signal came from a terminal, which tells the worker beside the command, too, or from a supervisor."""
    (shell.folder / "plain.py").write_text(APP.format(broker=""))
    shell.env["STABILIZE_HOME"] = str(shell.folder / "home")
    worker = shell.start("worker", "-A", "plain", "-c", "1", "--pool", "solo")
    eventually(lambda: " ready." in shell.log())
    send(worker.pid, signal.SIGINT)

    assert worker.wait(30) == 0
    assert processes_of(shell.folder) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small source tree with one file that does not parse."""
    source = tmp_path / "source"
    for number in range(4):
        package = source / f"package{number}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("def f():\n    return 1\n" * 20)
    (source / "package0" / "broken.py").write_text("def f(:\n")
    return source


def test_the_demo_leaves_a_report_and_no_process(shell: Shell, tree: Path) -> None:
    """It ends with what was done and three things to try next; the commands work as they are printed."""
    shell.env["STABILIZE_HOME"] = str(shell.folder / "home")
    told = shell.run("demo", "--path", str(tree), "--workers", "1")

    assert "✔ audit of 4 packages, 5 files" in told
    assert "1 file did not parse" in told
    assert "for 4 stages and 4 instances" in told
    assert "rank started once" in told
    assert (shell.folder / "demo-output" / "report.html").exists()
    assert processes_of(shell.folder) == []
    watch, why, guide = told.splitlines()[-3:]
    assert "rank" in shell.run(*pasted(watch))
    assert "has ended" in shell.run(*pasted(why))
    assert guide.split("  ")[-1].strip() == "your own pipeline in 15 lines"


def pasted(line: str) -> list[str]:
    """Return the arguments of the command in one of the demo's last lines, without the words beside it."""
    command, _, about = line.partition("stabilize_celery ")[2].partition("   ")
    assert about
    return command.split()


def test_without_a_place_of_its_own_the_demo_keeps_its_state_beside_the_report(shell: Shell, tree: Path) -> None:
    """Where no data folder can be made, the commands name the one that there is."""
    (shell.folder / "file").write_text("")
    shell.env["STABILIZE_HOME"] = str(shell.folder / "file" / "home")

    told = shell.run("demo", "--path", str(tree), "--workers", "1", "--processes", "1")

    assert "rank" in shell.run(*pasted(told.splitlines()[-3]))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_stops_what_it_started(shell: Shell, number: signal.Signals, code: int) -> None:
    """Workers and server end with it, whoever ends it."""
    shell.env["STABILIZE_HOME"] = str(shell.folder / "home")
    demo = shell.start("demo", "--workers", "1", "--processes", "1")
    eventually(lambda: "list" in shell.log().partition("logs")[2])
    demo.send_signal(number)

    assert demo.wait(40) == code
    deadline = time.monotonic() + 10
    while processes_of(shell.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(shell.folder) == []


def test_a_demo_of_nothing_says_so(shell: Shell) -> None:
    (shell.folder / "empty").mkdir()

    shell.run("demo", "--path", "empty", code=2)
    shell.run("demo", "--path", "missing", code=2)
