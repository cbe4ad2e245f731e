"""What a broker brings becomes a message; what is none says why."""

from __future__ import annotations

import pytest

from stabilize_celery.models.messages import MESSAGE_TYPES, AcquireLock, Message, RunTask
from stabilize_celery.runtime.ports import outgoing
from stabilize_celery.transport.incoming import message_of, split_task_id

RUN = RunTask(workflow_id="W", ref_id="a/b:c", thread="t", task_index=2, task_type="charge", instance=1)


@pytest.mark.parametrize(
    "message",
    [
        RUN,
        AcquireLock(workflow_id="W", ref_id="a", thread="", request=3),
        *(
            kind(workflow_id="W")
            for kind in MESSAGE_TYPES.values()
            if not [field for field in kind.__struct_fields__ if field != "workflow_id"]
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_sent_is_what_arrives(message: Message) -> None:
    """Also where an id is empty, which is not sent."""
    sent = outgoing(message, "q")
    assert message_of(type(message), sent.task_id, sent.kwargs) == message


def test_ids_that_a_newer_version_adds_are_left_out() -> None:
    """The ledger's entry has them still."""
    sent = outgoing(RUN, "q")
    assert message_of(RunTask, sent.task_id, {**sent.kwargs, "wave": 7}) == RUN


@pytest.mark.parametrize("task_id", ["W/Run:other", "no-slash", "/x", "X/Run:t.1.2"])
def test_a_message_under_a_foreign_id_is_refused(task_id: str) -> None:
    """Heartbeats and duplicates are told by the id."""
    with pytest.raises(ValueError, match="Celery task id must be"):
        message_of(RunTask, task_id, outgoing(RUN, "q").kwargs)


def test_a_message_that_lacks_ids_is_refused() -> None:
    """With the name of what is wrong."""
    with pytest.raises(ValueError, match="task_index"):
        message_of(RunTask, "W/Run:t..0", {"workflow_id": "W", "thread": "t"})


def test_a_task_id_is_split_at_its_first_slash() -> None:
    """Ledger names hold ref_ids, which may have any sign in them."""
    assert split_task_id("W/Eval:a/b/c") == ("W", "Eval:a/b/c")
