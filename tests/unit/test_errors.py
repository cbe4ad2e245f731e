"""The error tree, what is worth another attempt, and texts fit to show."""

import pickle
import urllib.error
from email.message import Message

import pytest

from stabilize_celery import errors
from stabilize_celery.errors import (
    CommitConflictError,
    ConcurrencyError,
    ConfigError,
    ConfigurationError,
    ContextError,
    DeadLetterError,
    EngineError,
    ErrorCode,
    IdempotencyConflictError,
    InvalidStateTransitionError,
    OutputError,
    PermanentError,
    PreconditionError,
    QueueError,
    RecoveryError,
    RefusedError,
    StabilizeBaseException,
    StabilizeError,
    StabilizeExpectedError,
    StabilizeFatalError,
    StageError,
    StageNotReadyError,
    TaskError,
    TaskNotFoundError,
    TaskTimeoutError,
    TransientError,
    TransientVerificationError,
    UnreachableError,
    VerificationError,
    WorkflowError,
    WorkflowNotFound,
    WorkflowNotFoundError,
    WritesRefusedError,
    classify_error,
    error_chain,
    find_in_chain,
    is_permanent,
    is_transient,
    redact_url,
    truncate_error,
)

PARENTS = {
    StabilizeFatalError: StabilizeError,
    ContextError: StabilizeFatalError,
    ConfigError: StabilizeFatalError,
    StabilizeExpectedError: StabilizeError,
    PreconditionError: StabilizeExpectedError,
    OutputError: StabilizeExpectedError,
    StageNotReadyError: StabilizeExpectedError,
    VerificationError: StabilizeExpectedError,
    EngineError: StabilizeError,
    TransientError: EngineError,
    ConcurrencyError: TransientError,
    CommitConflictError: ConcurrencyError,
    PermanentError: EngineError,
    ConfigurationError: EngineError,
    RecoveryError: EngineError,
    TaskError: EngineError,
    TaskTimeoutError: TaskError,
    TaskNotFoundError: TaskError,
    WorkflowError: EngineError,
    WorkflowNotFoundError: WorkflowError,
    IdempotencyConflictError: WorkflowError,
    RefusedError: WorkflowError,
    StageError: EngineError,
    InvalidStateTransitionError: EngineError,
    QueueError: EngineError,
    DeadLetterError: QueueError,
    UnreachableError: EngineError,
    WritesRefusedError: UnreachableError,
    TransientVerificationError: VerificationError,
}

MADE = [
    *(kind("m", key="k") for kind in (ContextError, PreconditionError, OutputError)),
    ConfigError("m", field="f"),
    StageNotReadyError("m", stage_ref_id="a"),
    VerificationError("m", {"d": 1}),
    TransientVerificationError("m", {"d": 1}, retry_after=2, context_update={"c": 3}),
    TransientError("m", code=7, error_code=ErrorCode.CIRCUIT_OPEN, retry_after=2.5, context_update={"c": 1}),
    TaskError("m", task_name="t", stage_id="s", execution_id="w", details={"d": 1}),
    WorkflowNotFoundError("m", execution_id="w"),
    StageError("m", stage_id="s", execution_id="w"),
    InvalidStateTransitionError("A", "B", "stage", "s"),
    UnreachableError("the broker", "redis://:secret@host:1/0", "Start it."),
    WritesRefusedError("memory is full"),
]


@pytest.mark.parametrize("kind", PARENTS)
def test_the_tree_is_the_documented_one(kind: type[Exception]) -> None:
    """Whoever catches a parent catches the child; everything is a StabilizeError."""
    assert issubclass(kind, PARENTS[kind])
    assert issubclass(kind, StabilizeError)
    assert kind.__doc__


