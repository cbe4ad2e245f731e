"""The error tree: one sentence each, `retryable` says whether trying again can help.

Three families hang from `StabilizeError`: `EngineError` (raised by this package or by task code for the engine to
act on), `StabilizeFatalError` and `StabilizeExpectedError` (raised by the assertion functions). Graph errors of the
model stand in `models.problems`. Every error survives pickling, whatever its constructor takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from stabilize_celery.errors.codes import ErrorCode
from stabilize_celery.errors.texts import redact_url

__all__ = [
    "CommitConflictError",
    "ConcurrencyError",
    "ConfigError",
    "ConfigurationError",
    "ContextError",
    "DeadLetterError",
    "EngineError",
    "IdempotencyConflictError",
    "InvalidStateTransitionError",
    "OutputError",
    "PermanentError",
    "PreconditionError",
    "QueueError",
    "RecoveryError",
    "RefusedError",
    "StabilizeBaseException",
    "StabilizeError",
    "StabilizeExpectedError",
    "StabilizeFatalError",
    "StageError",
    "StageNotReadyError",
    "TaskError",
    "TaskNotFoundError",
    "TaskTimeoutError",
    "TransientError",
    "TransientVerificationError",
    "UnreachableError",
    "VerificationError",
    "WorkflowError",
    "WorkflowNotFound",
    "WorkflowNotFoundError",
    "WritesRefusedError",
]


def _rebuild(kind: type[StabilizeError], args: tuple[object, ...], state: dict[str, object]) -> StabilizeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class StabilizeError(Exception):
    """The root: `except StabilizeError` catches everything that this package raises on purpose.

    Args:
        code: A number for programs; each class has its own.
        cause: What led to it; shown behind the message and chained as `__cause__`.
        error_code: The kind of failure, where the class's own is too coarse.

    """

    code: int = 100
    default_error_code: ClassVar[ErrorCode] = ErrorCode.SYSTEM_ERROR
    retryable: ClassVar[bool] = False
    shows_code: ClassVar[bool] = False
    """Whether the text ends with the class's own code; one that was given is always shown."""
    cause: BaseException | None = None
    _error_code: ErrorCode | None = None

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        cause: BaseException | None = None,
        error_code: ErrorCode | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.cause = cause
        if cause is not None:
            self.__cause__ = cause
        self._error_code = error_code

    @property
    def error_code(self) -> ErrorCode:
        """The kind of failure."""
        return self._error_code or self.default_error_code

    def __str__(self) -> str:
        parts = [super().__str__()]
        if self.code and (self.shows_code or self.code != type(self).code):
            parts.append(f"(code={self.code})")
        if self.cause is not None:
            parts.append(f"caused by: {str(self.cause) or type(self.cause).__name__}")
        return " ".join(parts)

    def __reduce__(self) -> tuple[Callable[..., StabilizeError], tuple[Any, ...]]:
        # Exceptions pickle as cls(*args), which fails where the constructor builds its own text.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


class StabilizeFatalError(StabilizeError):
    """Something that no retry repairs: wrong configuration, a programming error."""


class StabilizeExpectedError(StabilizeError):
    """An assertion about a stage did not hold; the word says where it comes from, not that it is retried."""


class ContextError(StabilizeFatalError):
    """The stage's context lacks `key`, or it has the wrong type."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class ConfigError(StabilizeFatalError):
    """The configuration `field` is wrong."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class PreconditionError(StabilizeExpectedError):
    """A precondition, named by `key`, does not hold."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class OutputError(StabilizeExpectedError):
    """An expected output `key` is missing or wrong."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class StageNotReadyError(StabilizeExpectedError):
    """The stage `stage_ref_id` can't run yet."""

    def __init__(self, message: str, stage_ref_id: str | None = None) -> None:
        super().__init__(message)
        self.stage_ref_id = stage_ref_id


class EngineError(StabilizeError):
    """An error that the engine acts on."""


StabilizeBaseException = EngineError


class TransientError(EngineError):
    """Raised by task code: this failed, trying again may work.

    Args:
        retry_after: Seconds to wait before the next attempt; None: the usual back-off.
        context_update: Merged into the stage's context before the next attempt, to keep progress.

    """

    code = 101
    shows_code = True
    retryable = True
    default_error_code = ErrorCode.NETWORK_ERROR

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        cause: BaseException | None = None,
        error_code: ErrorCode | None = None,
        retry_after: float | None = None,
        context_update: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, cause=cause, error_code=error_code)
        self.retry_after = retry_after
        self.context_update: dict[str, Any] = dict(context_update or {})


class ConcurrencyError(TransientError):
    """Somebody else changed the record first."""

    code = 105
    default_error_code = ErrorCode.CONCURRENCY_CONFLICT


class CommitConflictError(ConcurrencyError):
    """Other workers changed a watched key before every one of our commits; the message comes round again."""


class PermanentError(EngineError):
    """Raised by task code: trying again can't help (not found, not allowed, invalid input)."""

    code = 102
    shows_code = True
    default_error_code = ErrorCode.USER_CODE_ERROR


