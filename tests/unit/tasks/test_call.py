"""What task code can know of its call, and how it is asked to stop."""

from threading import Thread
from typing import Any

import pytest

from stabilize_celery.errors import PreconditionError
from stabilize_celery.tasks.call import bind_call, bound_call, current_call, get_signal
from stabilize_celery.tasks.cancellation import (
    CancellationToken,
    TaskCancelledError,
    bind_token,
    current_cancellation_token,
    is_cancellation_requested,
    raise_if_cancellation_requested,
)
from tests.unit.tasks.support import call_with, stage_with


def test_the_call_is_there_inside_the_block_only() -> None:
    """Calls nest, and the outer one comes back."""
    outer, inner = call_with(task_name="outer"), call_with(task_name="inner")

    with bind_call(outer):
        with bind_call(inner):
            assert current_call() is inner
        assert current_call() is outer
    assert bound_call() is None


def test_asking_for_the_call_outside_of_one_says_what_to_do() -> None:
    """The error names bind_call, for tests."""
    with pytest.raises(PreconditionError, match=r"bind one with .*bind_call"):
        current_call()


@pytest.mark.parametrize(
    ("fields", "signal"),
    [
        ({}, (None, {})),
        ({"signal": "go"}, ("go", {})),
        ({"signal": "go", "signal_payload": {"by": "ann"}}, ("go", {"by": "ann"})),
        ({"signal": "go", "signal_payload": 0}, ("go", 0)),
    ],
)
def test_a_task_reads_the_signal_that_woke_it(fields: dict[str, Any], signal: tuple[str | None, Any]) -> None:
    """Name and payload of this execution's signal; a payload that is missing is an empty one."""
    with bind_call(call_with(**fields)):
        assert get_signal(stage_with()) == signal


def test_outside_a_call_there_is_no_signal() -> None:
    """get_signal needs no call: task code can be run by hand."""
    assert get_signal(stage_with(signal="go")) == (None, {})


def test_a_cancellation_from_another_thread_reaches_the_body() -> None:
    """The token is shared, the first reason stays, and the flag is not taken down."""
    token = CancellationToken()
    with bind_token(token):
        assert (is_cancellation_requested(), token.reason) == (False, None)
        raise_if_cancellation_requested()

        canceller = Thread(target=token.cancel, args=("workflow canceled by ann",))
        canceller.start()
        canceller.join()
        token.cancel("another reason")

        assert current_cancellation_token() is token
        assert is_cancellation_requested()
        with pytest.raises(TaskCancelledError, match="stopped on request: workflow canceled by ann"):
            raise_if_cancellation_requested()


def test_outside_a_call_nothing_is_canceled() -> None:
    """Task code that looks at the flag can be run by hand."""
    raise_if_cancellation_requested()

    assert (is_cancellation_requested(), current_cancellation_token()) == (False, None)
