"""Verifies what a stage's last task brought, before anything downstream sees it; only the check is made again."""

from typing import Any

from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.moves import task_list
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.errors import is_transient
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.verification import VerifierRegistry, VerifyResult
from stabilize_celery.tasks.verification_settings import Check, check_of

__all__ = ["KEY", "held_answer", "verified"]

KEY = "verification"
"""The key in a stage's own context; what is inherited from upstream asks for nothing here."""


def held_answer(claimed: ClaimedTask) -> TaskReturned | None:
    """Return the success of an earlier attempt that is still to be verified, or None."""
    held = claimed.frame.run.held
    if not held:
        return None
    return TaskReturned(claimed.attempt, "SUCCEEDED", held.get("context", {}), held.get("outputs", {}))


def verified(
    returned: TaskReturned, claimed: ClaimedTask, stage: StageExecution, verifiers: VerifierRegistry
) -> TaskReturned:
    """Return `returned` if it passes the stage's check or needs none; else its failure, or that it is asked again.

    Raises:
        ConfigurationError: the check asks for what is not known here.
        Exception: the verifier's own, but for those that say that another try may help.

    """
    frame = claimed.frame
    wanted = frame.context.get(KEY)
    is_last = claimed.message.task_index == len(task_list(frame.plan, frame.run.planned)) - 1
    if returned.status != "SUCCEEDED" or not wanted or not is_last:
        return returned
    check = check_of(wanted, verifiers)
    stage.outputs.update(returned.outputs)
    stage.context.update(returned.context)
    found = _found(check, stage)
    if found.is_terminal and not found.is_failed:
        return returned
    checks = int(frame.run.held.get("checks", 0)) + 1
    if found.is_retry and checks <= check.max_retries:
        held = {"context": returned.context, "outputs": returned.outputs, "checks": checks}
        return TaskReturned(claimed.attempt, "VERIFY", held=held, again_after_ms=max(0, check.retry_after_ms))
    return TaskReturned(claimed.attempt, "TERMINAL", error=_error(found, checks))


def _found(check: Check, stage: StageExecution) -> VerifyResult:
    try:
        found: Any = check.verifier.verify(stage)
    except Exception as error:
        if is_transient(error):
            return VerifyResult.retry(f"{type(error).__name__}: {error}")
        raise
    if not isinstance(found, VerifyResult):
        return VerifyResult.failed(f"the verifier returned {type(found).__name__}, not a VerifyResult")
    return found


def _error(found: VerifyResult, checks: int) -> dict[str, Any]:
    gave_up = f" (given up after {checks} checks)" if found.is_retry else ""
    return {"type": "VerificationError", "message": f"the outputs do not pass: {found.message}{gave_up}"}
