"""StageExecution: fields, attachment, tasks, factories."""

import dataclasses
import gc

import pytest

from stabilize_celery.models.stage import StageExecution, SyntheticStageOwner
from stabilize_celery.models.stage.engine_keys import (
    ENGINE_CONTEXT_KEYS,
    HIDDEN_FROM_TASK_INPUT,
    caller_context,
)
from stabilize_celery.models.stage.enums import JoinMode, JoinType, MutexScope, SplitType
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow

SEED_FIELDS = [
    "id",
    "ref_id",
    "type",
    "name",
    "status",
    "context",
    "outputs",
    "tasks",
    "requisite_stage_ref_ids",
    "parent_stage_id",
    "synthetic_stage_owner",
    "start_time",
    "end_time",
    "start_time_expiry",
    "scheduled_time",
    "version",
    "cleanup_on_failure",
    "finalizer_names",
    "join_type",
    "join_threshold",
    "split_type",
    "split_conditions",
    "mi_config",
    "deferred_choice_group",
    "milestone_ref_id",
    "milestone_status",
    "mutex_key",
    "cancel_region",
]


def test_the_seeds_fields_come_first_and_in_order() -> None:
    """A program that fills fields by position keeps working."""
    names = [field.name for field in dataclasses.fields(StageExecution)]

    assert names[: len(SEED_FIELDS)] == SEED_FIELDS


def test_a_new_stage_has_the_documented_defaults() -> None:
    """Defaults are those of the specification."""
    stage = StageExecution()

    assert len(stage.id) == 26
    assert stage.status is WorkflowStatus.NOT_STARTED
    assert (stage.join_type, stage.join_mode, stage.join_threshold) == (JoinType.AND, JoinMode.STRUCTURED, 0)
    assert (stage.split_type, stage.split_default) == (SplitType.AND, None)
    assert (stage.thread_split, stage.thread_merge) == (1, None)
    assert (stage.mutex_scope, stage.mutex_limit, stage.mutex_section) == (MutexScope.GLOBAL, 1, None)
    assert (stage.cancels_regions, stage.jump_targets, stage.sub_context) == ([], [], {})
    assert (stage.terminates_workflow, stage.sub_workflow, stage.choose_after_ms) == (False, None, None)


def test_a_negative_threshold_of_an_n_of_m_join_is_refused_at_once() -> None:
    """The seed's check stands; other join types ignore the number here."""
    with pytest.raises(ValueError, match="join_threshold must be >= 0"):
        StageExecution(join_type=JoinType.N_OF_M, join_threshold=-1)
    assert StageExecution(join_threshold=-1).join_threshold == -1


def test_an_unattached_stage_says_so() -> None:
    """Without a workflow there is no execution, and lists are empty."""
    stage = StageExecution(ref_id="a", requisite_stage_ref_ids={"b"})

    assert not stage.has_execution()
    assert stage.upstream_stages() == stage.downstream_stages() == stage.ancestors() == []
    with pytest.raises(ValueError, match="not attached"):
        _ = stage.execution


def test_the_workflow_is_held_weakly_unless_asked_otherwise() -> None:
    """A stage does not keep its workflow alive, except after set_execution_strong."""
    weak, strong = StageExecution(ref_id="w"), StageExecution(ref_id="s")
    workflow = Workflow(name="n", stages=[weak, strong])
    strong.set_execution_strong(workflow)
    assert weak.execution is workflow

    del workflow
    gc.collect()
    assert strong.execution.name == "n"
    assert weak.has_execution()
    strong.cleanup()
    gc.collect()

    assert not weak.has_execution()
    with pytest.raises(ValueError, match="garbage collected"):
        _ = weak.execution


def test_the_first_and_last_task_are_marked_when_nobody_did() -> None:
    """A stage marks its ends itself."""
    one = StageExecution(tasks=[TaskExecution.create("a", "x")])
    three = StageExecution(tasks=[TaskExecution.create(name, "x") for name in "abc"])

    assert [(task.stage_start, task.stage_end) for task in one.tasks] == [(True, True)]
    assert [(task.stage_start, task.stage_end) for task in three.tasks] == [
        (True, False),
        (False, False),
        (False, True),
    ]


def test_marks_of_the_author_stay_as_they_are() -> None:
    """One explicit mark anywhere, and the stage marks nothing."""
    stage = StageExecution(tasks=[TaskExecution.create("a", "x"), TaskExecution.create("b", "x", stage_start=True)])

    assert [(task.stage_start, task.stage_end) for task in stage.tasks] == [(False, False), (True, False)]


