"""The ready-made tasks as upstream's programs know them when they execute one by themselves, as their unit tests do.

Settings that are refused are a TERMINAL result, not an exception. What a failed task found out stands in the result's
`context`, too; within a workflow it does not: a restarted stage must find its inputs as they were.
"""

from collections.abc import Callable
from dataclasses import replace

from typing_extensions import override

from stabilize_celery.errors import ContextError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks import docker, http, python, shell, ssh
from stabilize_celery.tasks.call import bound_call

__all__ = ["DockerTask", "HTTPTask", "PythonTask", "SSHTask", "ShellTask"]


class ShellTask(shell.ShellTask):
    """`stabilize_celery.tasks.shell.ShellTask`, executed as there."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return _told(super().execute, stage)


class PythonTask(python.PythonTask):
    """`stabilize_celery.tasks.python.PythonTask`, executed as there."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return _told(super().execute, stage)


class HTTPTask(http.HTTPTask):
    """`stabilize_celery.tasks.http.HTTPTask`, executed as there."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return _told(super().execute, stage)


class DockerTask(docker.DockerTask):
    """`stabilize_celery.tasks.docker.DockerTask`, executed as there."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return _told(super().execute, stage)


class SSHTask(ssh.SSHTask):
    """`stabilize_celery.tasks.ssh.SSHTask`, executed as there."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return _told(super().execute, stage)


def _told(execute: Callable[[StageExecution], TaskResult], stage: StageExecution) -> TaskResult:
    try:
        result = execute(stage)
    except ContextError as error:
        return TaskResult.terminal(str(error))
    if bound_call() is None and result.status.is_failure:
        return replace(result, context={**result.outputs, **result.context})
    return result
