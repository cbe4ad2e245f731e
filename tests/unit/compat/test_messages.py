"""Messages by upstream's names: made, read and named as there; the engine's own are no business of a program."""

from __future__ import annotations

import pytest

from stabilize_celery.compat import (
    MESSAGE_TYPES,
    CeleryQueue,
    CompleteTask,
    RedisWorkflowStore,
    SignalStage,
    StageLevel,
    StartStage,
    StartWorkflow,
    TaskLevel,
    WorkflowLevel,
    create_message_from_dict,
    get_message_type_name,
)
from stabilize_celery.models.status import WorkflowStatus


def test_each_message_is_read_of_its_fields() -> None:
    """What it does not have is left out; statuses are told by their names."""
    for name, kind in MESSAGE_TYPES.items():
        made = create_message_from_dict(name, {"execution_id": "w", "nothing": 1})
        assert (type(made), made.execution_id, get_message_type_name(made)) == (kind, "w", name)

    signal = create_message_from_dict("SignalStage", {"stage_id": "s", "signal_name": "go", "signal_data": {"n": 1}})
    assert signal == SignalStage(stage_id="s", signal_name="go", signal_data={"n": 1}, created_at=signal.created_at)
    ended = create_message_from_dict("CompleteTask", {"task_id": "t", "status": "TERMINAL"})
    assert isinstance(ended, CompleteTask)
    assert ended.status is WorkflowStatus.TERMINAL


def test_a_message_is_about_a_workflow_a_stage_or_a_task() -> None:
    """One about a part is made of one about the whole."""
    about_all = StartWorkflow(execution_id="w")
    about_stage = StartStage.from_execution_level(about_all, "s")
    about_task = CompleteTask.from_stage_level(about_stage, "t")

    assert (about_task.execution_id, about_task.stage_id, about_task.task_id) == ("w", "s", "t")
    assert [isinstance(one, StageLevel) for one in (about_all, about_stage, about_task)] == [False, True, True]
    assert isinstance(about_task, TaskLevel)
    assert isinstance(about_all, WorkflowLevel)


def test_a_message_notes_its_deliveries() -> None:
    message = StartWorkflow(execution_id="w")
    message.set_error_context(ValueError("no"))

    again = message.copy_with_attempts(3)

    assert (again.attempts, again.last_error, again.last_error_type, message.attempts) == (3, "no", "ValueError", 0)


def test_what_can_not_be_read_is_told() -> None:
    with pytest.raises(ValueError, match="unknown message type 'Stop'; there are StartWorkflow"):
        create_message_from_dict("Stop", {})
    with pytest.raises(ValueError, match=r"CompleteTask\.status: there is no 'DONE'; there are NOT_STARTED"):
        create_message_from_dict("CompleteTask", {"status": "DONE"})


@pytest.mark.parametrize(
    ("name", "instead"),
    [("StartStage", "orchestrator.start"), ("JumpToStage", "TaskResult.jump_to"), ("CompleteTask", "itself")],
)
def test_the_engine_s_own_are_refused_when_pushed(name: str, instead: str) -> None:
    """With what a program does in place of it."""
    queue = CeleryQueue()
    queue.serve(RedisWorkflowStore("memory://"))

    with pytest.raises(TypeError, match=f"{name} can't be pushed: .*{instead}"):
        queue.push(create_message_from_dict(name, {"execution_id": "w"}))
