"""Workflow: its list of stages, its data, its factories."""

import dataclasses
import gc

import pytest

from stabilize_celery.models.problems import CircularDependencyError, InvalidStageGraphError, InvalidWorkflowError
from stabilize_celery.models.stage import StageExecution, SyntheticStageOwner
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.workflow import PausedDetails, Workflow, WorkflowCriteria, WorkflowType

SEED_FIELDS = [
    "id",
    "type",
    "application",
    "name",
    "status",
    "stages",
    "context",
    "trigger",
    "start_time",
    "end_time",
    "start_time_expiry",
    "is_canceled",
    "canceled_by",
    "cancellation_reason",
    "paused",
    "pipeline_config_id",
    "is_limit_concurrent",
    "max_concurrent_executions",
    "keep_waiting_pipelines",
    "origin",
    "config_version",
    "queue_table",
]


def stage(ref_id: str, *after: str, outputs: dict[str, object] | None = None) -> StageExecution:
    return StageExecution(ref_id=ref_id, requisite_stage_ref_ids=set(after), outputs=outputs or {})


def test_upstreams_fields_come_first_and_in_order() -> None:
    """A program that fills fields by position keeps working."""
    assert [field.name for field in dataclasses.fields(Workflow)][: len(SEED_FIELDS)] == SEED_FIELDS


def test_a_new_workflow_has_the_documented_defaults() -> None:
    """Bounds and priority are those of the specification."""
    flow = Workflow()

    assert (flow.max_jumps, flow.max_depth, flow.timeout_ms, flow.priority) == (100, 10, None, 4)
    assert (flow.type, flow.status, flow.origin) == (WorkflowType.PIPELINE, WorkflowStatus.NOT_STARTED, "unknown")
    assert flow.sub_workflows == {}


def test_stages_are_attached_when_made_and_when_added() -> None:
    """Every stage knows its workflow, every task its stage."""
    first, second = StageExecution(ref_id="a", tasks=[TaskExecution()]), stage("b")
    flow = Workflow(stages=[first])
    flow.add_stage(second)

    assert first.execution is second.execution is flow
    assert first.tasks[0].stage is first


def test_a_removed_stage_is_gone() -> None:
    """remove_stage takes one stage out; an unknown id changes nothing."""
    flow = Workflow(stages=[stage("a"), stage("b")])
    flow.remove_stage(flow.stages[0].id)
    flow.remove_stage("nobody")

    assert [one.ref_id for one in flow.stages] == ["b"]
    assert flow.stage_by_ref_id("a") is None


def test_stages_are_found_whatever_is_done_to_the_list() -> None:
    """Lookups follow insertions, replacements, renames and removals."""
    flow = Workflow(stages=[stage("a"), stage("b"), stage("c")])
    assert flow.stage_by_ref_id("c") is flow.stages[2]

    flow.stages.insert(0, stage("z"))
    assert flow.stage_by_ref_id("c") is flow.stages[3]
    flow.stages[3] = stage("other")
    assert flow.stage_by_ref_id("c") is None
    flow.stages[1].ref_id = "renamed"
    assert flow.stage_by_ref_id("renamed") is flow.stages[1]
    assert flow.stage_by_ref_id("a") is None
    del flow.stages[0]
    assert flow.stage_by_ref_id("b") is flow.stages[1]
    assert flow.stage_by_id(flow.stages[2].id).ref_id == "other"


def test_an_unknown_id_is_an_error_and_an_unknown_ref_id_is_none() -> None:
    """The seed's two lookups differ in how they say no."""
    flow = Workflow(stages=[stage("a")])

    assert flow.stage_by_ref_id("nobody") is None
    with pytest.raises(ValueError, match="nobody"):
        flow.stage_by_id("nobody")


def test_cleanup_empties_the_workflow() -> None:
    """After cleanup nothing refers to anything."""
    one = stage("a")
    flow = Workflow(stages=[one])
    flow.cleanup()

    assert flow.stages == []
    assert not one.has_execution()


def test_initial_and_top_level_stages_leave_out_synthetic_ones() -> None:
    """A before stage starts with its parent, not with the workflow."""
    flow = Workflow(stages=[stage("a"), stage("b", "a")])
    flow.add_stage(StageExecution(ref_id="s", parent_stage_id=flow.stages[0].id))

    assert [one.ref_id for one in flow.initial_stages()] == ["a"]
    assert [one.ref_id for one in flow.top_level_stages()] == ["a", "b"]


