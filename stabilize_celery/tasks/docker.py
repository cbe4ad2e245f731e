"""A task that runs the worker's `docker` program: containers and images, by lists of arguments and never by a shell.

Not known to workers by itself, since it acts with their rights: `registry.register("docker", DockerTask)`.
"""

import contextlib
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

from typing_extensions import override

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.cancellation import TaskCancelledError
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.process import Command, Finished, run_command
from stabilize_celery.tasks.results import failed
from stabilize_celery.tasks.task import Task

__all__ = ["DockerTask"]

_DEFAULT_TIMEOUT_S = 4 * 3600.0
_ASIDE_TIMEOUT_S = 30.0
"""How long looking for docker, and killing a container, may take (s)."""
_DEFAULT_MAX_OUTPUT = 10 * 1024 * 1024
_ERROR_TAIL = 2000
"""How much of stderr an error quotes (characters)."""
_ID_LENGTH = 12
_DANGEROUS = frozenset(
    {"ALL", "DAC_READ_SEARCH", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"}
)
"""Capabilities with which a container can leave its walls."""
_NOT_THERE = "Docker is not available. Ensure Docker is installed and running"

_FLAGS = {"stdin_open": "-i", "tty": "-t", "read_only": "--read-only", "init": "--init"}
_VALUES = {
    "user": "--user",
    "hostname": "--hostname",
    "memory": "--memory",
    "memory_swap": "--memory-swap",
    "cpus": "--cpus",
    "gpus": "--gpus",
    "shm_size": "--shm-size",
    "platform": "--platform",
    "pull": "--pull",
    "restart": "--restart",
    "workdir": "-w",
    "network": "--network",
}
_LISTS = {
    "cap_add": "--cap-add",
    "cap_drop": "--cap-drop",
    "tmpfs": "--tmpfs",
    "security_opt": "--security-opt",
    "dns": "--dns",
    "extra_hosts": "--add-host",
    "volumes": "-v",
    "ports": "-p",
}
_PAIRS = {"ulimit": "--ulimit", "labels": "--label", "environment": "-e"}


class DockerTask(Task):
    """Runs one `action` of the docker program; succeeds when that ends with 0.

    Context: `action` (`run` by default; `exec`, `build`, `pull`, `ps`, `images`, `logs`, `stop`, `rm`), `timeout`
    (s, 4 h), `continue_on_failure`, `max_output_size` (bytes for each stream, 10 MiB), and by action

    - run: `image`, `command` (a text or a list), `name`, `remove` (true), `detach`, `entrypoint`, `environment`,
      `volumes` (absolute host paths), `ports`, `workdir`, `network`, `user`, `hostname`, `memory`, `memory_swap`,
      `cpus`, `gpus`, `shm_size`, `tmpfs`, `read_only`, `security_opt`, `ulimit`, `labels`, `dns`, `extra_hosts`,
      `init`, `platform`, `pull`, `restart`, `stdin_open`, `tty`, `cap_drop`, `cap_add` (some need
      `allow_dangerous_capabilities`), `privileged` (needs `allow_privileged`);
    - exec: `name`, `command`, `workdir`, `environment`, `interactive`, `tty`;
    - build: `tag`, `dockerfile`, `context` (`.`), `build_args`, `no_cache`;
    - pull: `image`; ps: `all`; logs: `name`, `tail`, `follow`; stop: `name`; rm: `name`, `force`.

    Outputs: `stdout`, `stderr` (stripped), `exit_code`, `truncated`; `container_id` of a detached run, `image_id` of a
    build. Those of a failed command are kept, too.

    At the time limit, or when the task is cancelled, a container that was run is killed by its name.
    """

    SUPPORTED_ACTIONS = frozenset({"run", "exec", "build", "pull", "ps", "images", "logs", "stop", "rm"})

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        inputs = InputReader(stage, "docker")
        action = inputs.text("action", "run") or "run"
        if action not in self.SUPPORTED_ACTIONS:
            known = ", ".join(sorted(self.SUPPORTED_ACTIONS))
            return TaskResult.terminal(f"Unsupported action {action!r}; supported are {known}")
        settings = dict(stage.context)
        if action == "run":
            # Without a name nothing could kill it: it outlives the program that started it.
            settings["name"] = settings.get("name") or f"stabilize-run-{uuid4().hex[:12]}"
        try:
            argv = self._build_command(action, settings)
        except ValueError as error:
            return TaskResult.terminal(str(error))
        if (problem := _no_docker()) is not None:
            return TaskResult.terminal(problem)
        return _execute(inputs, action, settings, argv)

    def _build_command(self, action: str, context: Mapping[str, Any]) -> list[str]:
        """Return the arguments of an action. Raises ValueError: a setting is missing or refused."""
        builders: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
            "run": self._build_run_command,
            "exec": self._build_exec_command,
            "build": self._build_build_command,
            "logs": self._build_logs_command,
        }
        if action in builders:
            return builders[action](context)
        argv = ["docker", action]
        if action == "ps" and context.get("all"):
            argv.append("-a")
        if action == "rm" and context.get("force"):
            argv.append("-f")
        needed = {"pull": "image", "stop": "name", "rm": "name"}.get(action)
        return [*argv, _needed(context, needed, action)] if needed else argv

    def _build_run_command(self, context: Mapping[str, Any]) -> list[str]:
        """Return the arguments of `docker run`. Raises ValueError."""
        image = _needed(context, "image", "run")
        _check_rights(context)
        _check_volumes(context.get("volumes") or ())
        argv = ["docker", "run"]
        if context.get("name"):
            argv += ["--name", _word(context, "name")]
        if context.get("remove", True):
            argv.append("--rm")
        if context.get("detach"):
            argv.append("-d")
        if context.get("privileged"):
            argv.append("--privileged")
        if entrypoint := context.get("entrypoint"):
            argv += ["--entrypoint", str(entrypoint if isinstance(entrypoint, str) else entrypoint[0])]
        return [*argv, *_options(context), image, *_words(context.get("command"))]

    def _build_exec_command(self, context: Mapping[str, Any]) -> list[str]:
        """Return the arguments of `docker exec`. Raises ValueError."""
        name = _needed(context, "name", "exec")
        if not context.get("command"):
            raise ValueError("'command' is required for exec action")
        argv = ["docker", "exec"]
        argv += [flag for key, flag in {"interactive": "-i", "tty": "-t"}.items() if context.get(key)]
        if context.get("workdir"):
            argv += ["-w", str(context["workdir"])]
        argv += _pairs("-e", context.get("environment") or {})
        return [*argv, name, *_words(context["command"])]

    def _build_build_command(self, context: Mapping[str, Any]) -> list[str]:
        """Return the arguments of `docker build`. Raises ValueError."""
        argv = ["docker", "build"]
        if context.get("tag") or context.get("image"):
            argv += ["-t", _word(context, "tag" if context.get("tag") else "image")]
        if context.get("dockerfile"):
            argv += ["-f", str(context["dockerfile"])]
        argv += _pairs("--build-arg", context.get("build_args") or {})
        if context.get("no_cache"):
            argv.append("--no-cache")
        return [*argv, _word({"context": context.get("context") or "."}, "context")]

    def _build_logs_command(self, context: Mapping[str, Any]) -> list[str]:
        """Return the arguments of `docker logs`. Raises ValueError."""
        argv = ["docker", "logs"]
        if context.get("follow"):
            argv.append("-f")
        if context.get("tail"):
            argv += ["--tail", str(context["tail"])]
        return [*argv, _needed(context, "name", "logs")]


