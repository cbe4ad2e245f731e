"""What a task is: one method to execute, and hooks that tell the runtime what a result means.

All hooks are called with the call bound (`tasks.call.current_call`), on the process that executed the task.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution

__all__ = ["SubWorkflowCall", "Task", "Wait", "wait_of"]


@dataclass(frozen=True, slots=True)
class Wait:
    """What a suspended task waits for.

    Args:
        signal: The signal's name; empty: a signal of any name wakes the task.
        deadline_ms: How long it waits, from the suspension on, before it fails (ms); None: no limit.

    """

    signal: str = ""
    deadline_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SubWorkflowCall:
    """An inner workflow to run: by the `name` of a definition the engine knows, or by `definition` itself."""

    name: str | None = None
    definition: Mapping[str, Any] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


class Task(ABC):
    """One unit of work of a stage. Its body runs at least once: make it safe to repeat.

    `current_call().idempotency_key` is the same however often the body is tried; give it to services that take one.
    """

    @abstractmethod
    def execute(self, stage: StageExecution) -> TaskResult:
        """Do the work on a private copy of the stage; what counts is the result, not changes made to `stage`.

        Raises:
            TransientError: try again later (also `ConnectionError` and `TimeoutError`).
            Exception: anything else fails the task, with its traceback kept.

        """

    @property
    def aliases(self) -> list[str]:
        """Other names that `TaskRegistry.register_class` makes this task known by."""
        return []

    def on_timeout(self, stage: StageExecution) -> TaskResult | None:  # noqa: ARG002 -- a hook
        """Return the result of a task that ran out of time; None: it is TERMINAL.

        Called when one execution takes longer than `timeout_s` (or `get_execution_timeout`), when all of them together
        take longer than `get_timeout`, when the stage's `stageTimeoutMs` or the deadline of a wait passes; while a body
        is executed, and between two polls. It is executed like a body: by any worker that knows the task, at least
        once. What is executed when the time is over comes too late, and is asked to stop.

        The answer must end the task: RUNNING and SUSPENDED are failures here, and so is what it raises. After a
        stage's time-out no further task of the stage begins. It has 60 s to answer.
        """
        return None

    def on_cancel(self, stage: StageExecution) -> TaskResult | None:  # noqa: ARG002 -- a hook
        """Stop what a cancelled task has begun: close a connection, end a process, stop a job elsewhere.

        Called for a task that was given to a worker at least once and has not ended, when its run is taken away:
        cancelled or skipped, alone or with its region, instance or workflow. Where a body is executed, its own process
        calls it within seconds, on this object and with the body's `stage`, on a thread of its own beside the body (a
        greenlet in a gevent pool), or after the body if that returns sooner. Else (between two polls, while it waits
        for a signal or another try, or if that process has died) any worker that knows the task calls it, with what
        earlier executions put in the context. At least once, and it does not hold anything up.

        What it returns is not stored: the run has ended. What it raises is logged.
        """
        return None

    def on_cleanup(self, stage: StageExecution) -> None:  # noqa: B027 -- a hook, empty on purpose
        """Free what the task holds, however its stage ended. May be called more than once."""

    def poll_after_ms(self, stage: StageExecution) -> int | None:  # noqa: ARG002 -- a hook
        """Return when to execute again after a RUNNING result (ms from now); None: the engine's back-off."""
        return None

    def waits_for(self, stage: StageExecution) -> Wait | None:  # noqa: ARG002 -- a hook
        """Return what a SUSPENDED result waits for; None: the stage's `signal`, or any (see `wait_of`)."""
        return None

    def calls_workflow(self, stage: StageExecution) -> SubWorkflowCall | None:  # noqa: ARG002 -- a hook
        """Return the inner workflow that a SUSPENDED result waits for; None: it waits for a signal."""
        return None


def wait_of(task: Task, stage: StageExecution) -> Wait:
    """Return what a SUSPENDED result waits for: the task's own word, else the context's `signal`, else any signal."""
    return task.waits_for(stage) or Wait(str(stage.context.get("signal") or ""))