class RecoveryError(EngineError):
    """A workflow could not be taken up again after a crash."""

    code = 103
    default_error_code = ErrorCode.RECOVERY_FAILED


class ConfigurationError(EngineError):
    """A setting is wrong; the text names it and what it may be."""

    code = 104
    default_error_code = ErrorCode.CONFIGURATION_INVALID


class TaskError(EngineError):
    """A task failed; the attributes say which."""

    code = 200
    shows_code = True
    default_error_code = ErrorCode.USER_CODE_ERROR

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        cause: BaseException | None = None,
        error_code: ErrorCode | None = None,
        task_name: str | None = None,
        stage_id: str | None = None,
        execution_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, cause=cause, error_code=error_code)
        self.task_name = task_name
        self.stage_id = stage_id
        self.execution_id = execution_id
        self.details: dict[str, Any] = dict(details or {})


class TaskTimeoutError(TaskError):
    """A task ran longer than it may."""

    code = 201
    default_error_code = ErrorCode.TASK_TIMEOUT


class TaskNotFoundError(TaskError):
    """No worker's registry knows this task type."""

    code = 202
    default_error_code = ErrorCode.TASK_NOT_FOUND


class WorkflowError(EngineError):
    """Something is wrong with the workflow `execution_id`."""

    code = 300

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        cause: BaseException | None = None,
        execution_id: str | None = None,
    ) -> None:
        super().__init__(message, code=code, cause=cause)
        self.execution_id = execution_id


class WorkflowNotFoundError(WorkflowError):
    """There is no workflow of this id (any more)."""

    code = 301


WorkflowNotFound = WorkflowNotFoundError


class WorkflowFailedError(WorkflowError):
    """The workflow has ended without success, so there is no result; the text says why."""

    code = 304


class IdempotencyConflictError(WorkflowError):
    """The idempotency key stands for another definition; the text names the key. Nothing was started."""

    code = 302


class RefusedError(WorkflowError):
    """An event from outside (signal, choice, cancel, restart …) had no effect; the text says why."""

    code = 303


class StageError(EngineError):
    """Something is wrong with the stage `stage_id`."""

    code = 400

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        cause: BaseException | None = None,
        stage_id: str | None = None,
        execution_id: str | None = None,
    ) -> None:
        super().__init__(message, code=code, cause=cause)
        self.stage_id = stage_id
        self.execution_id = execution_id


class InvalidStateTransitionError(EngineError):
    """The table of status transitions has no way from `current` to `target`."""

    code = 401

    def __init__(
        self, current: object, target: object, entity_type: str = "entity", entity_id: str | None = None
    ) -> None:
        which = f"{entity_type} {entity_id}" if entity_id else entity_type
        super().__init__(f"{which}: can't go from {current} to {target}; see VALID_TRANSITIONS for what may follow")
        self.current = current
        self.target = target
        self.entity_type = entity_type
        self.entity_id = entity_id


class QueueError(EngineError):
    """The broker refused or lost a message."""

    code = 500


class DeadLetterError(QueueError):
    """A message was set aside: it could not be handled."""

    code = 501


class UnreachableError(EngineError):
    """A server can't be reached; the text has its URL (without the password) and what to do.

    Args:
        service: What the server is to us, such as "the state server (Redis)".
        advice: One sentence: what the reader should check or change.

    """

    code = 502
    retryable = True
    default_error_code = ErrorCode.NETWORK_ERROR

    def __init__(self, service: str, url: str, advice: str, *, cause: BaseException | None = None) -> None:
        self.url = redact_url(url)
        super().__init__(f"can't reach {service} at {self.url}. {advice}", cause=cause)


class PayloadError(UnreachableError):
    """A stored value can't be read or written here: its key or its file is missing. Elsewhere, or later, it may be."""

    code = 504

    def __init__(self, told: str, *, cause: BaseException | None = None) -> None:
        self.url = ""
        EngineError.__init__(self, told, cause=cause)


class WritesRefusedError(UnreachableError):
    """The state server answers but takes no writes now: memory or disk full, no master. Trying again later can help."""

    code = 503

    def __init__(self, told: str, *, cause: BaseException | None = None) -> None:
        self.url = ""
        EngineError.__init__(self, told, cause=cause)


class VerificationError(EngineError, StabilizeExpectedError):
    """A stage's outputs did not pass their check, and won't."""

    code = 600
    shows_code = True
    default_error_code = ErrorCode.VERIFICATION_FAILED

    def __init__(
        self,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        code: int | None = None,
        cause: BaseException | None = None,
        error_code: ErrorCode | None = None,
    ) -> None:
        EngineError.__init__(self, message, code=code, cause=cause, error_code=error_code)
        self.details: dict[str, Any] = dict(details or {})


class TransientVerificationError(VerificationError, TransientError):
    """The check can't pass yet; it may later, so the check is made again."""

    code = 601
    retryable = True

    def __init__(
        self,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        code: int | None = None,
        cause: BaseException | None = None,
        retry_after: float | None = None,
        context_update: Mapping[str, Any] | None = None,
    ) -> None:
        EngineError.__init__(self, message, code=code, cause=cause)
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.context_update = dict(context_update or {})