# -- arguments ---------------------------------------------------------------------------------------------------------


def _options(context: Mapping[str, Any]) -> list[str]:
    argv = [flag for key, flag in _FLAGS.items() if context.get(key)]
    for key, flag in _VALUES.items():
        if context.get(key):
            argv += [flag, str(context[key])]
    for key, flag in _LISTS.items():
        for value in context.get(key) or ():
            argv += [flag, str(value)]
    for key, flag in _PAIRS.items():
        argv += _pairs(flag, context.get(key) or {})
    return argv


def _pairs(flag: str, pairs: Mapping[str, Any]) -> list[str]:
    return [word for name, value in pairs.items() for word in (flag, f"{name}={value}")]


def _words(command: Any) -> list[str]:
    if not command:
        return []
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]


def _needed(context: Mapping[str, Any], key: str, action: str) -> str:
    if not context.get(key):
        raise ValueError(f"'{key}' is required for {action} action")
    return _word(context, key)


def _word(context: Mapping[str, Any], key: str) -> str:
    """Return a value that stands alone among the arguments: it can't be taken for an option."""
    word = str(context[key])
    if word.startswith("-"):
        raise ValueError(f"'{key}' must not begin with '-': {word!r} would be an option of docker")
    return word


def _check_rights(context: Mapping[str, Any]) -> None:
    if context.get("privileged") and not context.get("allow_privileged"):
        raise ValueError(
            "Privileged mode requires 'allow_privileged: true' in context: such a container can do anything on its host"
        )
    for capability in context.get("cap_add") or ():
        if str(capability).upper().removeprefix("CAP_") in _DANGEROUS and not context.get(
            "allow_dangerous_capabilities"
        ):
            raise ValueError(
                f"Capability '{capability}' is dangerous and requires 'allow_dangerous_capabilities: true' in context"
            )


