"""Kinds of tasks that programs subclass or wrap: polled, skippable, a plain function, nothing at all.

Durations are `datetime.timedelta`, as in the programs that these names come from.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from typing_extensions import override

from stabilize_celery.errors import PermanentError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.task import Task

__all__ = [
    "CallableTask",
    "NoOpTask",
    "OverridableTimeoutRetryableTask",
    "RetryableTask",
    "SkippableTask",
    "TaskFunction",
]

TaskFunction: TypeAlias = Callable[[StageExecution], TaskResult | Mapping[str, Any] | None]
"""A function as a task: a returned mapping is the outputs of a success, None a success without outputs."""

DEFAULT_TIMEOUT = timedelta(hours=4)


class RetryableTask(Task):
    """A task that answers RUNNING until what it watches is done; it is executed again after a back-off."""

    def get_timeout(self) -> timedelta:
        """Return how long the task may take in all, polls and retries included. Default: 4 hours."""
        return DEFAULT_TIMEOUT

    def get_execution_timeout(self, stage: StageExecution) -> timedelta:
        """Return how long one call of `execute` may take, beside `timeout_s`. Default: as long as the task in all."""
        return self.get_dynamic_timeout(stage)

    @abstractmethod
    def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
        """Return the pause before the next poll, `duration` after the task first started."""

    def get_dynamic_timeout(self, stage: StageExecution) -> timedelta:  # noqa: ARG002 -- a hook
        """Return `get_timeout`, or what this stage asks for instead."""
        return self.get_timeout()

    def get_dynamic_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
        """Return `get_backoff_period`, or what this stage asks for instead."""
        return self.get_backoff_period(stage, duration)

    @override
    def poll_after_ms(self, stage: StageExecution) -> int | None:
        call = current_call()
        elapsed = timedelta(milliseconds=call.now_ms - call.started_ms)
        return max(0, round(self.get_dynamic_backoff_period(stage, elapsed).total_seconds() * 1000))


class OverridableTimeoutRetryableTask(RetryableTask):
    """A retryable task whose stage may set `stageTimeoutMs` (ms) in its context."""

    @override
    def get_dynamic_timeout(self, stage: StageExecution) -> timedelta:
        timeout_ms = InputReader(stage, "task").number("stageTimeoutMs")
        return self.get_timeout() if timeout_ms is None else timedelta(milliseconds=timeout_ms)


class SkippableTask(Task):
    """A task that is SKIPPED where `is_enabled` says no."""

    def is_enabled(self, stage: StageExecution) -> bool:  # noqa: ARG002 -- a hook
        """Return whether there is something to do. Default: yes."""
        return True

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return self.do_execute(stage) if self.is_enabled(stage) else TaskResult.skipped()

    @abstractmethod
    def do_execute(self, stage: StageExecution) -> TaskResult:
        """Do the work of an enabled task."""


class CallableTask(Task):
    """A plain function as a task.

    Args:
        func: Takes the stage; returns a `TaskResult`, a mapping (the outputs of a success), or None (a success).
        name: What errors call it. Default: the function's own name.

    """

    def __init__(self, func: TaskFunction, name: str | None = None) -> None:
        self._func = func
        self._name = name or str(getattr(func, "__name__", type(func).__name__))

    @property
    def name(self) -> str:
        """What errors call it."""
        return self._name

    @property
    def func(self) -> TaskFunction:
        """The function."""
        return self._func

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        result = self._func(stage)
        if isinstance(result, TaskResult):
            return result
        if result is None or isinstance(result, Mapping):
            return TaskResult.success(outputs=result)
        raise PermanentError(
            f"task {self._name!r} returned {type(result).__name__}; return a TaskResult, a dict of outputs, or None"
        )


class NoOpTask(Task):
    """A task that does nothing and succeeds; a placeholder."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.success()
