"""The statuses, their flags and which may follow which."""

import pytest

from stabilize_celery.models.status import (
    ACTIVE_STATUSES,
    COMPLETED_STATUSES,
    CONTINUABLE_STATUSES,
    HALT_STATUSES,
    VALID_TRANSITIONS,
    InvalidStateTransitionError,
    WorkflowStatus,
    can_transition,
    validate_transition,
)

S = WorkflowStatus

FLAGS = {
    # status: complete, halt, successful, failure, dirty
    S.NOT_STARTED: "-----",
    S.RUNNING: "----d",
    S.PAUSED: "-----",
    S.SUSPENDED: "-----",
    S.SUCCEEDED: "c-s--",
    S.FAILED_CONTINUE: "c--f-",
    S.TERMINAL: "ch-f-",
    S.CANCELED: "ch---",
    S.REDIRECT: "----d",
    S.STOPPED: "ch-f-",
    S.SKIPPED: "c-s--",
    S.BUFFERED: "-----",
}

TRANSITIONS = {
    S.NOT_STARTED: "RUNNING CANCELED SKIPPED BUFFERED TERMINAL",
    S.BUFFERED: "NOT_STARTED RUNNING CANCELED SKIPPED",
    S.RUNNING: "SUCCEEDED FAILED_CONTINUE TERMINAL CANCELED PAUSED STOPPED SUSPENDED REDIRECT SKIPPED",
    S.PAUSED: "RUNNING CANCELED STOPPED",
    S.SUSPENDED: "RUNNING CANCELED STOPPED",
    S.REDIRECT: "RUNNING SUCCEEDED CANCELED",
}


@pytest.mark.parametrize("status", S)
def test_every_status_has_the_flags_of_the_specification(status: WorkflowStatus) -> None:
    """The table of flags holds, row by row."""
    flags = [
        (status.is_complete, "c"),
        (status.is_halt, "h"),
        (status.is_successful, "s"),
        (status.is_failure, "f"),
        (status.is_dirty, "d"),
    ]

    assert "".join(letter if flag else "-" for flag, letter in flags) == FLAGS[status]
    assert status.is_skipped == (status is S.SKIPPED)


def test_the_sets_say_what_the_flags_say() -> None:
    """The module's sets agree with the flags."""
    assert {status for status in S if status.is_complete} == COMPLETED_STATUSES
    assert {status for status in S if status.is_halt} == HALT_STATUSES
    assert {S.SUCCEEDED, S.FAILED_CONTINUE, S.SKIPPED, S.REDIRECT} == CONTINUABLE_STATUSES
    assert {S.NOT_STARTED, S.RUNNING, S.PAUSED, S.SUSPENDED} == ACTIVE_STATUSES


@pytest.mark.parametrize("current", S)
def test_only_the_transitions_of_the_table_are_allowed(current: WorkflowStatus) -> None:
    """Every pair of statuses is decided as the table says; staying is always allowed."""
    wanted = {WorkflowStatus[name] for name in TRANSITIONS.get(current, "").split()}

    assert VALID_TRANSITIONS[current] == wanted
    assert {target for target in S if can_transition(current, target)} == wanted | {current}


def test_a_forbidden_transition_says_which_thing_and_which_statuses() -> None:
    """The error names the entity and both statuses."""
    with pytest.raises(InvalidStateTransitionError, match=r"stage 01X.*SUCCEEDED.*RUNNING") as caught:
        validate_transition(S.SUCCEEDED, S.RUNNING, "stage", "01X")

    assert (caught.value.current, caught.value.target) == (S.SUCCEEDED, S.RUNNING)
    assert (caught.value.entity_type, caught.value.entity_id) == ("stage", "01X")


@pytest.mark.parametrize("current", list(S))
def test_what_the_table_allows_passes_and_nothing_else(current: WorkflowStatus) -> None:
    """Staying passes, too."""

    def passes(target: WorkflowStatus) -> bool:
        try:
            validate_transition(current, target)
        except InvalidStateTransitionError:
            return False
        return True

    assert {target for target in S if passes(target)} == VALID_TRANSITIONS[current] | {current}


def test_a_status_reads_as_its_name() -> None:
    """str() is the bare name, repr() names the class, the value carries the two flags."""
    assert str(S.FAILED_CONTINUE) == "FAILED_CONTINUE"
    assert repr(S.FAILED_CONTINUE) == "WorkflowStatus.FAILED_CONTINUE"
    assert S.TERMINAL.value == ("TERMINAL", True, True)