def _check_volumes(volumes: Any) -> None:
    for volume in volumes:
        host = str(volume).partition(":")[0]
        if ".." in host.split("/"):
            raise ValueError(f"Volume mount path traversal blocked: {volume}")
        if not PurePosixPath(host).is_absolute():
            raise ValueError(f"Volume host path must be absolute: {volume}")


# -- running -----------------------------------------------------------------------------------------------------------


def _no_docker() -> str | None:
    """Return what keeps docker from working on this worker; None: nothing does."""
    try:
        finished = _aside(["docker", "version"])
    except OSError as error:
        return f"{_NOT_THERE} ({error})"
    if finished.timed_out or finished.returncode:
        return f"{_NOT_THERE} ({_tail(finished) or f'docker version ended with {finished.returncode}'})"
    return None


def _aside(argv: list[str]) -> Finished:
    return run_command(Command(argv=argv, timeout_s=_ASIDE_TIMEOUT_S, max_output=_DEFAULT_MAX_OUTPUT, env={}))


def _execute(inputs: InputReader, action: str, settings: Mapping[str, Any], argv: list[str]) -> TaskResult:
    go_on = inputs.flag("continue_on_failure")
    timeout_s = inputs.number("timeout", _DEFAULT_TIMEOUT_S, above_zero=True)
    max_output = int(inputs.number("max_output_size", _DEFAULT_MAX_OUTPUT))
    try:
        finished = run_command(Command(argv=argv, timeout_s=timeout_s, max_output=max_output, env={}))
    except TaskCancelledError:
        _kill(action, settings)
        raise
    outputs = _outputs(action, settings, finished)
    if finished.timed_out:
        _kill(action, settings)
        return failed(f"Docker command timed out after {timeout_s:g}s", outputs, go_on=go_on)
    if finished.returncode:
        tail = _tail(finished)
        problem = f"Docker command failed with exit code {finished.returncode}"
        return failed(f"{problem}: {tail}" if tail else problem, outputs, go_on=go_on)
    return TaskResult.success(outputs=outputs)


def _kill(action: str, settings: Mapping[str, Any]) -> None:
    """Kill the container that was run: ending the docker program does not end it."""
    if action == "run":
        # The task may be cancelled already: not by `run_command`, which would end at once.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            argv = ["docker", "kill", str(settings["name"])]
            subprocess.run(argv, capture_output=True, timeout=_ASIDE_TIMEOUT_S, check=False)  # noqa: S603


def _tail(finished: Finished) -> str:
    return finished.stderr.decode("utf-8", errors="replace").strip()[-_ERROR_TAIL:]


def _outputs(action: str, settings: Mapping[str, Any], finished: Finished) -> dict[str, Any]:
    stdout = finished.stdout.decode("utf-8", errors="replace").strip()
    stderr = finished.stderr.decode("utf-8", errors="replace").strip()
    outputs = {"stdout": stdout, "stderr": stderr, "exit_code": finished.returncode, "truncated": finished.truncated}
    if action == "run" and settings.get("detach"):
        outputs["container_id"] = stdout[:_ID_LENGTH]
    if action == "build" and finished.returncode == 0:
        built = next((line for line in stdout.splitlines() if "Successfully built" in line), None)
        outputs |= {} if built is None else {"image_id": built.split()[-1]}
    return outputs
