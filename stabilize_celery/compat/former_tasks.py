"""The ready-made tasks as upstream's programs know them when they execute one by themselves, as their unit tests do.

Settings that are refused are a TERMINAL result, not an exception. What a failed task found out stands in the result's
`context`, too; within a workflow it does not: a restarted stage must find its inputs as they were.
"""

from dataclasses import replace

from typing_extensions import override

from stabilize_celery.errors import ContextError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks import docker, http, python, shell, ssh
from stabilize_celery.tasks.call import bound_call
from stabilize_celery.tasks.task import Task

__all__ = ["DockerTask", "HTTPTask", "PythonTask", "SSHTask", "ShellTask"]


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
    """`stabilize_celery.tasks.shell.ShellTask`, executed as there."""


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
