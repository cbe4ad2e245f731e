"""TaskExecution and its snapshot."""

import gc

from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution, mark_ends


def test_a_new_task_is_not_started_and_has_an_id_of_its_own() -> None:
    """Two tasks never share an id."""
    first, second = TaskExecution.create("a", "x"), TaskExecution.create("a", "x")

    assert first.id != second.id
    assert (first.status, first.version, first.stage) == (WorkflowStatus.NOT_STARTED, 0, None)


def test_marks_are_read_through_properties() -> None:
    """The seed's property names mirror the fields."""
    task = TaskExecution(stage_start=True, loop_end=True)

    assert (task.is_stage_start, task.is_stage_end, task.is_loop_start, task.is_loop_end) == (True, False, False, True)


def test_the_stage_is_held_weakly_unless_asked_otherwise() -> None:
    """A task does not keep its stage alive, except after set_stage_strong."""
    weak, strong = TaskExecution(), TaskExecution()
    stage = StageExecution(ref_id="s", tasks=[weak])
    strong.set_stage_strong(StageExecution(ref_id="kept"))
    attached = weak.stage
    assert attached is stage

    del stage, attached
    gc.collect()

    assert not weak.has_stage()
    assert weak.stage is None
    assert strong.stage is not None
    strong.cleanup()
    assert not strong.has_stage()


def test_what_went_wrong_is_kept_under_exception() -> None:
    """set_exception_details stores under the key that readers know."""
    task = TaskExecution()
    task.set_exception_details({"details": "no"})

    assert task.task_exception_details == {"exception": {"details": "no"}}
    assert task.state_snapshot().exception_dict() == {"exception": {"details": "no"}}


def test_a_snapshot_does_not_follow_the_task() -> None:
    """state_snapshot is a frozen copy."""
    task = TaskExecution(name="t", implementing_class="x", version=2)
    snapshot = task.state_snapshot()
    task.status = WorkflowStatus.RUNNING

    assert snapshot.phase_version == ("NOT_STARTED", 2)
    assert task.phase_version == ("RUNNING", 2)
    assert (snapshot.name, snapshot.implementing_class) == ("t", "x")


def test_marking_twice_changes_nothing() -> None:
    """mark_ends is repeatable, and harmless on nothing."""
    tasks = [TaskExecution(), TaskExecution()]
    mark_ends(tasks)
    mark_ends(tasks)
    mark_ends([])

    assert [(task.stage_start, task.stage_end) for task in tasks] == [(True, False), (False, True)]
    assert not any(task.ends_stage_early for task in tasks)


def test_an_authors_mark_ends_the_stage_early() -> None:
    """ends_stage_early is the author's word only."""
    assert TaskExecution(stage_end=True).ends_stage_early
    assert not TaskExecution().ends_stage_early
