"""The shell task against real processes."""

import base64
import contextlib
import os
import sys
import time
from pathlib import Path
from threading import Timer
from typing import Any

import psutil
import pytest

from stabilize_celery.errors import ContextError, TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.tasks.cancellation import CancellationToken, TaskCancelledError, bind_token
from stabilize_celery.tasks.shell import ShellTask
from tests.unit.tasks.support import stage_with

HOSTILE = 'x\'; echo broken; echo "$(echo run)" `echo run` \\ * $HOME'


def run(command: str, **context: Any) -> TaskResult:
    return ShellTask().execute(stage_with(command=command, **context))


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        # A zombie that its new parent has not reaped yet has ended, too.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        os.sched_yield()
    return not is_alive(pid)


def test_a_command_that_succeeds_gives_its_output() -> None:
    """Texts are stripped; the outputs are those that upstream programs read."""
    result = run("echo out; echo err >&2")

    assert result == TaskResult.success(
        {"stdout": "out", "stderr": "err", "returncode": 0, "truncated": False},
    )


def test_a_command_that_fails_says_how_and_keeps_its_output() -> None:
    """The reason has the exit code and the end of stderr."""
    result = run("echo half; echo no such thing >&2; exit 3")

    assert result.status is WorkflowStatus.TERMINAL
    assert result.context == {"error": "the command ended with exit code 3, expected 0: no such thing"}
    assert (result.outputs["stdout"], result.outputs["returncode"]) == ("half", 3)


@pytest.mark.parametrize(("code", "status"), [(0, "SUCCEEDED"), (1, "SUCCEEDED"), (2, "TERMINAL")])
def test_expected_codes_are_successes(code: int, status: str) -> None:
    """Tools such as grep say something with their exit code."""
    assert run(f"exit {code}", expected_codes=[0, 1]).status.name == status


def test_a_failure_may_let_the_pipeline_go_on() -> None:
    """With continue_on_failure the outputs go on, too."""
    result = run("exit 1", continue_on_failure=True)

    assert (result.status, result.outputs["returncode"]) == (WorkflowStatus.FAILED_CONTINUE, 1)


def test_a_failure_may_be_tried_again() -> None:
    """With restart_on_failure a failed command is a transient error."""
    with pytest.raises(TransientError, match="exit code 1"):
        run("exit 1", restart_on_failure=True)


def test_a_command_ended_by_a_signal_says_so() -> None:
    """A crash has no exit code."""
    assert run("kill -SEGV $$").context["error"].startswith("the command was ended by signal 11")


@pytest.mark.parametrize(
    "template", ["printf %s {x}", "printf %s '{x}'", 'printf %s "{x}"', 'printf %s "$(printf %s {x})"']
)
def test_a_placeholder_is_one_word_and_never_code(template: str) -> None:
    """Whatever quotes the template has, a hostile value arrives as it is."""
    assert run(template, x=HOSTILE).outputs["stdout"] == HOSTILE


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("printf %s a{x}b", "av wb"),
        ("# don't\nprintf %s {x}", "v w"),
        ("printf %s \\'{x}", "'v w"),
        ("printf '%s\n' \"it's\" {x}", "it's\nv w"),
        ("printf '%s' `printf %s '{x}' | tr -d ' '`", "vw"),
        ("printf %s '\\{x}'", "\\{x}"),
        ("echo {y} ${HOME:+{x}} | tr -d '\n'", "{y} v w"),
        ("echo a | awk '{print}'", "a"),
    ],
)
def test_placeholders_know_quotes_comments_and_the_shells_own_braces(template: str, printed: str) -> None:
    """Only identifiers that the context has are replaced, and each as one word."""
    assert run(template, x="v w").outputs["stdout"] == printed


@pytest.mark.parametrize("shell", [True, False])
def test_settings_of_the_task_are_no_placeholders(shell: bool) -> None:
    """What configures the command is no value for it: `{timeout}` is the command's own text."""
    told = run("echo {timeout} {cwd} {x}", shell=shell, timeout=5, cwd="/", x="v").outputs["stdout"]

    assert told == "{timeout} {cwd} v"


@pytest.mark.parametrize(("value", "printed"), [(5, "5"), (True, "true"), (None, ""), ([1, "a"], '[1, "a"]')])
def test_values_that_are_no_texts_are_written_as_json(value: Any, printed: str) -> None:
    """Numbers, lists and objects of upstream outputs can be used in commands."""
    assert run("printf %s {x}", x=value).outputs["stdout"] == printed


def test_a_value_does_not_show_in_the_process_list() -> None:
    """It travels in the environment, which other users can't read."""
    shown = f"{sys.executable} -c 'import os, psutil; print(psutil.Process(os.getppid()).cmdline())'; : {{x}}"

    told = run(shown, x="s3cret").outputs["stdout"]

    assert "getppid" in told
    assert "s3cret" not in told