def test_old_names_still_work() -> None:
    """Upstream's other spellings are the same classes."""
    assert WorkflowNotFound is WorkflowNotFoundError
    assert StabilizeBaseException is EngineError
    assert issubclass(TransientVerificationError, TransientError)
    assert set(errors.__all__) <= set(dir(errors))


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling(error: StabilizeError) -> None:
    """Type, text and attributes arrive in the other process."""
    back = pickle.loads(pickle.dumps(error))

    assert (type(back), str(back)) == (type(error), str(error))
    assert vars(back) == vars(error)


def test_a_transient_error_carries_when_to_try_again_and_what_to_keep() -> None:
    """retry_after in seconds, context_update for the next attempt, retryable for the runtime."""
    error = TransientError("slow down", retry_after=0.2, context_update={"done": 5})

    assert (error.retry_after, error.context_update, error.retryable, error.code) == (0.2, {"done": 5}, True, 101)
    assert error.error_code is ErrorCode.NETWORK_ERROR
    assert (TransientError("x").retry_after, TransientError("x").context_update) == (None, {})
    assert not PermanentError("x").retryable


def test_a_cause_is_shown_and_chained() -> None:
    """The text names it, and tracebacks show it."""
    cause = OSError("disk full")
    error = PermanentError("can't write", cause=cause)

    assert str(error) == "can't write (code=102) caused by: disk full"
    assert str(QueueError("lost", cause=OSError())) == "lost caused by: OSError"
    assert error.__cause__ is cause
    assert error.cause is cause


def test_codes_can_be_given() -> None:
    """A number and a kind of one's own replace the class's."""
    error = TransientError("x", code=429, error_code=ErrorCode.RESOURCE_EXHAUSTED)

    assert (error.code, error.error_code) == (429, ErrorCode.RESOURCE_EXHAUSTED)
    assert (TransientError("x").code, str(error)) == (101, "x (code=429)")


def test_an_error_of_a_programs_own_has_what_the_packages_have() -> None:
    """As upstream's: a class derived from the root takes a code, a cause and a kind, and has its own code."""

    class OrderError(StabilizeError):
        code = 7001

    error = OrderError("no stock", cause=KeyError("sku"), error_code=ErrorCode.VALIDATION_FAILED)

    assert (error.code, OrderError("x", code=5).code, StabilizeError("x").code) == (7001, 5, 100)
    assert error.error_code is ErrorCode.VALIDATION_FAILED
    assert str(error) == "no stock caused by: 'sku'"
    assert str(OrderError("x", code=5)) == "x (code=5)"


@pytest.mark.parametrize("kind", [TransientError, PermanentError, TaskError, VerificationError])
def test_what_tasks_raise_shows_the_number_of_its_class(kind: type[StabilizeError]) -> None:
    """As upstream's texts do; 0 is no number."""
    assert str(kind("busy")) == f"busy (code={kind.code})"
    assert str(kind("busy", code=0)) == "busy"


def test_an_unreachable_server_is_named_without_its_password() -> None:
    """The text says what, where and what to do."""
    error = UnreachableError("the state server (Redis)", "redis://me:secret@host:6379/1", "Is it running?")

    assert str(error) == "can't reach the state server (Redis) at redis://me:***@host:6379/1. Is it running?"
    assert "secret" not in repr(vars(error))
    assert error.retryable


class RateLimitError(Exception):
    pass


class ConnectionValidationError(Exception):
    pass


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def http_error(status: int) -> Exception:
    return urllib.error.HTTPError("http://x", status, "m", Message(), None)


