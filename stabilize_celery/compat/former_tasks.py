"""The ready-made tasks as upstream's programs know them, also when they execute one by themselves, as unit tests do.

Settings that are refused are a TERMINAL result, not an exception. What a failed task found out stands in the result's
`context`, too; within a workflow it does not: a restarted stage must find its inputs as they were.
"""

import time
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta
from typing import Any

from typing_extensions import override

from stabilize_celery.errors import ContextError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks import approval, call, docker, http, python, shell, ssh, wait
from stabilize_celery.tasks.call import bound_call
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.task import Task
from stabilize_celery.tasks.variants import RetryableTask

__all__ = [
    "APPROVE_SIGNAL",
    "REJECT_SIGNAL",
    "ApprovalTask",
    "DockerTask",
    "HTTPTask",
    "PythonTask",
    "SSHTask",
    "ShellTask",
    "WaitTask",
    "get_signal",
]

APPROVE_SIGNAL, REJECT_SIGNAL = "approve", "reject"
"""What an `ApprovalTask` waits for."""


class _CalledByHand(Task):
    """Executes the task that comes behind it among the bases, and answers as upstream's does."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        try:
            result: TaskResult = super().execute(stage)  # type: ignore[safe-super]  # the next base has one
        except ContextError as error:
            return TaskResult.terminal(str(error))
        if bound_call() is None and result.status.is_failure:
            return replace(result, context={**result.outputs, **result.context})
        return result


class ShellTask(_CalledByHand, shell.ShellTask):
    """`stabilize_celery.tasks.shell.ShellTask`, executed as there; outside of a workflow, `binary` gives bytes, too."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        result = super().execute(stage)
        if bound_call() is not None or "stdout_b64" not in result.outputs:
            return result
        return replace(result, outputs={**result.outputs, "stdout": b64decode(result.outputs["stdout_b64"])})


class PythonTask(_CalledByHand, python.PythonTask):
    """`stabilize_celery.tasks.python.PythonTask`, executed as there."""


class HTTPTask(_CalledByHand, http.HTTPTask):
    """`stabilize_celery.tasks.http.HTTPTask`, executed as there; outside of a workflow, where nobody would, once."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        if bound_call() is not None:
            return super().execute(stage)
        given = stage.context
        stage.context = {**given, "retries": 0}
        try:
            return super().execute(stage)
        finally:
            stage.context = given


class DockerTask(_CalledByHand, docker.DockerTask):
    """`stabilize_celery.tasks.docker.DockerTask`, executed as there."""


class SSHTask(_CalledByHand, ssh.SSHTask):
    """`stabilize_celery.tasks.ssh.SSHTask`, executed as there."""


class ApprovalTask(approval.ApprovalTask):
    """Waits for the signal `approve`, or for `reject`, which fails it; its outputs are `approved` and `approval`.

    With `signal` in its stage's context it is `stabilize_celery.tasks.approval.ApprovalTask`.
    """

    @property
    @override
    def aliases(self) -> list[str]:
        return ["human_approval", "hitl_approval"]

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        if stage.context.get("signal"):
            return super().execute(stage)
        name, payload = get_signal(stage)
        if name not in (APPROVE_SIGNAL, REJECT_SIGNAL):
            return TaskResult.suspend()
        told = {"approved": name == APPROVE_SIGNAL, "approval": payload}
        if name == APPROVE_SIGNAL:
            return TaskResult.success(outputs=told)
        if InputReader(stage, "approval").flag("approval_reject_continues"):
            return TaskResult.failed_continue("Approval rejected", outputs=told)
        return TaskResult.terminal("Approval rejected", context=told)


class WaitTask(wait.WaitTask, RetryableTask):
    """`stabilize_celery.tasks.wait.WaitTask`, which tells `waitedSeconds`; it does not wait where no time is named."""

    @override
    def get_timeout(self) -> timedelta:
        return timedelta(hours=24)

    @override
    def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
        return timedelta(seconds=1)

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        now_s, started_s = _times(stage)
        if started_s is None:
            return TaskResult.running(context={_STARTED: int(now_s)})
        waited_s = now_s - started_s
        if waited_s < _wanted_s(stage):
            return TaskResult.running()
        return TaskResult.success(outputs={"waitedSeconds": int(waited_s)})

    @override
    def poll_after_ms(self, stage: StageExecution) -> int | None:
        now_s, started_s = _times(stage)
        waited_s = now_s - (now_s if started_s is None else started_s)
        return max(0, round((_wanted_s(stage) - waited_s) * 1000))


_STARTED = "waitStartTime"
"""Where a program that executes a `WaitTask` by itself keeps when that began (s)."""


def _times(stage: StageExecution) -> tuple[float, float | None]:
    """Return what time it is and when the waiting began (s): by the engine's clock, or by hand in the context."""
    if (bound := bound_call()) is not None:
        return bound.now_ms / 1000, bound.started_ms / 1000
    return int(time.time()), stage.context.get(_STARTED)


def _wanted_s(stage: StageExecution) -> float:
    inputs = InputReader(stage, "wait")
    return next((found for name in ("waitTime", "seconds") if (found := inputs.number(name)) is not None), 0)


def get_signal(stage: StageExecution) -> tuple[str | None, Any]:
    """Return name and payload of the signal that woke the task; (None, {}) if none did.

    Where a program executes a task by itself, it puts them into the context: `_signal_name`, `_signal_data`.
    """
    if bound_call() is not None:
        return call.get_signal(stage)
    return stage.context.get("_signal_name"), stage.context.get("_signal_data") or {}