def test_without_a_shell_words_are_arguments() -> None:
    """shell: false splits the command; a placeholder never makes two words of one."""
    result = run("printf '%s|' {x} '$HOME'", shell=False, x="a b; c")

    assert result.outputs["stdout"] == "a b; c|$HOME|"


def test_another_shell_can_be_named() -> None:
    """shell: a path."""
    assert run("echo ${0##*/}", shell="/bin/bash").outputs["stdout"] == "bash"


def test_a_shell_that_is_not_there_is_a_failure_with_a_reason() -> None:
    """Not an exception: trying again would not help."""
    result = run("true", shell="/no/such/shell")

    assert result.status is WorkflowStatus.TERMINAL
    assert result.context["error"].startswith("the command can't be started: ")


def test_folder_environment_and_stdin_are_the_stages(tmp_path: Path) -> None:
    """cwd, env (numbers become texts) and stdin reach the command."""
    result = run("pwd; echo $COUNT; cat", cwd=str(tmp_path), env={"COUNT": 3}, stdin="typed")

    assert result.outputs["stdout"] == f"{tmp_path}\n3\ntyped"


def test_a_large_stdin_that_nobody_reads_does_not_block() -> None:
    """A command need not read what it is given."""
    assert run("true", stdin="x" * 1_000_000).status is WorkflowStatus.SUCCEEDED


def test_output_beyond_the_limit_is_cut_and_marked() -> None:
    """Of stdout the beginning is kept, of stderr the end; the command is not held up."""
    result = run("seq 1 100000; seq 1 100000 >&2; echo last >&2", max_output_size=10)

    assert (result.outputs["stdout"], result.outputs["stderr"]) == ("1\n2\n3\n4\n5", "0000\nlast")
    assert (result.outputs["truncated"], result.outputs["returncode"]) == (True, 0)


def test_binary_output_is_base64() -> None:
    """Bytes can't be stored as text."""
    outputs = run("printf '\\377\\000'", binary=True).outputs

    assert base64.b64decode(outputs["stdout_b64"]) == b"\xff\x00"
    assert "stdout" not in outputs


def test_secrets_are_masked_wherever_they_would_show() -> None:
    """In stdout, in stderr, and in the error."""
    result = run("echo {token}; echo no {token} >&2; exit 1", token="s3cret", secrets=["token"])

    assert (result.outputs["stdout"], result.outputs["stderr"]) == ("***", "no ***")
    assert "s3cret" not in str(result)


def test_the_time_limit_ends_the_whole_process_group(tmp_path: Path) -> None:
    """Children in the background end with the command, also one that ignores SIGTERM."""
    pid_file = tmp_path / "pid"
    result = run(
        f"(trap '' TERM; echo $BASHPID > {pid_file}; sleep 60 & wait; sleep 60) & wait", shell="/bin/bash", timeout=0.5
    )

    assert result.context["error"].startswith("the command timed out after 0.5 s")
    assert wait_until_gone(int(pid_file.read_text(encoding="ascii")))


def test_a_cancellation_ends_the_command(tmp_path: Path) -> None:
    """The body stops with TaskCancelledError, and nothing is left running."""
    pid_file, token = tmp_path / "pid", CancellationToken()
    timer = Timer(0.3, token.cancel, ["workflow canceled"])
    timer.start()

    with bind_token(token), pytest.raises(TaskCancelledError, match="workflow canceled"):
        run(f"echo $$ > {pid_file}; sleep 60")

    timer.join()
    assert wait_until_gone(int(pid_file.read_text(encoding="ascii")))


def test_a_child_left_in_the_background_does_not_hold_the_task_up() -> None:
    """The command has ended when its own process has, though a child holds its output open."""
    started = time.monotonic()
    outputs = run("sleep 20 & echo $!").outputs

    assert time.monotonic() - started < 10
    assert is_alive(int(outputs["stdout"]))
    os.kill(int(outputs["stdout"]), 9)


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({}, "`command` must be a text that is not empty; it is missing"),
        ({"command": 3}, "`command` must be a text; not 3"),
        ({"command": "true", "timeout": 0}, "`timeout` must be a number above 0; not 0"),
        ({"command": "true", "timeout": "soon"}, "`timeout` must be a number above 0; not 'soon'"),
        ({"command": "true", "shell": 3}, "`shell` must be true, false, or the path of a shell; not 3"),
        ({"command": "it's", "shell": False}, "`command` can't be split into words"),
        ({"command": "true", "env": ["A"]}, "`env` must be names with values"),
        ({"command": "true", "expected_codes": "0"}, "`expected_codes` must be a whole number, or a list of them"),
        ({"command": "true", "secrets": "token"}, "`secrets` must be a list of texts"),
        ({"command": "true", "binary": "yes"}, "`binary` must be true or false"),
    ],
)
def test_wrong_settings_are_named(context: dict[str, Any], problem: str) -> None:
    """The error has the stage, the task, the key, what it must be, and what was found."""
    with pytest.raises(ContextError, match=f"stage 'a': shell task: {problem}"):
        ShellTask().execute(stage_with(**context))
