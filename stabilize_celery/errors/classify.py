"""Whether an exception is worth another attempt, and what kind of failure it is.

Our own error types decide first, wherever they stand in the chain of causes; then what is known of the standard
library's; then the words in a class name, so that a client library need not be imported to be understood.
"""

import errno
from collections.abc import Iterator

from stabilize_celery.errors.codes import ErrorCode
from stabilize_celery.errors.tree import EngineError, PermanentError, TransientError

__all__ = ["classify_error", "classify_name", "error_chain", "find_in_chain", "is_permanent", "is_transient"]

_TRANSIENT_TYPES = (ConnectionError, TimeoutError)
_TRANSIENT_TYPE_NAMES = frozenset({"gaierror", "URLError"})
_PERMANENT_TYPES = (ValueError, TypeError, AttributeError, LookupError)
_TRANSIENT_ERRNOS = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    }
)
_PERMANENT_WORDS = ("validation", "authentication", "authorization", "forbidden", "notfound", "invalid")
_TRANSIENT_WORDS = ("timeout", "connection", "temporary", "unavailable", "retry", "throttl", "ratelimit")
_RETRYABLE_HTTP_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

_CODE_BY_WORD: tuple[tuple[tuple[str, ...], ErrorCode], ...] = (
    # (words in the class name, kind); the first matching row wins.
    (("timeout", "timedout"), ErrorCode.TASK_TIMEOUT),
    (("connection", "network", "socket", "dns", "http", "url"), ErrorCode.NETWORK_ERROR),
    (
        ("authentication", "authorization", "forbidden", "unauthorized", "permission"),
        ErrorCode.AUTHENTICATION_FAILED,
    ),
    (("validation", "invalid", "parse", "schema"), ErrorCode.VALIDATION_FAILED),
    (("config", "setting", "environment"), ErrorCode.CONFIGURATION_INVALID),
    (("notfound", "not_found"), ErrorCode.TASK_NOT_FOUND),
    (("resource", "memory", "quota", "limit", "exhausted"), ErrorCode.RESOURCE_EXHAUSTED),
    (("circuit",), ErrorCode.CIRCUIT_OPEN),
    (("bulkhead", "semaphore"), ErrorCode.BULKHEAD_FULL),
    (("concurrency", "conflict", "optimistic", "version"), ErrorCode.CONCURRENCY_CONFLICT),
)


def is_transient(error: BaseException) -> bool:
    """Return whether another attempt may succeed; never true together with `is_permanent`."""
    return _verdict(error) is True


def is_permanent(error: BaseException) -> bool:
    """Return whether another attempt can't succeed; an error of unknown kind is neither."""
    return _verdict(error) is False


def error_chain(error: BaseException) -> list[BaseException]:
    """Return `error` and what caused it (`__cause__`), the root cause first."""
    return list(_causes(error))[::-1]


def find_in_chain(error: BaseException, error_type: type[BaseException]) -> BaseException | None:
    """Return the root-most error of `error_type` in the chain of causes, or None."""
    return next((one for one in error_chain(error) if isinstance(one, error_type)), None)


def classify_error(error: BaseException) -> ErrorCode:
    """Return the kind of failure: our errors say it themselves, others are told by the name of their class."""
    for one in _causes(error):
        if isinstance(one, EngineError):
            return one.error_code
    return classify_name(type(error).__name__)


def classify_name(name: str) -> ErrorCode:
    """Return the kind of failure that the name of an exception's class tells of."""
    folded = name.lower()
    return next((code for words, code in _CODE_BY_WORD if any(word in folded for word in words)), ErrorCode.UNKNOWN)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def _verdict(error: BaseException) -> bool | None:
    """Return True for transient, False for permanent, None where nothing tells."""
    for one in _causes(error):
        if isinstance(one, TransientError):
            return True
        if isinstance(one, PermanentError):
            return False
    for one in _causes(error):
        verdict = _verdict_by_kind(one)
        if verdict is not None:
            return verdict
    return None


def _verdict_by_kind(error: BaseException) -> bool | None:
    if isinstance(error, EngineError) and error.retryable:
        return True
    name = type(error).__name__
    status = getattr(error, "code", None)
    if name == "HTTPError" and isinstance(status, int):
        return status in _RETRYABLE_HTTP_STATUSES
    if isinstance(error, _TRANSIENT_TYPES) or any(kind.__name__ in _TRANSIENT_TYPE_NAMES for kind in type(error).mro()):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS:
        return True
    if isinstance(error, _PERMANENT_TYPES):
        return False
    return _verdict_by_name(name.lower())


def _verdict_by_name(name: str) -> bool | None:
    # ConnectionValidationError must not be retried for ever: the permanent words are looked for first.
    if any(word in name for word in _PERMANENT_WORDS):
        return False
    if any(word in name for word in _TRANSIENT_WORDS):
        return True
    return None
