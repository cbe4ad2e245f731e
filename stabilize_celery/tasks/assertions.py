"""Assertions for task code: each raises an error that says which stage, which key, and what is wrong."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from stabilize_celery.errors import (
    ConfigError,
    ContextError,
    OutputError,
    PreconditionError,
    StageNotReadyError,
    VerificationError,
)
from stabilize_celery.models.stage import StageExecution

__all__ = [
    "assert_config",
    "assert_context",
    "assert_context_in",
    "assert_context_type",
    "assert_no_upstream_failures",
    "assert_non_empty",
    "assert_not_none",
    "assert_output",
    "assert_output_type",
    "assert_stage_ready",
    "assert_true",
    "assert_verified",
]

Value = TypeVar("Value")
Sized = TypeVar("Sized", bound=Collection[Any])


def assert_true(condition: bool, message: str) -> None:
    """Raise `PreconditionError` with `message` unless `condition` holds."""
    if not condition:
        raise PreconditionError(message)


def assert_context(stage: StageExecution, key: str, message: str | None = None) -> Any:
    """Return the context value of `key`; raise `ContextError` where there is none."""
    if key not in stage.context:
        raise ContextError(message or f"stage {stage.ref_id!r}: the context has no {key!r}", key)
    return stage.context[key]


def assert_context_type(
    stage: StageExecution, key: str, expected_type: type[Value], message: str | None = None
) -> Value:
    """Return the context value of `key`; raise `ContextError` where it is missing or of another type."""
    value = assert_context(stage, key, message)
    if not isinstance(value, expected_type):
        raise ContextError(message or _wrong_type(stage, f"context value {key!r}", value, expected_type), key)
    return value


def assert_context_in(
    stage: StageExecution, key: str, allowed_values: Iterable[Any], message: str | None = None
) -> Any:
    """Return the context value of `key`; raise `ContextError` where it is missing or not an allowed one."""
    value = assert_context(stage, key, message)
    allowed = list(allowed_values)
    if value not in allowed:
        raise ContextError(
            message or f"stage {stage.ref_id!r}: context value {key!r} is {value!r}, expected one of {allowed!r}", key
        )
    return value


def assert_output(stage: StageExecution, key: str, message: str | None = None) -> Any:
    """Return the output `key`; raise `OutputError` where there is none."""
    if key not in stage.outputs:
        raise OutputError(message or f"stage {stage.ref_id!r}: there is no output {key!r}", key)
    return stage.outputs[key]


def assert_output_type(
    stage: StageExecution, key: str, expected_type: type[Value], message: str | None = None
) -> Value:
    """Return the output `key`; raise `OutputError` where it is missing or of another type."""
    value = assert_output(stage, key, message)
    if not isinstance(value, expected_type):
        raise OutputError(message or _wrong_type(stage, f"output {key!r}", value, expected_type), key)
    return value


def assert_stage_ready(stage: StageExecution, message: str | None = None) -> None:
    """Raise `StageNotReadyError` unless everything upstream has completed well enough to go on."""
    if not stage.all_upstream_stages_complete():
        raise StageNotReadyError(message or f"stage {stage.ref_id!r}: not everything upstream is done", stage.ref_id)


def assert_no_upstream_failures(stage: StageExecution, message: str | None = None) -> None:
    """Raise `StageNotReadyError` if something upstream has failed."""
    if stage.any_upstream_stages_failed():
        raise StageNotReadyError(message or f"stage {stage.ref_id!r}: something upstream has failed", stage.ref_id)


def assert_config(condition: bool, message: str, field: str | None = None) -> None:
    """Raise `ConfigError` with `message`, about the setting `field`, unless `condition` holds."""
    if not condition:
        raise ConfigError(message, field)


def assert_verified(condition: bool, message: str, details: Mapping[str, Any] | None = None) -> None:
    """Raise `VerificationError` with `message` unless `condition` holds."""
    if not condition:
        raise VerificationError(message, details)


def assert_not_none(value: Value | None, message: str) -> Value:
    """Return `value`; raise `PreconditionError` with `message` if it is None."""
    if value is None:
        raise PreconditionError(message)
    return value


def assert_non_empty(value: Sized, message: str) -> Sized:
    """Return `value`; raise `PreconditionError` with `message` if there is nothing in it."""
    if not value:
        raise PreconditionError(message)
    return value


def _wrong_type(stage: StageExecution, what: str, value: object, expected: type) -> str:
    return f"stage {stage.ref_id!r}: {what} is {type(value).__name__}, expected {expected.__name__}"
