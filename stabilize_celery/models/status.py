"""Statuses of workflows, stages and tasks, and which may follow which.

The tables are those of upstream `stabilize`, and a test enumerates them.
"""

from enum import Enum

from stabilize_celery.errors import InvalidStateTransitionError, RecoveryError

__all__ = [
    "ACTIVE_STATUSES",
    "COMPLETED_STATUSES",
    "CONTINUABLE_STATUSES",
    "HALT_STATUSES",
    "VALID_TRANSITIONS",
    "InvalidStateTransitionError",
    "WorkflowStatus",
    "can_transition",
    "validate_transition",
]


class WorkflowStatus(Enum):
    """How far a workflow, stage or task is; the value is (name, complete, halt)."""

    NOT_STARTED = ("NOT_STARTED", False, False)
    RUNNING = ("RUNNING", False, False)
    PAUSED = ("PAUSED", False, False)
    SUSPENDED = ("SUSPENDED", False, False)
    SUCCEEDED = ("SUCCEEDED", True, False)
    FAILED_CONTINUE = ("FAILED_CONTINUE", True, False)
    TERMINAL = ("TERMINAL", True, True)
    CANCELED = ("CANCELED", True, True)
    REDIRECT = ("REDIRECT", False, False)
    STOPPED = ("STOPPED", True, True)
    SKIPPED = ("SKIPPED", True, False)
    BUFFERED = ("BUFFERED", False, False)

    @property
    def is_complete(self) -> bool:
        """The work has ended, well or not."""
        return self.value[1]

    @property
    def is_halt(self) -> bool:
        """It ended in a way after which nothing downstream runs."""
        return self.value[2]

    @property
    def is_successful(self) -> bool:
        """It ended well: SUCCEEDED or SKIPPED."""
        return self in _SUCCESSFUL_STATUSES

    @property
    def is_failure(self) -> bool:
        """It ended in a failure: TERMINAL, STOPPED or FAILED_CONTINUE."""
        return self in _FAILURE_STATUSES

    @property
    def is_skipped(self) -> bool:
        """It is SKIPPED."""
        return self is WorkflowStatus.SKIPPED

    @property
    def is_dirty(self) -> bool:
        """It is in the middle of something that may be done again: RUNNING or REDIRECT."""
        return self in _DIRTY_STATUSES

    @classmethod
    def stored(cls, name: str) -> "WorkflowStatus":
        """Return the status of a stored name.

        Raises:
            RecoveryError: it is one that only a newer version knows.

        """
        try:
            return cls[name]
        except KeyError:
            told = f"a workflow is {name!r}, which only a newer version of stabilize_celery knows: update this one"
            raise RecoveryError(told) from None

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"WorkflowStatus.{self.name}"


_S = WorkflowStatus

COMPLETED_STATUSES = frozenset({_S.SUCCEEDED, _S.FAILED_CONTINUE, _S.TERMINAL, _S.CANCELED, _S.STOPPED, _S.SKIPPED})
"""The work has ended."""

CONTINUABLE_STATUSES = frozenset({_S.SUCCEEDED, _S.FAILED_CONTINUE, _S.SKIPPED, _S.REDIRECT})
"""What comes downstream may go on."""

HALT_STATUSES = frozenset({_S.TERMINAL, _S.CANCELED, _S.STOPPED})
"""Nothing downstream runs."""

ACTIVE_STATUSES = frozenset({_S.NOT_STARTED, _S.RUNNING, _S.PAUSED, _S.SUSPENDED})
"""The work is still to be done or being done."""

_SUCCESSFUL_STATUSES = frozenset({_S.SUCCEEDED, _S.SKIPPED})
_FAILURE_STATUSES = frozenset({_S.TERMINAL, _S.STOPPED, _S.FAILED_CONTINUE})
_DIRTY_STATUSES = frozenset({_S.RUNNING, _S.REDIRECT})

VALID_TRANSITIONS: dict[WorkflowStatus, frozenset[WorkflowStatus]] = {
    # Loops and restarts make new runs; they don't walk this table.
    _S.NOT_STARTED: frozenset({_S.RUNNING, _S.CANCELED, _S.SKIPPED, _S.BUFFERED, _S.TERMINAL}),
    _S.BUFFERED: frozenset({_S.NOT_STARTED, _S.RUNNING, _S.CANCELED, _S.SKIPPED}),
    _S.RUNNING: frozenset(
        {
            _S.SUCCEEDED,
            _S.FAILED_CONTINUE,
            _S.TERMINAL,
            _S.CANCELED,
            _S.PAUSED,
            _S.STOPPED,
            _S.SUSPENDED,
            _S.REDIRECT,
            _S.SKIPPED,
        }
    ),
    _S.PAUSED: frozenset({_S.RUNNING, _S.CANCELED, _S.STOPPED}),
    _S.SUSPENDED: frozenset({_S.RUNNING, _S.CANCELED, _S.STOPPED}),
    _S.REDIRECT: frozenset({_S.RUNNING, _S.SUCCEEDED, _S.CANCELED}),
    **{status: frozenset() for status in COMPLETED_STATUSES},
}
"""From each status, the statuses that may follow."""


def can_transition(current: WorkflowStatus, target: WorkflowStatus) -> bool:
    """Return whether `target` may follow `current`; staying where one is always may."""
    return current is target or target in VALID_TRANSITIONS[current]


def validate_transition(
    current: WorkflowStatus, target: WorkflowStatus, entity_type: str = "entity", entity_id: str | None = None
) -> None:
    """Check that `target` may follow `current`.

    Raises:
        InvalidStateTransitionError: It may not; the text names `entity_type` and `entity_id`.

    """
    if not can_transition(current, target):
        raise InvalidStateTransitionError(current, target, entity_type, entity_id)
