"""The ready-made `shell`: runs a command on the worker.

Who may submit a workflow may run commands on its workers. Where that is not wanted: `TaskRegistry.unregister("shell")`.
"""

import base64
import shlex
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from stabilize_celery.errors import TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.placeholders import fill, fill_shell, mask
from stabilize_celery.tasks.process import Command, Finished, run_command
from stabilize_celery.tasks.results import failed
from stabilize_celery.tasks.task import Task

__all__ = ["ShellTask"]

_DEFAULT_TIMEOUT_S = 60.0
_DEFAULT_MAX_OUTPUT = 1024 * 1024
_ERROR_TAIL = 2000
"""How much of stderr an error quotes (characters)."""


_SETTINGS = frozenset(
    {
        "binary",
        "command",
        "continue_on_failure",
        "cwd",
        "env",
        "expected_codes",
        "max_output_size",
        "restart_on_failure",
        "secrets",
        "shell",
        "stdin",
        "timeout",
    }
)
"""Keys that configure the task. `{timeout}` in a command is the command's own text, as upstream has it."""


@dataclass(frozen=True, slots=True)
class _Settings:
    command: Command
    expected_codes: frozenset[int]
    secrets: tuple[str, ...]
    binary: bool
    continue_on_failure: bool
    restart_on_failure: bool


class ShellTask(Task):
    """Runs `command`; succeeds when its exit code is one of `expected_codes`.

    Context: `command` (its `{key}` placeholders are filled from the context, but not with these settings; each is
    one word that the shell does not read as code), `timeout` (s, 60), `cwd`, `env`, `shell` (true: /bin/sh; a path:
    that shell; false: none, the command is split into words), `stdin`, `max_output_size` (bytes for each stream,
    1 MiB), `expected_codes` ([0]), `secrets` (context keys whose values are shown as `***`), `binary`,
    `continue_on_failure`, `restart_on_failure` (try again with back-off).

    Outputs: `stdout`, `stderr` (stripped), `returncode`, `truncated`; with `binary`, `stdout_b64` instead of `stdout`.
    A failed command's are kept, too.

    At the time limit, or when the task is canceled, the command's whole process group is ended. It does outlive a
    worker that is killed with SIGKILL.
    """

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        settings = _settings(stage)
        try:
            finished = run_command(settings.command)
        except (OSError, ValueError) as error:
            return TaskResult.terminal(mask(f"the command can't be started: {error}", settings.secrets))
        outputs = _outputs(finished, settings)
        problem = _problem(finished, settings)
        if problem is None:
            return TaskResult.success(outputs=outputs)
        if settings.restart_on_failure:
            raise TransientError(problem)
        return failed(problem, outputs, go_on=settings.continue_on_failure)


def _settings(stage: StageExecution) -> _Settings:
    inputs = InputReader(stage, "shell")
    codes = inputs.numbers("expected_codes")
    return _Settings(
        _command(inputs),
        frozenset({0}) if codes is None else codes,
        inputs.secret_values(),
        inputs.flag("binary"),
        inputs.flag("continue_on_failure"),
        inputs.flag("restart_on_failure"),
    )


def _command(inputs: InputReader) -> Command:
    argv, values = _argv(inputs)
    stdin = inputs.text("stdin")
    return Command(
        argv=argv,
        timeout_s=inputs.number("timeout", _DEFAULT_TIMEOUT_S, above_zero=True),
        max_output=int(inputs.number("max_output_size", _DEFAULT_MAX_OUTPUT)),
        cwd=inputs.text("cwd"),
        env={**inputs.text_mapping("env"), **values},
        stdin=None if stdin is None else stdin.encode(),
    )


def _argv(inputs: InputReader) -> tuple[list[str], dict[str, str]]:
    text = inputs.required_text("command")
    values = {key: value for key, value in inputs.context.items() if key not in _SETTINGS}
    shell = inputs.context.get("shell", True)
    if shell is False:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise inputs.refusal(f"`command` can't be split into words: {error}", "command") from None
        return [fill(word, values, lambda value, _: value) for word in words], {}
    if shell is not True and not isinstance(shell, str):
        raise inputs.wrong("shell", "true, false, or the path of a shell")
    script, variables = fill_shell(text, values)
    return ["/bin/sh" if shell is True else shell, "-c", script], variables


def _outputs(finished: Finished, settings: _Settings) -> dict[str, Any]:
    outputs: dict[str, Any] = {
        "stderr": _shown(finished.stderr, settings),
        "returncode": finished.returncode,
        "truncated": finished.truncated,
    }
    if settings.binary:
        outputs["stdout_b64"] = base64.b64encode(finished.stdout).decode("ascii")
    else:
        outputs["stdout"] = _shown(finished.stdout, settings)
    return outputs


def _shown(content: bytes, settings: _Settings) -> str:
    return mask(content.decode("utf-8", errors="replace").strip(), settings.secrets)


def _problem(finished: Finished, settings: _Settings) -> str | None:
    if finished.timed_out:
        headline = f"the command timed out after {settings.command.timeout_s:g} s; it and all it started were ended"
    elif finished.returncode in settings.expected_codes:
        return None
    elif finished.returncode < 0:
        headline = f"the command was ended by signal {-finished.returncode}"
    else:
        expected = ", ".join(str(code) for code in sorted(settings.expected_codes))
        headline = f"the command ended with exit code {finished.returncode}, expected {expected}"
    tail = _shown(finished.stderr, settings)[-_ERROR_TAIL:]
    return f"{headline}: {tail}" if tail else headline
