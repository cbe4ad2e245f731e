"""Definitions: a workflow as JSON and back."""

import json
from dataclasses import fields
from pathlib import Path

import jsonschema
import msgspec
import pytest

from stabilize_celery.models.definition import (
    definition_digest,
    from_definition,
    inner_definition,
    to_definition,
    workflow_schema,
    write_workflow_schema,
)
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.models.schema import (
    MultiInstanceDefinition,
    StageDefinition,
    TaskDefinition,
    TriggerDefinition,
    WorkflowDefinition,
)
from stabilize_celery.models.stage import (
    JoinMode,
    JoinType,
    MutexScope,
    SplitType,
    StageExecution,
    SyntheticStageOwner,
)
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.workflow import Workflow, WorkflowType

STAGE_STATE = {"id", "status", "outputs", "start_time", "end_time", "version", "_execution"}
TASK_STATE = STAGE_STATE - {"outputs", "_execution"} | {"task_exception_details", "_stage", "_marked_by_stage"}
WORKFLOW_STATE = {"id", "status", "start_time", "end_time", "is_canceled", "canceled_by", "cancellation_reason"} | {
    "paused",
    "queue_table",
    "_by_id",
    "_by_ref_id",
}


def task(name: str = "t") -> TaskExecution:
    return TaskExecution.create(name, "work")


def everything() -> Workflow:
    """A workflow that uses every field of the definition."""
    full = StageExecution(
        ref_id="full",
        type="t",
        name="Full",
        context={"k": [1, {"x": None}]},
        tasks=[TaskExecution(name="a", implementing_class="work", loop_start=True, stage_end=True), task("b")],
        requisite_stage_ref_ids={"z", "a"},
        start_time_expiry=1,
        scheduled_time=2,
        cleanup_on_failure=True,
        finalizer_names=["f"],
        join_type=JoinType.N_OF_M,
        join_threshold=1,
        split_type=SplitType.XOR,
        split_conditions={"y": "a > 1", "b": "True"},
        mi_config=MultiInstanceConfig(count=2, completion_condition="completed > 1"),
        deferred_choice_group="g",
        milestone_ref_id="a",
        milestone_status="RUNNING",
        mutex_key="m",
        cancel_region="r",
        output_reducers={"o": "sum"},
        split_default="y",
        join_mode=JoinMode.BLOCKING,
        thread_split=2,
        thread_merge=3,
        choose_after_ms=4,
        mutex_scope=MutexScope.APPLICATION,
        mutex_section="s",
        mutex_limit=5,
        cancels_regions=["r"],
        terminates_workflow=True,
        jump_targets=["z", "a"],
        sub_workflow="inner",
        sub_context={"n": "1 + 1"},
    )
    before = StageExecution.create_synthetic("t", "Before", full, SyntheticStageOwner.STAGE_BEFORE)
    return Workflow(
        type=WorkflowType.ORCHESTRATION,
        application="app",
        name="all",
        stages=[full, before, StageExecution(ref_id="a"), StageExecution(ref_id="z")],
        context={"c": 1},
        trigger=Trigger("cron", "me", {"p": 1}, [{"a": 1}], {"q": 2}),
        start_time_expiry=9,
        pipeline_config_id="cfg",
        is_limit_concurrent=True,
        max_concurrent_executions=3,
        keep_waiting_pipelines=True,
        origin="api",
        config_version="v1",
        max_jumps=5,
        max_depth=2,
        timeout_ms=1000,
        priority=0,
        sub_workflows={"inner": Workflow(name="inner", stages=[StageExecution(ref_id="i")])},
    )


@pytest.mark.parametrize(
    ("model", "definition", "state"),
    [
        (Workflow, WorkflowDefinition, WORKFLOW_STATE),
        (StageExecution, StageDefinition, STAGE_STATE),
        (TaskExecution, TaskDefinition, TASK_STATE),
        (MultiInstanceConfig, MultiInstanceDefinition, set()),
        (Trigger, TriggerDefinition, set()),
    ],
)
def test_a_definition_has_every_field_of_the_model_but_its_state(
    model: type, definition: type[msgspec.Struct], state: set[str]
) -> None:
    """No field is forgotten, and none is of the definition alone."""
    assert {field.name for field in fields(model)} - state == set(definition.__struct_fields__)


