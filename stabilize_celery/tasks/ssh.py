"""A task that runs a command on another machine, by the worker's `ssh` program.

Not known to workers by itself, since it acts with their keys: `registry.register("ssh", SSHTask)`.
"""

import re
from typing import Any

from typing_extensions import override

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.process import Command, Finished, run_command
from stabilize_celery.tasks.results import failed
from stabilize_celery.tasks.task import Task

__all__ = ["SSHTask"]

_DEFAULT_TIMEOUT_S = 60.0
_DEFAULT_CONNECT_TIMEOUT_S = 10.0
_DEFAULT_MAX_OUTPUT = 10 * 1024 * 1024
_ERROR_TAIL = 2000
"""How much of stderr an error quotes (characters)."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*")
"""A host or a user: nothing that ssh could take for an option or for both in one."""
_SSH_FAILED = 255


class SSHTask(Task):
    """Runs `command` on `host`; succeeds when it ends with 0. Never asks for a password.

    Context: `host`, `command` (read by the shell there), `user`, `port` (22), `key_file`, `timeout` (s, 60),
    `connect_timeout` (s, 10), `strict_host_key` (true; false: a host's key may be any), `max_output_size` (bytes for
    each stream, 10 MiB), `continue_on_failure`.

    Outputs: `stdout`, `stderr` (stripped), `exit_code`, `host`, `user`; those of a failed command are kept, too.

    At the time limit, or when the task is canceled, ssh is ended; what it has begun on the host may go on there.
    """

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        inputs = InputReader(stage, "ssh")
        go_on = inputs.flag("continue_on_failure")
        command = _command(inputs)
        try:
            finished = run_command(command)
        except OSError as error:
            return TaskResult.terminal(f"ssh can't be started on this worker: {error}")
        outputs = _outputs(inputs, finished)
        problem = _problem(inputs, finished, command.timeout_s)
        return TaskResult.success(outputs=outputs) if problem is None else failed(problem, outputs, go_on=go_on)


def _command(inputs: InputReader) -> Command:
    host, user = _name(inputs, "host"), _name(inputs, "user") if inputs.text("user") else ""
    command = inputs.required_text("command")
    connect_s = max(1, round(inputs.number("connect_timeout", _DEFAULT_CONNECT_TIMEOUT_S, above_zero=True)))
    argv = ["ssh", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={connect_s}"]
    if not inputs.flag("strict_host_key", default=True):
        argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    if port := int(inputs.number("port", 0)):
        argv += ["-p", str(port)]
    if key_file := inputs.text("key_file"):
        argv += ["-i", key_file]
    return Command(
        argv=[*argv, "--", f"{user}@{host}" if user else host, command],
        timeout_s=inputs.number("timeout", _DEFAULT_TIMEOUT_S, above_zero=True),
        max_output=int(inputs.number("max_output_size", _DEFAULT_MAX_OUTPUT)),
        env={},
    )


def _name(inputs: InputReader, key: str) -> str:
    found = inputs.required_text(key)
    if _NAME.fullmatch(found) is None:
        raise inputs.wrong(key, f"the name of a {key}: letters, digits, '_', '.', ':', '%' and '-'")
    return found


def _outputs(inputs: InputReader, finished: Finished) -> dict[str, Any]:
    texts = {"stdout": finished.stdout, "stderr": finished.stderr}
    shown = {name: content.decode("utf-8", errors="replace").strip() for name, content in texts.items()}
    place = {name: inputs.text(name) or "" for name in ("host", "user")}
    return {**shown, "exit_code": finished.returncode, **place}


def _problem(inputs: InputReader, finished: Finished, timeout_s: float) -> str | None:
    if finished.timed_out:
        headline = f"the command on {inputs.text('host')} timed out after {timeout_s:g} s"
    elif finished.returncode == 0:
        return None
    elif finished.returncode == _SSH_FAILED:
        headline = f"ssh to {inputs.text('host')} failed"
    else:
        headline = f"the command on {inputs.text('host')} ended with exit code {finished.returncode}"
    tail = finished.stderr.decode("utf-8", errors="replace").strip()[-_ERROR_TAIL:]
    return f"{headline}: {tail}" if tail else headline
