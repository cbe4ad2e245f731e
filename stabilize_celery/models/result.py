"""What a task says when it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.models.status import WorkflowStatus

__all__ = ["TaskResult", "TaskResultBuilder"]


@dataclass
class TaskResult:
    """How a task ended: `context` goes into the stage's context, `outputs` to the stages downstream.

    A REDIRECT needs a `target_stage_ref_id`; without one the stage ends TERMINAL.
    """

    status: WorkflowStatus
    context: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    target_stage_ref_id: str | None = None

    @classmethod
    def success(cls, outputs: Mapping[str, Any] | None = None, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Return: done, the next task starts."""
        return cls(WorkflowStatus.SUCCEEDED, dict(context or {}), dict(outputs or {}))

    @classmethod
    def running(cls, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Return: not done yet, execute me again after the back-off."""
        return cls(WorkflowStatus.RUNNING, dict(context or {}))

    @classmethod
    def terminal(cls, error: str, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Return: failed for good; `error` is kept as context["error"]."""
        return cls(WorkflowStatus.TERMINAL, {**(context or {}), "error": error})

    @classmethod
    def failed_continue(
        cls, error: str, outputs: Mapping[str, Any] | None = None, context: Mapping[str, Any] | None = None
    ) -> TaskResult:
        """Return: failed, but the pipeline continues; `error` is kept as context["error"]."""
        return cls(WorkflowStatus.FAILED_CONTINUE, {**(context or {}), "error": error}, dict(outputs or {}))

    @classmethod
    def skipped(cls) -> TaskResult:
        """Return: there was nothing to do, the next task starts."""
        return cls(WorkflowStatus.SKIPPED)

    @classmethod
    def canceled(cls, outputs: Mapping[str, Any] | None = None) -> TaskResult:
        """Return: given up because of a cancellation."""
        return cls(WorkflowStatus.CANCELED, outputs=dict(outputs or {}))

    @classmethod
    def stopped(cls, outputs: Mapping[str, Any] | None = None) -> TaskResult:
        """Return: failed, this branch ends, the others continue."""
        return cls(WorkflowStatus.STOPPED, outputs=dict(outputs or {}))

    @classmethod
    def suspend(cls, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Return: wait for a signal, then execute me again."""
        return cls(WorkflowStatus.SUSPENDED, dict(context or {}))

    @classmethod
    def redirect(cls, context: Mapping[str, Any] | None = None) -> TaskResult:
        """Return: a jump without target, kept for old programs; the stage ends TERMINAL. Use `jump_to`."""
        return cls(WorkflowStatus.REDIRECT, dict(context or {}))

    @classmethod
    def jump_to(
        cls,
        target_stage_ref_id: str,
        context: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> TaskResult:
        """Return: end this run, continue at the stage `target_stage_ref_id`, with `context` merged into its context."""
        return cls(WorkflowStatus.REDIRECT, dict(context or {}), dict(outputs or {}), target_stage_ref_id)

    @classmethod
    def builder(cls, status: WorkflowStatus) -> TaskResultBuilder:
        """Return a builder for a result with `status`."""
        return TaskResultBuilder(status)

    def merge_outputs(self, other: TaskResult | None) -> TaskResult:
        """Return this result with the context and outputs of `other` laid over its own."""
        if other is None:
            return self
        return TaskResult(
            self.status,
            {**self.context, **other.context},
            {**self.outputs, **other.outputs},
            self.target_stage_ref_id,
        )


class TaskResultBuilder:
    """Builds a `TaskResult` piece by piece; every method but `build` returns the builder."""

    def __init__(self, status: WorkflowStatus) -> None:
        self._status = status
        self._context: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}

    def context(self, context: Mapping[str, Any]) -> TaskResultBuilder:
        """Replace the context."""
        self._context = dict(context)
        return self

    def outputs(self, outputs: Mapping[str, Any]) -> TaskResultBuilder:
        """Replace the outputs."""
        self._outputs = dict(outputs)
        return self

    def add_context(self, key: str, value: Any) -> TaskResultBuilder:
        """Set one context value."""
        self._context[key] = value
        return self

    def add_output(self, key: str, value: Any) -> TaskResultBuilder:
        """Set one output."""
        self._outputs[key] = value
        return self

    def build(self) -> TaskResult:
        """Return the result; the builder may be used on."""
        return TaskResult(self._status, dict(self._context), dict(self._outputs))
