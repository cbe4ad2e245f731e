"""The shape of a definition: its fields, their types, ranges and defaults, and one sentence on each.

These types decode a definition and make its JSON Schema. Names and defaults are those of the model's dataclasses; a
test holds the two together. What a shape can't say (names, cycles, contradictions) is in `models.checks`.
"""

from inspect import cleandoc
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stabilize_celery.models.limits import (
    DEFAULT_PRIORITY,
    MAX_COUNT,
    MAX_INSTANCES,
    MAX_NAME_LENGTH,
    MAX_REF_ID_LENGTH,
    MAX_TASK_TYPE_LENGTH,
    MAX_THREADS,
    MAX_TIME_MS,
)
from stabilize_celery.models.stage.enums import JoinMode, JoinType, MutexScope, SplitType, SyntheticStageOwner

__all__ = [
    "MultiInstanceDefinition",
    "StageDefinition",
    "TaskDefinition",
    "TriggerDefinition",
    "WorkflowDefinition",
    "workflow_schema",
]

_AtLeastZero = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_AtLeastOne = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
_Time = Annotated[int, Meta(ge=0, le=MAX_TIME_MS)]
_Duration = Annotated[int, Meta(ge=1, le=MAX_TIME_MS)]
_Name = Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
_RefId = Annotated[str, Meta(min_length=1, max_length=MAX_REF_ID_LENGTH)]
_Expression = Annotated[str, Meta(min_length=1)]
_JsonObject = dict[str, Any]


def _says(text: str) -> Meta:
    return Meta(description=text)


class TaskDefinition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One task of a stage; tasks run one after another."""

    implementing_class: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_TASK_TYPE_LENGTH,
            description="Task type: a name in the workers' registry.",
        ),
    ]
    name: Annotated[_Name, _says("What people call it.")] = ""
    stage_start: Annotated[bool, _says("First task of the stage; set by itself when no task is marked.")] = False
    stage_end: Annotated[bool, _says("Last task of the stage; set by itself when no task is marked.")] = False
    loop_start: Annotated[bool, _says("Begins a loop inside the stage.")] = False
    loop_end: Annotated[bool, _says("Ends a loop inside the stage.")] = False


class MultiInstanceDefinition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How many instances of a stage run side by side (WCP-12 to 15, 26, 27, 34 to 36)."""

    count: Annotated[int, Meta(ge=0, le=MAX_INSTANCES), _says("Number of instances.")] = 0
    count_from_context: Annotated[str, _says("Context key of the number of instances.")] = ""
    sync_on_complete: Annotated[bool, _says("False: nobody waits for the instances.")] = True
    allow_dynamic: Annotated[bool, _says("Instances may be added while others run.")] = False
    collection_from_context: Annotated[str, _says("Context key of a list: one instance per item.")] = ""
    join_threshold: Annotated[_AtLeastZero, _says("Go on after this many instances; 0 = after all.")] = 0
    cancel_remaining: Annotated[bool, _says("Cancel unfinished instances when the thread goes on.")] = False
    completion_condition: Annotated[
        _Expression | None, _says("Expression over completed, total, active: true = go on.")
    ] = None
    max_concurrent: Annotated[_AtLeastZero, _says("Instances at work at the same time; 0 = no limit.")] = 0