@pytest.mark.parametrize(
    ("model", "definition"),
    [
        (StageExecution(), StageDefinition(ref_id="")),
        (TaskExecution(), TaskDefinition(implementing_class="x")),
        (MultiInstanceConfig(), MultiInstanceDefinition()),
        (Workflow(), WorkflowDefinition(stages=[])),
    ],
)
def test_a_definition_has_the_models_defaults(model: object, definition: msgspec.Struct) -> None:
    """Leaving a field out means the same in Python and in JSON."""
    differing = {
        name
        for name in definition.__struct_fields__
        if name not in {"implementing_class", "requisite_stage_ref_ids", "trigger"}
        and getattr(model, name) != getattr(definition, name)
    }

    assert differing == set()


def test_every_setting_survives_the_way_through_json() -> None:
    """A workflow made from its definition has the same definition, byte for byte."""
    definition = to_definition(everything())
    back = from_definition(json.loads(json.dumps(definition)))

    assert to_definition(back) == definition
    assert set(definition) == set(WorkflowDefinition.__struct_fields__)
    assert set(definition["stages"][0]) | {"parent_stage_id", "synthetic_stage_owner"} == set(
        StageDefinition.__struct_fields__
    )
    assert back.type is WorkflowType.ORCHESTRATION
    assert back.stages[0].mi_config == MultiInstanceConfig(count=2, completion_condition="completed > 1")
    assert back.stages[0].requisite_stage_ref_ids == {"a", "z"}
    assert back.trigger == everything().trigger
    assert isinstance(back.stages[0].join_type, JoinType)


def test_a_definition_is_short_and_has_no_state() -> None:
    """Defaults, ids, statuses, outputs and times are left out; sets are sorted."""
    stage = StageExecution(ref_id="a", tasks=[task()], outputs={"o": 1}, status=WorkflowStatus.RUNNING, start_time=1)
    stage.requisite_stage_ref_ids = {"c", "b"}

    assert to_definition(Workflow(stages=[stage], status=WorkflowStatus.RUNNING)) == {
        "stages": [
            {
                "ref_id": "a",
                "tasks": [{"name": "t", "implementing_class": "work"}],
                "requisite_stage_ref_ids": ["b", "c"],
            }
        ]
    }


def test_marks_that_the_stage_would_make_itself_are_not_written() -> None:
    """Whether an author marks the ends or leaves it to the stage, the definition is one."""
    by_hand = Workflow(stages=[StageExecution(ref_id="a", tasks=[TaskExecution.create("t", "work", True, True)])])
    by_itself = Workflow(stages=[StageExecution(ref_id="a", tasks=[task()])])
    odd = Workflow(stages=[StageExecution(ref_id="a", tasks=[task(), TaskExecution.create("t", "work", True)])])

    assert to_definition(by_hand) == to_definition(by_itself)
    assert to_definition(odd)["stages"][0]["tasks"][1]["stage_start"] is True


def test_a_parent_is_named_by_ref_id_in_a_definition() -> None:
    """Given by id or by ref_id, it is written as the ref_id, and is the new parent's id when read."""
    parent = StageExecution(ref_id="p")
    by_id = StageExecution.create_synthetic("t", "n", parent, SyntheticStageOwner.STAGE_AFTER)
    by_ref = StageExecution(ref_id="x", parent_stage_id="p", synthetic_stage_owner=SyntheticStageOwner.STAGE_AFTER)
    definition = to_definition(Workflow(stages=[parent, by_id, by_ref]))
    back = from_definition(definition)

    assert [stage.get("parent_stage_id") for stage in definition["stages"]] == [None, "p", "p"]
    assert back.stages[0].after_stages() == back.stages[1:]
    assert back.stages[0].id != parent.id


def test_a_definition_shares_nothing_with_the_workflow() -> None:
    """Later changes of a context don't reach it."""
    flow = Workflow(stages=[StageExecution(ref_id="a", context={"l": [1]})])
    definition = to_definition(flow)
    flow.stages[0].context["l"].append(2)

    assert definition["stages"][0]["context"] == {"l": [1]}