VERDICTS: list[tuple[Exception, str]] = [
    (TransientError("x"), "transient"),
    (ConcurrencyError("x"), "transient"),
    (TransientVerificationError("x"), "transient"),
    (UnreachableError("s", "u", "a"), "transient"),
    (TaskTimeoutError("x"), "transient"),
    (ConnectionResetError(), "transient"),
    (TimeoutError(), "transient"),
    (OSError(113, "no route"), "transient"),
    (urllib.error.URLError("x"), "transient"),
    (RateLimitError(), "transient"),
    (PermanentError("x"), "permanent"),
    (WorkflowNotFoundError("x"), "permanent"),
    (ValueError("x"), "permanent"),
    (KeyError("x"), "permanent"),
    (FileNotFoundError("x"), "permanent"),
    (ConnectionValidationError(), "permanent"),
    (RuntimeError("x"), "unknown"),
    (TaskError("x"), "unknown"),
    (VerificationError("x"), "unknown"),
    (caused(RuntimeError("x"), TransientError("y")), "transient"),
    (caused(ValueError("x"), TransientError("y")), "transient"),
    (caused(TimeoutError("x"), PermanentError("y")), "permanent"),
    (caused(RuntimeError("x"), ValueError("y")), "permanent"),
    (caused(RuntimeError("x"), caused(RuntimeError("y"), ConnectionError("z"))), "transient"),
]


@pytest.mark.parametrize(("error", "verdict"), VERDICTS, ids=lambda value: repr(value)[:60])
def test_an_error_is_transient_permanent_or_unknown(error: Exception, verdict: str) -> None:
    """Our own types decide wherever they stand in the chain; never both verdicts."""
    assert is_transient(error) == (verdict == "transient")
    assert is_permanent(error) == (verdict == "permanent")


@pytest.mark.parametrize(("status", "transient"), [(404, False), (401, False), (429, True), (503, True)])
def test_an_http_error_is_judged_by_its_status(status: int, transient: bool) -> None:
    """Not found is not a connection that failed."""
    error = http_error(status)

    assert (is_transient(error), is_permanent(error)) == (transient, not transient)


def test_a_chain_that_bites_its_tail_comes_to_an_end() -> None:
    """Causes may form a circle."""
    first, second = RuntimeError("1"), RuntimeError("2")
    first.__cause__, second.__cause__ = second, first

    assert error_chain(first) == [second, first]
    assert not is_transient(first)
    assert not is_permanent(first)
    assert find_in_chain(first, KeyError) is None
    assert find_in_chain(first, RuntimeError) is second


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TaskNotFoundError("x"), ErrorCode.TASK_NOT_FOUND),
        (caused(RuntimeError("x"), ConfigurationError("y")), ErrorCode.CONFIGURATION_INVALID),
        (TimeoutError(), ErrorCode.TASK_TIMEOUT),
        (ConnectionError(), ErrorCode.NETWORK_ERROR),
        (PermissionError(), ErrorCode.AUTHENTICATION_FAILED),
        (MemoryError(), ErrorCode.RESOURCE_EXHAUSTED),
        (ConnectionValidationError(), ErrorCode.NETWORK_ERROR),
        (RuntimeError(), ErrorCode.UNKNOWN),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_every_exception_has_a_kind(error: Exception, code: ErrorCode) -> None:
    """Ours say it themselves, others are told by their name."""
    assert classify_error(error) is code


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:pw@host/0", "redis://:***@host/0"),
        ("amqp://me:p@w@host//", "amqp://me:***@host//"),
        ("redis://me@host", "redis://me@host"),
        ("sentinel://:a@h1:1;sentinel://:b@h2:2", "sentinel://:***@h1:1;sentinel://:***@h2:2"),
        ("redis://:pw@[bad/0", "redis://***@[bad/0"),
        ("nonsense", "nonsense"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    """A URL in a message has its password replaced."""
    assert redact_url(url) == shown


def test_a_text_is_cut_at_a_character() -> None:
    """The limit is bytes of UTF-8; no character is cut in half."""
    assert truncate_error("short") == "short"
    assert truncate_error("x" * 100, 20) == "x" * 8 + " [TRUNCATED]"
    assert truncate_error("ü" * 100, 21) == "ü" * 4 + " [TRUNCATED]"
    assert len(truncate_error("ü" * 60_000).encode()) <= 100_000
    assert truncate_error("x" * 100, 5) == "[TRUNCATED]"
