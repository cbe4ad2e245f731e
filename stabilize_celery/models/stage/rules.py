"""What a stage's status follows from: the decision tables of the seed, in order; the first matching row wins.

Core = the before stages and the tasks; after = the after stages. Source: the seed's determine_status, and row 2b of
upstream 0.33 (planning of before stages failed).
"""

from collections.abc import Callable
from dataclasses import dataclass

from stabilize_celery.models.status import WorkflowStatus

__all__ = ["DETERMINE_STATUS", "FAILURE_STATUS", "StatusParts", "determine_status", "failure_status"]

_S = WorkflowStatus
_UNFINISHED = frozenset({_S.NOT_STARTED, _S.RUNNING})
_DONE = frozenset({_S.SUCCEEDED, _S.SKIPPED, _S.FAILED_CONTINUE})


@dataclass(frozen=True)
class StatusParts:
    """All that a stage's status depends on."""

    own: WorkflowStatus
    core: frozenset[WorkflowStatus]
    after: frozenset[WorkflowStatus]
    on_failure: WorkflowStatus
    planning_failed: bool = False

    @property
    def idle(self) -> bool:
        """The stage was started and has nothing to do of its own."""
        return not self.core and self.own is _S.RUNNING

    @property
    def after_unfinished(self) -> bool:
        """Some after stage is still to be done."""
        return bool(self.after & _UNFINISHED)


_Condition = Callable[[StatusParts], bool]
_Result = Callable[[StatusParts], WorkflowStatus]


def _in_core(status: WorkflowStatus) -> _Condition:
    return lambda parts: status in parts.core


def _in_after(status: WorkflowStatus) -> _Condition:
    return lambda parts: status in parts.after


def _is(status: WorkflowStatus) -> _Result:
    return lambda _parts: status


def _on_failure(parts: StatusParts) -> WorkflowStatus:
    return parts.on_failure


DETERMINE_STATUS: tuple[tuple[str, _Condition, _Result], ...] = (
    # Each row: its number in the table of the specification, when it applies, what follows.
    ("1", lambda parts: parts.idle and parts.after_unfinished, _is(_S.RUNNING)),
    ("2", lambda parts: parts.idle and _S.TERMINAL in parts.after, _is(_S.TERMINAL)),
    ("2b", lambda parts: parts.idle and parts.planning_failed, _on_failure),
    ("3", lambda parts: parts.idle, _is(_S.SUCCEEDED)),
    ("4", lambda parts: not parts.core, _is(_S.NOT_STARTED)),
    ("5", _in_core(_S.TERMINAL), _on_failure),
    ("6", _in_core(_S.STOPPED), _is(_S.STOPPED)),
    ("7", _in_core(_S.CANCELED), _is(_S.CANCELED)),
    ("8", _in_core(_S.PAUSED), _is(_S.PAUSED)),
    ("9", _in_core(_S.BUFFERED), _is(_S.BUFFERED)),
    ("10", _in_core(_S.SUSPENDED), _is(_S.SUSPENDED)),
    ("11", lambda parts: bool(parts.core & _UNFINISHED), _is(_S.RUNNING)),
    ("12", lambda parts: not parts.core <= _DONE, _is(_S.RUNNING)),
    ("13 terminal", _in_after(_S.TERMINAL), _is(_S.TERMINAL)),
    ("13 stopped", _in_after(_S.STOPPED), _is(_S.STOPPED)),
    ("13 canceled", _in_after(_S.CANCELED), _is(_S.CANCELED)),
    ("14", lambda parts: parts.after_unfinished, _is(_S.RUNNING)),
    ("15", _in_core(_S.FAILED_CONTINUE), _is(_S.FAILED_CONTINUE)),
    ("16", lambda _parts: True, _is(_S.SUCCEEDED)),
)

FAILURE_STATUS: tuple[tuple[bool | None, bool | None, WorkflowStatus | None], ...] = (
    # (continuePipelineOnFailure, failPipeline, status); None matches both, and stands for the caller's default
    (True, None, _S.FAILED_CONTINUE),
    (None, True, None),
    (None, False, _S.STOPPED),
)


def determine_status(parts: StatusParts) -> WorkflowStatus:
    """Return the status of a stage made of `parts`."""
    return next(result(parts) for _row, condition, result in DETERMINE_STATUS if condition(parts))


def failure_status(
    continue_on_failure: bool, fail_pipeline: bool, default: WorkflowStatus = WorkflowStatus.TERMINAL
) -> WorkflowStatus:
    """Return what a failing stage becomes."""
    found = next(
        status
        for continues, fails, status in FAILURE_STATUS
        if _matches(continues, continue_on_failure) and _matches(fails, fail_pipeline)
    )
    return default if found is None else found


def _matches(wanted: bool | None, given: bool) -> bool:
    return wanted is None or wanted == given