def test_the_id_can_be_given() -> None:
    """A stored workflow keeps its id; otherwise it gets a new one."""
    definition = {"stages": [{"ref_id": "a"}]}

    assert from_definition(definition, workflow_id="order-17").id == "order-17"
    assert from_definition(definition).id != from_definition(definition).id


def test_a_wrong_type_in_python_is_refused_with_its_path() -> None:
    """The dataclasses take anything; the definition does not."""
    stage = StageExecution(ref_id="a", mutex_limit="2", context={"h": object()})  # type: ignore[arg-type]
    with pytest.raises(InvalidWorkflowError) as caught:
        to_definition(Workflow(name="n", stages=[stage]))

    assert [problem.path for problem in caught.value.problems] == ["stages[0].context.h", "stages[0].mutex_limit"]
    assert "'n'" in str(caught.value)


def test_the_written_order_of_conditions_is_part_of_the_digest() -> None:
    """For XOR the order decides; the order of all other keys does not count."""
    first = {"name": "n", "stages": [{"ref_id": "a", "split_conditions": {"b": "x", "c": "y"}}]}
    reordered = {"stages": [{"split_conditions": {"b": "x", "c": "y"}, "ref_id": "a"}], "name": "n"}
    swapped = {"name": "n", "stages": [{"ref_id": "a", "split_conditions": {"c": "y", "b": "x"}}]}

    assert definition_digest(first) == definition_digest(reordered)
    assert definition_digest(first) != definition_digest(swapped)
    assert definition_digest({"stages": [], "sub_workflows": {"i": first}}) != definition_digest(
        {"stages": [], "sub_workflows": {"i": swapped}}
    )
    assert len(definition_digest(first)) == 64


def test_digests_stay_what_they_were() -> None:
    """Stored digests are compared with new ones: the canonical form must never change."""
    assert (
        definition_digest({"name": "n", "stages": [{"ref_id": "ü", "context": {"b": 1.5, "a": None}}]})
        == "9e30c1ca580ccfd237b76d0494471e0e4e329639a05c412ce142550415dc45b6"
    )


def test_an_inner_workflow_takes_along_whom_it_may_call() -> None:
    """Its own inner workflows, those beside it, and its caller."""
    outer = {
        "name": "main",
        "stages": [{"ref_id": "m"}],
        "sub_workflows": {
            "one": {"stages": [{"ref_id": "1"}], "sub_workflows": {"deep": {"stages": [{"ref_id": "d"}]}}},
            "two": {"name": "named", "stages": [{"ref_id": "2"}]},
        },
    }
    one = inner_definition(outer, "one")

    assert (one["name"], one["stages"]) == ("one", [{"ref_id": "1"}])
    assert set(one["sub_workflows"]) == {"main", "one", "two", "deep"}
    assert inner_definition(one, "main")["stages"] == outer["stages"]
    assert set(inner_definition(inner_definition(one, "main"), "two")["sub_workflows"]) >= {"main", "one", "two"}
    assert inner_definition(outer, "two")["name"] == "named"
    assert inner_definition(outer, "main") == outer
    with pytest.raises(KeyError, match="nobody"):
        inner_definition(outer, "nobody")


def test_the_schema_accepts_what_is_written_and_refuses_unknown_fields() -> None:
    """A definition made here validates against the published schema."""
    validator = jsonschema.Draft202012Validator(workflow_schema())
    definition = to_definition(everything())

    validator.validate(definition)
    assert not validator.is_valid({**definition, "stagess": []})
    assert not validator.is_valid({"stages": [{"ref_id": "a", "thread_split": 0}]})
    assert not validator.is_valid({"name": "no stages"})


def test_every_field_of_the_schema_is_described() -> None:
    """Editors show one sentence on each field."""
    described = workflow_schema()["$defs"]
    silent = [
        f"{kind}.{name}"
        for kind, shape in described.items()
        for name, field in shape.get("properties", {}).items()
        if "description" not in field
    ]

    assert silent == []


def test_the_schema_in_docs_is_up_to_date(tmp_path: Path) -> None:
    """docs/workflow.schema.json is what the code would write (`make docs`)."""
    written = tmp_path / "workflow.schema.json"
    write_workflow_schema(written)
    published = Path(__file__).parents[3] / "docs" / "workflow.schema.json"

    assert published.read_text(encoding="utf-8") == written.read_text(encoding="utf-8")
