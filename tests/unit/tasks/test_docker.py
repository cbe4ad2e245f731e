"""The docker task, with a program in the place of docker that tells how it was called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stabilize_celery import DockerTask
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus

TELLS = """#!/bin/sh
echo "$@" >> "$CALLS"
[ "$1" = version ] && exit ${VERSION_CODE:-0}
[ "$1" = kill ] && exit 0
for one in "$@"; do echo "$one"; done
echo careful >&2
[ "$1" = build ] && echo Successfully built 0123456789ab
[ -n "$SLEEP" ] && sleep "$SLEEP"
exit ${CODE:-0}
"""


@pytest.fixture(autouse=True)
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, the first on PATH; the file of its calls."""
    program = tmp_path / "docker"
    program.write_text(TELLS)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def run(**context: Any) -> TaskResult:
    return DockerTask().execute(StageExecution(ref_id="s", context=context))


def test_a_container_is_run_with_what_is_set() -> None:
    """Options before the image, the command behind it, word by word."""
    done = run(
        image="alpine", command="sh -c 'echo $HOME; id'", name="one", environment={"A": "b c"}, volumes=["/x:/y"],
        ports=["80:80"], workdir="/w", memory="1g", cpus=0.5, read_only=True, ulimit={"nofile": 9}, entrypoint=["/e"],
    )  # fmt: skip

    words = done.outputs["stdout"].splitlines()
    assert words[:5] == ["run", "--name", "one", "--rm", "--entrypoint"]
    assert words[-4:] == ["alpine", "sh", "-c", "echo $HOME; id"]
    for pair in (["-e", "A=b c"], ["-v", "/x:/y"], ["-p", "80:80"], ["-w", "/w"], ["--cpus", "0.5"]):
        assert pair in [words[at : at + 2] for at in range(len(words))]
    assert (done.status, done.outputs["stderr"], done.outputs["exit_code"]) == (WorkflowStatus.SUCCEEDED, "careful", 0)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"action": "exec", "name": "c", "command": ["ls", "-l"], "tty": True}, "exec -t c ls -l"),
        (
            {"action": "build", "tag": "t", "build_args": {"A": 1}, "no_cache": True},
            "build -t t --build-arg A=1 --no-cache .",
        ),
        ({"action": "pull", "image": "alpine"}, "pull alpine"),
        ({"action": "ps", "all": True}, "ps -a"),
        ({"action": "images"}, "images"),
        ({"action": "logs", "name": "c", "tail": 5}, "logs --tail 5 c"),
        ({"action": "stop", "name": "c"}, "stop c"),
        ({"action": "rm", "name": "c", "force": True}, "rm -f c"),
    ],
)
def test_each_action_has_its_arguments(context: dict[str, Any], words: str, calls: Path) -> None:
    assert run(**context).status is WorkflowStatus.SUCCEEDED
    assert calls.read_text().splitlines() == ["version", words]


def test_ids_are_outputs() -> None:
    """Of a container that goes on by itself, and of an image that was built."""
    assert len(run(image="a", detach=True).outputs["container_id"]) == 12
    assert run(action="build").outputs["image_id"] == "0123456789ab"


def test_a_failure_keeps_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERMINAL, or FAILED_CONTINUE where the pipeline shall go on."""
    monkeypatch.setenv("CODE", "3")

    ended, went_on = run(image="a"), run(image="a", continue_on_failure=True)

    assert ended.context["error"] == "Docker command failed with exit code 3: careful"
    assert (ended.status.name, ended.outputs["exit_code"]) == ("TERMINAL", 3)
    assert went_on.status is WorkflowStatus.FAILED_CONTINUE


def test_a_container_that_takes_too_long_is_killed_by_its_name(monkeypatch: pytest.MonkeyPatch, calls: Path) -> None:
    """Ending the docker program alone would leave it running; it has a name though none was given."""
    monkeypatch.setenv("SLEEP", "30")

    done = run(image="a", timeout=0.3)

    assert done.context["error"] == "Docker command timed out after 0.3s"
    started, killed = calls.read_text().splitlines()[1:]
    assert started.startswith("run --name stabilize-run-")
    assert killed == f"kill {started.split()[2]}"


@pytest.mark.parametrize(
    ("context", "says"),
    [
        ({"action": "fly"}, "Unsupported action 'fly'"),
        ({}, "'image' is required for run action"),
        ({"image": "--privileged"}, "must not begin with '-'"),
        ({"action": "exec", "name": "c"}, "'command' is required"),
        ({"image": "a", "privileged": True}, "allow_privileged"),
        ({"image": "a", "cap_add": ["CAP_SYS_ADMIN"]}, "allow_dangerous_capabilities"),
        ({"image": "a", "volumes": ["../etc:/x"]}, "traversal"),
        ({"image": "a", "volumes": ["data:/x"]}, "absolute"),
    ],
)
def test_what_is_missing_or_dangerous_is_refused(context: dict[str, Any], says: str, calls: Path) -> None:
    done = run(**context)

    assert done.status is WorkflowStatus.TERMINAL
    assert says in done.context["error"]
    assert not calls.exists()


def test_a_worker_without_docker_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a program that is missing nor a daemon that is away is a traceback."""
    monkeypatch.setenv("VERSION_CODE", "1")
    assert "Docker is not available" in run(image="a").context["error"]

    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert "Docker is not available" in run(image="a").context["error"]
