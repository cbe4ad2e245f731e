"""What exceptions mean: the classification table, retries, back-off."""

import errno
import math
import socket
from typing import Any

import pytest

from stabilize_celery.errors import PermanentError, TransientError
from stabilize_celery.models.limits import MAX_TIME_MS
from stabilize_celery.tasks.cancellation import TaskCancelledError
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.outcome import AskedAgainError, FailureKind, FinalError, backoff_ms, classify_exception

OPTIONS = TaskOptions(max_attempts=3)


class BusyError(ValueError):
    pass


def caused_by(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TransientError("later"), FailureKind.TRANSIENT),
        (ConnectionError("gone"), FailureKind.TRANSIENT),
        (ConnectionResetError("gone"), FailureKind.TRANSIENT),
        (TimeoutError("slow"), FailureKind.TRANSIENT),
        (socket.gaierror("no such name"), FailureKind.TRANSIENT),
        (OSError(errno.EHOSTUNREACH, "unreachable"), FailureKind.TRANSIENT),
        (caused_by(RuntimeError("wrapped"), TransientError("later")), FailureKind.TRANSIENT),
        (PermanentError("no"), FailureKind.PERMANENT),
        (caused_by(PermanentError("no"), ConnectionError("gone")), FailureKind.PERMANENT),
        (TaskCancelledError("stop"), FailureKind.PERMANENT),
        (OSError(errno.ENOENT, "no file"), FailureKind.PERMANENT),
        (ValueError("bad"), FailureKind.PERMANENT),
        (KeyError("x"), FailureKind.PERMANENT),
        (RuntimeError("what"), FailureKind.PERMANENT),
        (ZeroDivisionError(), FailureKind.PERMANENT),
        (SystemExit(3), FailureKind.PERMANENT),
        (BusyError("busy"), FailureKind.PERMANENT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_table_of_kinds(error: BaseException, kind: FailureKind) -> None:
    """What is known to pass is transient, everything else is permanent."""
    assert classify_exception(error, OPTIONS, 1).kind is kind


def test_retry_on_adds_to_what_is_transient() -> None:
    """A registration may name its own exceptions, subclasses included; a PermanentError stays what it says."""
    options = TaskOptions(retry_on=(ValueError, PermanentError))

    assert classify_exception(BusyError("busy"), options, 1).is_transient
    assert not classify_exception(PermanentError("no"), options, 1).is_transient


def test_the_last_try_is_permanent() -> None:
    """With max_attempts=3, the second failure is tried again, the third is not, and the message says so."""
    error = TransientError("later", retry_after=5)

    last = classify_exception(error, OPTIONS, 3)

    assert classify_exception(error, OPTIONS, 2).is_transient
    assert (last.kind, last.message, last.retry_after_ms) == (
        FailureKind.PERMANENT,
        "later (code=101) (given up after 3 tries)",
        None,
    )


def test_the_error_may_say_when_and_what_to_keep() -> None:
    """`retry_after` is seconds, and is honoured; `context_update` is passed on, through a chain of causes too."""
    error = TransientError("later", retry_after=0.2, context_update={"done": 50})

    for raised in (error, caused_by(RuntimeError("wrapped"), error)):
        failure = classify_exception(raised, OPTIONS, 1)
        assert (failure.retry_after_ms, failure.context_update) == (200, {"done": 50})


def test_a_task_that_counts_its_own_tries_is_not_counted_twice() -> None:
    """The limit of the registration is for tasks that have none of their own."""
    assert classify_exception(AskedAgainError("later"), OPTIONS, 30).is_transient


def test_what_ends_a_task_whatever_it_is_is_told_as_it_was_raised() -> None:
    """Once, by its own type; an error that would be tried again else is not."""
    try:
        raise ConnectionError("gone")
    except ConnectionError as error:
        failure = classify_exception(FinalError(error, " (given up)"), OPTIONS, 1)

    assert (failure.kind, failure.exception_type, failure.message) == (
        FailureKind.PERMANENT,
        "ConnectionError",
        "gone (given up)",
    )
    assert failure.traceback.rstrip().endswith("ConnectionError: gone")


@pytest.mark.parametrize("after", [math.inf, 1e300])
def test_a_pause_without_end_is_the_longest_there_is(after: float) -> None:
    """It is a number that can be kept: the worker is not to fail with it."""
    assert classify_exception(TransientError("later", retry_after=after), OPTIONS, 1).retry_after_ms == MAX_TIME_MS


@pytest.mark.parametrize("after", [math.nan, "30"])
def test_a_pause_that_is_no_number_is_left_to_the_back_off(after: Any) -> None:
    """What the error says about the task is kept: nobody's mistake about the pause hides it."""
    failure = classify_exception(TransientError("later", retry_after=after), OPTIONS, 1)

    assert (failure.message, failure.retry_after_ms) == ("later (code=101)", None)


def test_an_error_without_wishes_is_left_to_the_back_off() -> None:
    """No retry_after, no context."""
    failure = classify_exception(ConnectionError("gone"), OPTIONS, 1)

    assert (failure.retry_after_ms, failure.context_update, failure.message) == (None, {}, "gone")


def test_a_failure_keeps_type_message_and_traceback() -> None:
    """The traceback leads to the line that raised; foreign types carry their module."""
    try:
        raise BusyError("busy")
    except BusyError as error:
        failure = classify_exception(error, OPTIONS, 1)

    assert failure.exception_type.endswith("test_outcome.BusyError")
    assert classify_exception(KeyError("x"), OPTIONS, 1).exception_type == "KeyError"
    assert 'raise BusyError("busy")' in failure.traceback
    assert "test_a_failure_keeps_type_message_and_traceback" in failure.traceback


def test_an_error_without_text_is_called_by_its_type() -> None:
    """A message is never empty."""
    assert classify_exception(ZeroDivisionError(), OPTIONS, 1).message == "ZeroDivisionError"


def test_a_huge_traceback_keeps_its_head_and_its_tail() -> None:
    """What is stored of an exception is bounded, and shows both ends."""
    failure = classify_exception(ValueError("begin " + "x" * 100_000 + " end"), OPTIONS, 1)

    assert len(failure.traceback) < 13_000
    assert len(failure.message) < 5_000
    assert failure.traceback.startswith("ValueError: begin")
    assert "characters left out" in failure.traceback
    assert failure.traceback.endswith(" end\n")


@pytest.mark.parametrize(
    ("attempt", "jitter", "expected"),
    [(1, 0.0, 500), (1, 0.5, 750), (2, 0.0, 1_000), (3, 0.0, 2_000), (20, 0.0, 30_000), (100_000, 0.0, 30_000)],
)
def test_the_back_off_doubles_up_to_its_cap(attempt: int, jitter: float, expected: int) -> None:
    """Between half and all of base * 2^(attempt - 1), never above the cap."""
    assert backoff_ms(attempt, 1.0, 60.0, jitter) == expected


def test_no_base_means_no_pause() -> None:
    """A registration may ask to be tried again at once."""
    assert backoff_ms(5, 0.0, 60.0, 0.9) == 0