def test_the_context_is_what_the_stages_put_out_in_topological_order() -> None:
    """Lists are joined without repeats, else the latest stage wins; the stages' outputs stay untouched."""
    flow = Workflow(
        stages=[
            stage("last", "mid", outputs={"x": 3, "items": [{"k": 1}, 2, 3]}),
            stage("mid", "first", outputs={"x": 2, "items": [2, {"k": 1}]}),
            stage("first", outputs={"x": 1, "items": [1, 2], "only": True}),
        ]
    )

    assert flow.get_context() == {"x": 3, "items": [1, 2, {"k": 1}, 3], "only": True}
    assert flow.stages[2].outputs["items"] == [1, 2]


def test_pausing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """pause and resume keep who, when and how long."""
    clock = iter([1_000, 1_750])
    monkeypatch.setattr("stabilize_celery.models.workflow._now_ms", lambda: next(clock))
    flow = Workflow()
    flow.pause("ops")
    paused = flow.paused or PausedDetails()
    assert (flow.status.name, paused.paused_by, paused.is_paused) == ("PAUSED", "ops", True)
    flow.resume()

    assert (flow.status.name, paused.is_paused) == ("RUNNING", False)
    assert (paused.pause_time, paused.resume_time, paused.paused_ms) == (1_000, 1_750, 750)


def test_a_pause_counts_only_after_the_instant() -> None:
    """paused_duration_relative_to ignores a pause that began before."""
    flow = Workflow(paused=PausedDetails("ops", pause_time=100, resume_time=150, paused_ms=50))

    assert flow.paused_duration_relative_to(99) == 50
    assert flow.paused_duration_relative_to(100) == 0
    assert Workflow().paused_duration_relative_to(0) == 0


def test_cancelling_keeps_who_and_why() -> None:
    """The object is marked; its status is the engine's to change."""
    flow = Workflow()
    flow.cancel("ops", "wrong branch")
    flow.update_status(WorkflowStatus.CANCELED)

    assert (flow.is_canceled, flow.canceled_by, flow.cancellation_reason) == (True, "ops", "wrong branch")
    assert flow.status is WorkflowStatus.CANCELED


def test_create_checks_and_create_orchestration_does_not() -> None:
    """Only create raises; what it raises is upstream's errors."""
    with pytest.raises(InvalidStageGraphError) as unknown:
        Workflow.create("app", "n", [stage("a", "nobody")])
    with pytest.raises(CircularDependencyError):
        Workflow.create("app", "n", [stage("a", "b"), stage("b", "a")])
    assert unknown.value.code == "unknown_ref"
    assert Workflow.create_orchestration("app", "n", []).type is WorkflowType.ORCHESTRATION
    assert Workflow(stages=[stage("a", "nobody")]).stages


def test_what_a_new_workflow_lacks_may_be_added() -> None:
    """Stages, and the parent of a synthetic one; submitted without them it is refused."""
    empty = Workflow.create("app", "n", [])
    parent, before = stage("a"), stage("b")
    before.synthetic_stage_owner = SyntheticStageOwner.STAGE_BEFORE
    linked = Workflow.create("app", "n", [parent, before])
    for unfinished, lack in [(empty, "there are no stages"), (linked, "without a parent_stage_id")]:
        with pytest.raises(InvalidWorkflowError, match=lack):
            unfinished.validate()

    empty.add_stage(stage("a"))
    before.parent_stage_id = parent.id
    empty.validate()
    linked.validate()


def test_create_takes_every_setting() -> None:
    """Trigger, configuration id, context and further fields arrive."""
    trigger = Trigger(type="cron", user="me")
    flow = Workflow.create("app", "n", [stage("a")], trigger, "cfg", {"k": 1}, timeout_ms=5, priority=0)

    assert (flow.trigger, flow.pipeline_config_id, flow.context) == (trigger, "cfg", {"k": 1})
    assert (flow.timeout_ms, flow.priority) == (5, 0)


def test_a_trigger_survives_its_dict() -> None:
    """to_dict and from_dict are inverse; unknown keys are passed over."""
    trigger = Trigger("webhook", "bot", {"a": 1}, [{"b": 2}], {"c": 3})

    assert Trigger.from_dict(trigger.to_dict()) == trigger
    assert Trigger.from_dict({"user": "me", "more": 1}) == Trigger(user="me")


def test_criteria_ask_for_a_page_by_default() -> None:
    """The first twenty, of any status and time."""
    assert WorkflowCriteria() == WorkflowCriteria(20, None, None, None)


def test_a_workflow_can_be_garbage_collected() -> None:
    """Stages do not keep their workflow alive."""
    one = stage("a")
    flow = Workflow(stages=[one])
    assert one.has_execution()
    del flow
    gc.collect()

    assert not one.has_execution()
