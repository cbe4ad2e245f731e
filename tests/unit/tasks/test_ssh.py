"""The ssh task, with a program in the place of ssh that tells how it was called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stabilize_celery import SSHTask
from stabilize_celery.errors import ContextError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus

TELLS = '#!/bin/sh\nfor one in "$@"; do echo "$one"; done\necho careful >&2\nexit ${CODE:-0}\n'


@pytest.fixture(autouse=True)
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, the first on PATH."""
    program = tmp_path / "ssh"
    program.write_text(TELLS)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return program


def run(**context: Any) -> TaskResult:
    return SSHTask().execute(StageExecution(ref_id="s", context={"host": "web1", "command": "uptime", **context}))


def test_a_command_is_run_on_a_host() -> None:
    """Without a terminal and without a question; what it printed is the outputs."""
    done = run()

    assert done.status is WorkflowStatus.SUCCEEDED
    assert done.outputs["stdout"].splitlines() == [
        *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
        *("--", "web1", "uptime"),
    ]
    assert {**done.outputs, "stdout": ""} == {
        "stdout": "",
        "stderr": "careful",
        "exit_code": 0,
        "host": "web1",
        "user": "",
    }


def test_what_is_set_is_given_to_ssh() -> None:
    """User, port, key, and whether any host will do."""
    words = run(user="deploy", port=2222, key_file="/k", strict_host_key=False, connect_timeout=3).outputs["stdout"]

    assert "deploy@web1" in words.splitlines()
    assert "-p\n2222" in words
    assert "-i\n/k" in words
    assert "StrictHostKeyChecking=no" in words
    assert "ConnectTimeout=3" in words


@pytest.mark.parametrize(
    ("code", "told"),
    [("3", "the command on web1 ended with exit code 3: careful"), ("255", "ssh to web1 failed: careful")],
)
def test_a_failure_keeps_its_outputs_and_says_whose_it_was(
    monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    """The command's, or that of the connection; the pipeline may go on all the same."""
    monkeypatch.setenv("CODE", code)
    ended, borne = run(), run(continue_on_failure=True)

    assert (ended.status, ended.context["error"]) == (WorkflowStatus.TERMINAL, told)
    assert (borne.status, borne.outputs["exit_code"]) == (WorkflowStatus.FAILED_CONTINUE, int(code))


def test_a_command_that_takes_too_long_is_given_up(ssh: Path) -> None:
    ssh.write_text("#!/bin/sh\nexec sleep 30\n")

    assert run(timeout=0.2).context["error"] == "the command on web1 timed out after 0.2 s"


@pytest.mark.parametrize(
    "wrong", [{"host": "-oProxyCommand=evil"}, {"host": "a b"}, {"host": ""}, {"user": "-l"}, {"command": ""}]
)
def test_what_ssh_could_take_for_an_option_is_refused(wrong: dict[str, Any]) -> None:
    """Before anything is started."""
    with pytest.raises(ContextError, match=f"`{next(iter(wrong))}` must be"):
        run(**wrong)


def test_a_worker_without_ssh_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))

    assert "ssh can't be started on this worker" in run().context["error"]