class StageDefinition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One stage of the graph."""

    ref_id: Annotated[_RefId, _says("The stage's name for other stages; unique in the workflow.")]
    type: Annotated[str, _says("Kind of stage, for people and builders.")] = ""
    name: Annotated[_Name, _says("What people call it.")] = ""
    context: Annotated[_JsonObject, _says("Inputs that its tasks read; switches such as failPipeline.")] = {}
    tasks: Annotated[list[TaskDefinition], _says("Run one after another; none = nothing to do.")] = []
    requisite_stage_ref_ids: Annotated[list[str], _says("The stages that it waits for; none = starts at once.")] = []
    parent_stage_id: Annotated[str | None, _says("Of a synthetic stage: its parent's ref_id.")] = None
    synthetic_stage_owner: Annotated[
        SyntheticStageOwner | None, _says("Of a synthetic stage: before or after its parent's tasks.")
    ] = None
    start_time_expiry: Annotated[_Time | None, _says("Skipped if not started by then (epoch milliseconds).")] = None
    scheduled_time: Annotated[_Time | None, _says("Not started before then (epoch milliseconds).")] = None
    cleanup_on_failure: Annotated[bool, _says("Run the finalizers when it fails, too.")] = False
    finalizer_names: Annotated[list[str], _says("Finalizers, registered in the workers, run when it ends.")] = []
    join_type: Annotated[JoinType, _says("What it waits for where several branches meet.")] = JoinType.AND
    join_threshold: Annotated[_AtLeastZero, _says("N_OF_M: branches waited for; 0 = all.")] = 0
    split_type: Annotated[SplitType, _says("Which outgoing edges are taken.")] = SplitType.AND
    split_conditions: Annotated[
        dict[str, _Expression], _says("Downstream ref_id -> expression; for XOR the order counts.")
    ] = {}
    mi_config: Annotated[MultiInstanceDefinition | None, _says("Several instances of this stage at once.")] = None
    deferred_choice_group: Annotated[
        _Name | None, _says("Stages of one group are offered together; the outside picks one.")
    ] = None
    milestone_ref_id: Annotated[str | None, _says("Starts only while this stage has milestone_status.")] = None
    milestone_status: Annotated[str | None, _says("The name of a status.")] = None
    mutex_key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)] | None,
        _says("Held from the start of a run to its end."),
    ] = None
    cancel_region: Annotated[_Name | None, _says("The region that it belongs to.")] = None
    output_reducers: Annotated[
        dict[str, str], _says("Output key -> reducer (collect, sum, …) where branches meet.")
    ] = {}
    split_default: Annotated[str | None, _says("Downstream ref_id taken when no condition holds.")] = None
    join_mode: Annotated[JoinMode, _says("What becomes of branches that were not waited for.")] = JoinMode.STRUCTURED
    thread_split: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_THREADS)], _says("Threads on every taken outgoing edge.")
    ] = 1
    thread_merge: Annotated[_AtLeastOne | None, _says("Threads of its one requisite that become one.")] = None
    choose_after_ms: Annotated[
        _Time | None, _says("When offered, it chooses itself after this time (milliseconds).")
    ] = None
    mutex_scope: Annotated[MutexScope, _says("Who shares the mutex_key.")] = MutexScope.GLOBAL
    mutex_section: Annotated[_Name | None, _says("Stages of one key and section are one critical section.")] = None
    mutex_limit: Annotated[_AtLeastOne, _says("Runs that may hold the key at the same time.")] = 1
    cancels_regions: Annotated[list[str], _says("Regions cancelled when it completes.")] = []
    terminates_workflow: Annotated[bool, _says("The workflow ends when it completes.")] = False
    jump_targets: Annotated[list[str], _says("Stages that its tasks may jump to.")] = []
    sub_workflow: Annotated[str | None, _says("Inner workflow that it runs, instead of tasks.")] = None
    sub_context: Annotated[dict[str, _Expression], _says("The inner workflow's context: name -> expression.")] = {}


class TriggerDefinition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What started the workflow."""

    type: Annotated[str, _says("Kind of trigger: manual, cron, webhook, …")] = "manual"
    user: Annotated[str, _says("Who started it.")] = "anonymous"
    parameters: Annotated[_JsonObject, _says("Parameters of the run.")] = {}
    artifacts: Annotated[list[_JsonObject], _says("What it works on.")] = []
    payload: Annotated[_JsonObject, _says("What the trigger brought along.")] = {}


class WorkflowDefinition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A pipeline as it is submitted: a graph of stages and its settings."""

    stages: Annotated[list[StageDefinition], Meta(description="The graph; edges are requisite_stage_ref_ids.")]
    type: Annotated[Literal["PIPELINE", "ORCHESTRATION"], _says("A pipeline, or a few stages run ad hoc.")] = "PIPELINE"
    application: Annotated[_Name, _says("The application that it belongs to.")] = ""
    name: Annotated[_Name, _says("The pipeline's name.")] = ""
    context: Annotated[_JsonObject, _says("Initial values that every stage sees.")] = {}
    trigger: Annotated[TriggerDefinition, _says("What started it.")] = msgspec.field(default_factory=TriggerDefinition)
    start_time_expiry: Annotated[_Time | None, _says("Cancelled if not started by then (epoch milliseconds).")] = None
    pipeline_config_id: Annotated[_Name | None, _says("Workflows of one id share a limit of executions.")] = None
    is_limit_concurrent: Annotated[bool, _says("Whether max_concurrent_executions counts.")] = False
    max_concurrent_executions: Annotated[_AtLeastZero, _says("That limit; 0: none.")] = 0
    keep_waiting_pipelines: Annotated[bool, _says("Waiting workflows stay when another one comes.")] = False
    origin: Annotated[_Name, _says("Where it was submitted.")] = "unknown"
    config_version: Annotated[_Name | None, _says("Version of the configuration that it was made from.")] = None
    max_jumps: Annotated[_AtLeastZero, _says("Jumps of all stages together.")] = 100
    max_depth: Annotated[_AtLeastZero, _says("Depth of calls of inner workflows.")] = 10
    timeout_ms: Annotated[
        _Duration | None, _says("How long it may run (milliseconds); a delayed start does not count.")
    ] = None
    priority: Annotated[int, Meta(ge=0, le=9, description="0 goes first, 9 last.")] = DEFAULT_PRIORITY
    sub_workflows: Annotated[
        dict[str, "WorkflowDefinition"], _says("Inner workflows by name; sub_workflow refers to them.")
    ] = {}


def workflow_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a definition."""
    schema = msgspec.json.schema(WorkflowDefinition)
    for shape in schema["$defs"].values():
        if "description" in shape:  # a docstring, which Python 3.13 reads without its indentation, earlier ones with it
            shape["description"] = cleandoc(shape["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "stabilize_celery workflow definition",
        **schema,
    }
