"""Assertions and verifiers: what holds gives the value, what does not names stage, key and problem."""

from collections.abc import Callable

import pytest

from stabilize_celery.errors import (
    ConfigError,
    ContextError,
    OutputError,
    PreconditionError,
    StabilizeError,
    StageNotReadyError,
    VerificationError,
)
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks import assertions as a
from stabilize_celery.tasks.verification import CallableVerifier, OutputVerifier, Verifier, VerifyResult
from tests.unit.tasks.support import stage_with


def with_outputs(**outputs: object) -> StageExecution:
    return StageExecution(ref_id="a", outputs=dict(outputs))


def below(status: WorkflowStatus) -> tuple[Workflow, StageExecution]:
    above = StageExecution(ref_id="above", status=status)
    stage = StageExecution(ref_id="a", requisite_stage_ref_ids={"above"})
    return Workflow.create("app", "flow", [above, stage]), stage


def test_assertions_that_hold_give_the_value() -> None:
    """They can stand where the value is needed."""
    a.assert_true(True, "")
    a.assert_config(True, "")
    a.assert_verified(True, "")

    assert a.assert_context(stage_with(n=None), "n") is None
    assert a.assert_context_type(stage_with(n=1), "n", int) == 1
    assert a.assert_context_in(stage_with(n=1), "n", [1, 2]) == 1
    assert a.assert_output(with_outputs(n=1), "n") == 1
    assert a.assert_output_type(with_outputs(n=1), "n", int) == 1
    assert a.assert_not_none(0, "") == 0
    assert a.assert_non_empty([0], "") == [0]


@pytest.mark.parametrize(
    ("check", "error", "text"),
    [
        (lambda: a.assert_true(False, "no"), PreconditionError, "no"),
        (lambda: a.assert_context(stage_with(), "n"), ContextError, "stage 'a': the context has no 'n'"),
        (lambda: a.assert_context(stage_with(), "n", "say n"), ContextError, "say n"),
        (
            lambda: a.assert_context_type(stage_with(n="1"), "n", int),
            ContextError,
            "stage 'a': context value 'n' is str, expected int",
        ),
        (lambda: a.assert_context_in(stage_with(n=3), "n", [1]), ContextError, "'n' is 3, expected one of [1]"),
        (lambda: a.assert_output(with_outputs(), "n"), OutputError, "stage 'a': there is no output 'n'"),
        (lambda: a.assert_output_type(with_outputs(n="1"), "n", int), OutputError, "output 'n' is str, expected int"),
        (lambda: a.assert_config(False, "bad", "port"), ConfigError, "bad"),
        (lambda: a.assert_verified(False, "wrong", {"n": 1}), VerificationError, "wrong"),
        (lambda: a.assert_not_none(None, "none"), PreconditionError, "none"),
        (lambda: a.assert_non_empty("", "empty"), PreconditionError, "empty"),
    ],
)
def test_assertions_that_do_not_hold_say_what_is_wrong(
    check: Callable[[], object], error: type[StabilizeError], text: str
) -> None:
    """Each has its own error type, and a text of its own unless one is given."""
    with pytest.raises(error) as caught:
        check()

    assert text in str(caught.value)


def test_a_stage_is_ready_when_everything_above_is_done() -> None:
    """A stage above that still runs is named as the reason."""
    done, ready = below(WorkflowStatus.SUCCEEDED)
    running, not_ready = below(WorkflowStatus.RUNNING)

    a.assert_stage_ready(ready)
    a.assert_no_upstream_failures(ready)
    with pytest.raises(StageNotReadyError, match="stage 'a': not everything upstream is done"):
        a.assert_stage_ready(not_ready)
    assert len(done.stages) == len(running.stages)


def test_a_failure_above_is_found() -> None:
    """A TERMINAL stage above fails the assertion."""
    workflow, stage = below(WorkflowStatus.TERMINAL)

    with pytest.raises(StageNotReadyError, match="something upstream has failed"):
        a.assert_no_upstream_failures(stage)
    assert workflow.stages


@pytest.mark.parametrize(
    ("outputs", "ok", "text"),
    [
        ({"url": "x", "n": 1}, True, ""),
        ({"n": 1}, False, "stage 'a': Missing required outputs: url"),
        ({"url": "x", "n": "1"}, False, "stage 'a': Type errors: n: expected int, got str"),
        ({"url": "x"}, True, ""),
    ],
)
def test_the_output_verifier_checks_presence_and_types(outputs: dict[str, object], ok: bool, text: str) -> None:
    """A type is checked only where the output is there."""
    found = OutputVerifier(["url"], {"n": int}).verify(with_outputs(**outputs))

    assert (found.is_ok, found.is_failed) == (ok, not ok)
    assert text in found.message


def test_results_of_a_check_tell_what_comes_next() -> None:
    """Of a skipped check nothing is known, but it is over; RETRY is not the last word."""
    assert [result.is_ok for result in (VerifyResult.ok(), VerifyResult.skipped())] == [True, False]
    assert (VerifyResult.skipped().is_failed, VerifyResult.skipped().is_terminal) == (False, True)
    assert (VerifyResult.retry().is_retry, VerifyResult.retry().is_terminal) == (True, False)
    assert (VerifyResult.failed("no", {"n": 1}).is_terminal, VerifyResult.failed("no", {"n": 1}).details) == (
        True,
        {"n": 1},
    )


def test_a_function_is_a_verifier_with_its_own_pace() -> None:
    """Retries and the pause between them are the function's registration's, or the defaults."""
    verifier: Verifier = CallableVerifier(lambda _stage: VerifyResult.ok(), max_retries=5, retry_delay=0.5)

    assert verifier.verify(with_outputs()).is_ok
    assert (verifier.max_retries, verifier.retry_delay_seconds) == (5, 0.5)
    assert (OutputVerifier().max_retries, OutputVerifier().retry_delay_seconds) == (3, 1.0)