def test_a_task_added_later_is_the_new_last_one() -> None:
    """Marks that the stage made move on; they never end it early."""
    first, second = TaskExecution.create("a", "x"), TaskExecution.create("b", "x")
    stage = StageExecution(tasks=[first])
    stage.tasks.append(second)

    assert stage.next_task(first) is second
    Workflow(stages=[stage])
    assert [(task.stage_start, task.stage_end) for task in stage.tasks] == [(True, False), (False, True)]


def test_tasks_follow_one_another_to_the_marked_end() -> None:
    """next_task ends behind the last task, and behind one that its author marked as the last."""
    tasks = [TaskExecution.create(name, "x") for name in "abc"]
    stage = StageExecution(tasks=tasks)
    cut = StageExecution(tasks=[TaskExecution.create("a", "x", stage_end=True), TaskExecution.create("b", "x")])

    assert stage.has_tasks()
    assert stage.first_task() is tasks[0]
    assert [stage.next_task(task) for task in tasks] == [tasks[1], tasks[2], None]
    assert cut.next_task(cut.tasks[0]) is None
    assert stage.next_task(TaskExecution()) is None
    assert StageExecution().first_task() is None


def test_a_synthetic_stage_belongs_to_its_parent() -> None:
    """create_synthetic gives a ref_id of its own, the parent, the owner and the parent's workflow."""
    parent = StageExecution.create("deploy", "Deploy", "d", {"k": 1}, {"build"})
    workflow = Workflow(stages=[parent])

    made = StageExecution.create_synthetic("wait", "Wait", parent, SyntheticStageOwner.STAGE_AFTER, {"s": 1})

    assert (made.parent_stage_id, made.synthetic_stage_owner) == (parent.id, SyntheticStageOwner.STAGE_AFTER)
    assert made.execution is workflow
    assert made.ref_id not in ("", parent.ref_id)
    assert (parent.context, parent.requisite_stage_ref_ids) == ({"k": 1}, {"build"})


def test_a_snapshot_does_not_follow_the_stage() -> None:
    """state_snapshot is a frozen copy, sorted by key."""
    stage = StageExecution(ref_id="a", context={"z": 1, "a": 2}, outputs={"o": 3}, version=4, start_time=5)

    snapshot = stage.state_snapshot()
    stage.context["a"] = 99
    stage.status = WorkflowStatus.RUNNING

    assert snapshot.context == (("a", 2), ("z", 1))
    assert snapshot.context_dict() == {"a": 2, "z": 1}
    assert snapshot.outputs_dict() == {"o": 3}
    assert snapshot.phase_version == ("NOT_STARTED", 4)
    assert stage.phase_version == ("RUNNING", 4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.version = 5  # type: ignore[misc]


def test_choices_compare_equal_to_their_names() -> None:
    """A definition's text and the enum's member are the same to Python."""
    assert JoinType.N_OF_M == "N_OF_M"
    assert str(SplitType.XOR) == "XOR"
    assert MutexScope("WORKFLOW") is MutexScope.WORKFLOW


def test_the_engines_old_context_keys_are_told_from_the_authors() -> None:
    """caller_context leaves what the author wrote; tasks may see a signal's name and data."""
    context = {"mine": 1, "_jump_count": 2, "_signal_data": 3, "_loop_token": 4}

    assert caller_context(context) == {"mine": 1}
    assert {"_signal_name", "_signal_data"} == ENGINE_CONTEXT_KEYS - HIDDEN_FROM_TASK_INPUT


def test_two_stages_with_the_same_content_are_equal_whoever_holds_them() -> None:
    """Back references take no part in comparing."""
    first = StageExecution(id="1", ref_id="a", tasks=[TaskExecution(id="t")])
    second = StageExecution(id="1", ref_id="a", tasks=[TaskExecution(id="t")])
    workflow = Workflow(stages=[first])

    assert first == second
    assert workflow.stages == [second]


def test_a_list_of_requisites_is_taken_like_a_set() -> None:
    """`create` copies whatever names it is given."""
    given = ["a", "b", "a"]

    assert StageExecution.create("t", "n", "c", requisite_stage_ref_ids=given).requisite_stage_ref_ids == {"a", "b"}


def test_cleanup_detaches_the_tasks_too() -> None:
    """Nothing refers to the stage afterwards."""
    stage = StageExecution(tasks=[TaskExecution()])
    stage.cleanup()

    assert not stage.tasks[0].has_stage()


def test_siblings_go_on_after_a_failure_only_where_asked() -> None:
    """The switch is off unless the context sets it."""
    assert not StageExecution().allow_sibling_stages_to_continue_on_failure
    assert StageExecution(
        context={"allowSiblingStagesToContinueOnFailure": True}
    ).allow_sibling_stages_to_continue_on_failure
