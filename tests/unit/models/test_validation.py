"""Everything that is wrong with a workflow, in one answer."""

import cProfile
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.models import reducers
from stabilize_celery.models.definition import from_definition
from stabilize_celery.models.limits import MAX_DEFINITION_BYTES, MAX_LISTED_PROBLEMS
from stabilize_celery.models.problems import (
    CircularDependencyError,
    InvalidStageGraphError,
    InvalidWorkflowCycleError,
    InvalidWorkflowError,
    Problem,
)
from stabilize_celery.models.stage import JoinType, SplitType, StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.validation import check, find_definition_problems, find_problems
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.testing import Simulation

TASKS = [{"implementing_class": "work"}]
START: dict[str, Any] = {"ref_id": "start"}


def told(*stages: Any, **settings: object) -> list[str]:
    """Return what is said about a definition of these stages."""
    return [str(problem) for problem in find_definition_problems({"stages": list(stages), **settings})]


def after(ref_id: str, *requisites: str, **fields: object) -> dict[str, Any]:
    return {"ref_id": ref_id, "requisite_stage_ref_ids": list(requisites), **fields}


SOUND: dict[str, list[dict[str, Any]]] = {
    "a sequence": [START, after("b", "start")],
    "an N_OF_M join": [START, after("b", "start"), after("c", "start", "b", join_type="N_OF_M", join_threshold=2)],
    "a threshold of 0 means all": [START, after("c", "start", join_type="N_OF_M")],
    "an exclusive choice with a default": [
        {"ref_id": "x", "split_type": "XOR", "split_conditions": {"a": "n > 1"}, "split_default": "b"},
        after("a", "x"),
        after("b", "x"),
    ],
    "an OR split with an unconditional edge": [
        {"ref_id": "x", "split_type": "OR", "split_conditions": {"a": "n > 1"}},
        after("a", "x"),
        after("b", "x"),
    ],
    "a choice offered by nobody": [
        {"ref_id": "a", "deferred_choice_group": "g"},
        {"ref_id": "b", "deferred_choice_group": "g", "choose_after_ms": 5},
    ],
    "a milestone": [START, {"ref_id": "m", "milestone_ref_id": "start", "milestone_status": "RUNNING"}],
    "a loop by a jump": [START, after("b", "start", jump_targets=["start", "b"], tasks=TASKS)],
    "a counting semaphore": [{"ref_id": "a", "mutex_key": "k", "mutex_limit": 3, "mutex_scope": "WORKFLOW"}],
    "a region and who clears it": [{"ref_id": "a", "cancel_region": "r", "cancels_regions": ["r"]}],
    "instances": [{"ref_id": "a", "mi_config": {"count_from_context": "n", "join_threshold": 2}}],
    "loose instances": [{"ref_id": "a", "mi_config": {"count": 2, "sync_on_complete": False}}],
    "a thread merge": [{"ref_id": "a", "thread_split": 3}, after("b", "a", thread_merge=3)],
    "synthetic stages": [
        START,
        {"ref_id": "p", "parent_stage_id": "start", "synthetic_stage_owner": "STAGE_BEFORE"},
        after("q", "p", parent_stage_id="start", synthetic_stage_owner="STAGE_BEFORE"),
    ],
    "a stage switched off by an expression": [
        {"ref_id": "a", "context": {"stageEnabled": {"type": "expression", "expression": "n > 1"}}}
    ],
    "a reducer": [{"ref_id": "a", "output_reducers": {"k": "collect"}}],
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_definition_is_accepted(name: str) -> None:
    """Nothing is said about what can run."""
    assert told(*SOUND[name]) == []


UNSOUND: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "a duplicate": (
        [START, {"ref_id": "b"}, START, START],
        [
            "stages[2].ref_id: duplicate ref_id 'start': stages[0] has it already",
            "stages[3].ref_id: duplicate ref_id 'start': stages[0] has it already",
        ],
    ),
    "an unknown requisite": (
        [{"ref_id": "fetch"}, after("b", "fetsch")],
        ["stages[1].requisite_stage_ref_ids: no stage has the ref_id 'fetsch'; did you mean 'fetch'?"],
    ),
    "a self edge": (
        [after("a", "a")],
        ["stages[0].requisite_stage_ref_ids: stage 'a' requires itself; loops are made by jumps (jump_targets)"],
    ),
    "a cycle": (
        [START, after("c", "d"), after("d", "c", "start")],
        [
            (
                "stages[1].requisite_stage_ref_ids: cycle c -> d -> c; loops are made by jumps (jump_targets), "
                "not by requisites"
            )
        ],
    ),
    "a join that can't be met": (
        [START, after("b", "start", join_type="N_OF_M", join_threshold=2)],
        ["stages[1].join_threshold: 2 is above the number of requisites (1): the stage could never start"],
    ),
    "a threshold of another join": (
        [{"ref_id": "a", "join_threshold": 1}],
        ["stages[0].join_threshold: 1 has no effect on join_type AND; set join_type N_OF_M or remove it"],
    ),
    "a negative threshold": (
        [{"ref_id": "a", "join_type": "N_OF_M", "join_threshold": -1}],
        ["stages[0].join_threshold: -1 is below 0"],
    ),
    "a requisite of another parent": (
        [START, {"ref_id": "p", "parent_stage_id": "start", "synthetic_stage_owner": "STAGE_AFTER"}, after("x", "p")],
        ["stages[2].requisite_stage_ref_ids: 'p' belongs to the parent 'start', this stage to the top level"],
    ),
    "a merge of several branches": (
        [START, {"ref_id": "b"}, after("c", "start", "b", thread_merge=2)],
        ["stages[2].thread_merge: needs a stage with one requisite, this one has 2"],
    ),
    "threads below one": (
        [{"ref_id": "a", "thread_split": 0, "thread_merge": 0, "mutex_limit": 0, "mutex_key": "k"}],
        [
            "stages[0].thread_split: 0 is below 1",
            "stages[0].thread_merge: 0 is below 1",
            "stages[0].mutex_limit: 0 is below 1",
        ],
    ),
    "a cancelling AND join": (
        [{"ref_id": "a", "join_mode": "CANCELLING"}],
        ["stages[0].join_mode: CANCELLING has no effect on join_type AND; it needs DISCRIMINATOR or N_OF_M"],
    ),
    "a condition for nobody": (
        [
            {"ref_id": "x", "split_type": "OR", "split_conditions": {"bb1": "t", "far": "t"}, "split_default": "x"},
            after("bb2", "x"),
            after("far", "bb2"),
        ],
        [
            "stages[0].split_conditions.bb1: no stage has the ref_id 'bb1'; did you mean 'bb2'?",
            "stages[0].split_conditions.far: 'far' is not directly downstream: it does not require 'x'",
            "stages[0].split_default: 'x' is not directly downstream: it does not require 'x'",
        ],
    ),
    "an exclusive choice with a bare edge": (
        [{"ref_id": "x", "split_type": "XOR", "split_conditions": {"a": "t"}}, after("a", "x"), after("b", "x")],
        ["stages[0].split_conditions: the edge to 'b' has neither a condition nor is it the split_default"],
    ),
    "conditions of an AND split": (
        [{"ref_id": "x", "split_conditions": {"a": "t"}}, after("a", "x")],
        ["stages[0].split_conditions: has no effect on split_type AND; set split_type OR or XOR"],
    ),
    "a default of an AND split": (
        [{"ref_id": "x", "split_default": "a"}, after("a", "x")],
        ["stages[0].split_default: has no effect on split_type AND; set split_type OR or XOR"],
    ),
    "members of a choice apart": (
        [
            START,
            {"ref_id": "other"},
            after("a", "start", deferred_choice_group="g"),
            after("b", "other", deferred_choice_group="g"),
            after("c", "start", "other", deferred_choice_group="g"),
        ],
        [
            "stages[3].deferred_choice_group: members of the choice 'g' must have the same requisite as 'a'",
            (
                "stages[4].deferred_choice_group: a member of the choice 'g' must have one requisite or none, "
                "this one has several"
            ),
        ],
    ),
    "a time to choose without a choice": (
        [{"ref_id": "a", "choose_after_ms": 5}],
        ["stages[0].choose_after_ms: has no effect without a deferred_choice_group"],
    ),
    "milestones that are none": (
        [
            {"ref_id": "first"},
            {"ref_id": "a", "milestone_ref_id": "frist", "milestone_status": "SUCEEDED"},
            {"ref_id": "b", "milestone_ref_id": "first"},
            {"ref_id": "c", "milestone_status": "RUNNING"},
            {"ref_id": "d", "milestone_ref_id": "d", "milestone_status": "RUNNING"},
        ],
        [
            "stages[1].milestone_status: 'SUCEEDED' is no status; did you mean 'SUCCEEDED'?",
            "stages[1].milestone_ref_id: no stage has the ref_id 'frist'; did you mean 'first'?",
            "stages[2].milestone_status: is missing beside milestone_ref_id",
            "stages[3].milestone_ref_id: is missing beside milestone_status",
            "stages[4].milestone_ref_id: a stage can't be its own milestone",
        ],
    ),
    "a status in small letters": (
        [START, {"ref_id": "a", "milestone_ref_id": "start", "milestone_status": "running"}],
        ["stages[1].milestone_status: 'running' is no status; did you mean 'RUNNING'?"],
    ),
    "jumps that can't be": (
        [
            {"ref_id": "a", "jump_targets": ["nowhere"]},
            {"ref_id": "m", "jump_targets": ["a"], "mi_config": {"count": 1}},
            {"ref_id": "s", "jump_targets": ["a"], "parent_stage_id": "a", "synthetic_stage_owner": "STAGE_AFTER"},
        ],
        [
            "stages[0].jump_targets: no stage has the ref_id 'nowhere'",
            "stages[1].jump_targets: a stage with mi_config can't jump",
            "stages[2].jump_targets: a synthetic stage can't jump",
        ],
    ),
    "jumps into a part of a stage": (
        [
            {"ref_id": "a", "jump_targets": ["s"]},
            {"ref_id": "b"},
            {"ref_id": "s", "parent_stage_id": "b", "synthetic_stage_owner": "STAGE_BEFORE"},
        ],
        ["stages[0].jump_targets: 's' runs only as a part of 'b'; jump there"],
    ),
    "before stages that say where threads go": (
        [
            {"ref_id": "b"},
            {"ref_id": "s", "parent_stage_id": "b", "synthetic_stage_owner": "STAGE_BEFORE", "thread_split": 2},
            {"ref_id": "t", "parent_stage_id": "b", "synthetic_stage_owner": "STAGE_BEFORE"},
            {
                "ref_id": "u",
                "parent_stage_id": "b",
                "synthetic_stage_owner": "STAGE_BEFORE",
                "requisite_stage_ref_ids": ["s", "t"],
                "join_type": "DISCRIMINATOR",
            },
        ],
        [
            "stages[1].thread_split: has no effect on a before or after stage; set it on a stage of the top level",
            "stages[3].join_type: has no effect on a before or after stage; set it on a stage of the top level",
        ],
    ),
    "instances that contradict themselves": (
        [
            {"ref_id": "a", "mi_config": {"count": 2, "collection_from_context": "items"}},
            {"ref_id": "b", "mi_config": {"count": 2, "sync_on_complete": False, "join_threshold": 1}},
            {"ref_id": "c", "mi_config": {"count": -1, "max_concurrent": -1}},
            {"ref_id": "d", "mi_config": {"count": 100_001}},
        ],
        [
            "stages[2].mi_config.count: -1 is below 0",
            "stages[2].mi_config.max_concurrent: -1 is below 0",
            "stages[3].mi_config.count: 100001 is above 100000",
            (
                "stages[0].mi_config: has several sources of the number of instances: count, collection_from_context; "
                "keep one"
            ),
            (
                "stages[1].mi_config.join_threshold: has no effect with sync_on_complete false: "
                "nobody waits for the instances"
            ),
        ],
    ),
    "synthetic stages without family": (
        [
            {"ref_id": "a", "synthetic_stage_owner": "STAGE_BEFORE"},
            {"ref_id": "b", "parent_stage_id": "a"},
            {"ref_id": "c", "parent_stage_id": "nobody", "synthetic_stage_owner": "STAGE_BEFORE"},
        ],
        [
            "stages[0].synthetic_stage_owner: is set without a parent_stage_id",
            "stages[1].synthetic_stage_owner: is missing: STAGE_BEFORE or STAGE_AFTER says when the stage runs",
            "stages[2].parent_stage_id: no stage has the ref_id 'nobody'",
        ],
    ),
    "parents of each other": (
        [
            {"ref_id": "a", "parent_stage_id": "b", "synthetic_stage_owner": "STAGE_BEFORE"},
            {"ref_id": "b", "parent_stage_id": "a", "synthetic_stage_owner": "STAGE_BEFORE"},
        ],
        ["stages[0].parent_stage_id: cycle of parents a -> b -> a"],
    ),
    "a mutex without a key": (
        [{"ref_id": "a", "mutex_section": "s", "mutex_limit": 2, "mutex_scope": "WORKFLOW"}],
        [
            "stages[0].mutex_section: has no effect without a mutex_key",
            "stages[0].mutex_limit: has no effect without a mutex_key",
            "stages[0].mutex_scope: has no effect without a mutex_key",
        ],
    ),
    "a region of nobody": (
        [{"ref_id": "a", "cancel_region": "north"}, {"ref_id": "b", "cancels_regions": ["norht"]}],
        ["stages[1].cancels_regions: no stage has the cancel_region 'norht'; did you mean 'north'?"],
    ),
    "an unknown reducer": (
        [{"ref_id": "a", "output_reducers": {"k": "colect"}}],
        ["stages[0].output_reducers.k: no reducer is called 'colect'; did you mean 'collect'?"],
    ),
    "an inner workflow that is not there": (
        [{"ref_id": "a", "sub_workflow": "nobody", "tasks": TASKS, "mi_config": {"count": 1}}],
        [
            "stages[0].sub_workflow: no inner workflow is called 'nobody'",
            "stages[0].tasks: a stage with sub_workflow has no tasks of its own",
            "stages[0].mi_config: a stage with sub_workflow can't have instances",
        ],
    ),
    "a context for no inner workflow": (
        [{"ref_id": "a", "sub_context": {"n": "1"}}],
        ["stages[0].sub_context: has no effect without a sub_workflow"],
    ),
    "a task of no type": (
        [{"ref_id": "a", "tasks": [{"name": "t"}, {"implementing_class": ""}]}],
        [
            "stages[0].tasks[0].implementing_class: is missing",
            "stages[0].tasks[1].implementing_class: must not be empty",
        ],
    ),
    "switches that the engine would not understand": (
        [{"ref_id": "a", "context": {"stageTimeoutMs": 0, "stageEnabled": "no"}}],
        [
            "stages[0].context.stageTimeoutMs: expected a whole number of milliseconds above 0, got 0",
            'stages[0].context.stageEnabled: expected true, false or {"type": "expression", "expression": "..."}',
        ],
    ),
    "unknown fields and fields of the engine": (
        [{"ref_id": "a", "contxt": {}, "status": "RUNNING"}],
        [
            "stages[0].contxt: unknown field; did you mean 'context'?",
            "stages[0].status: is not part of a definition: the engine gives it",
        ],
    ),
    "wrong types": (
        [
            {
                "ref_id": "a",
                "join_type": "N_OFM",
                "tasks": {},
                "split_conditions": {"b": 3, "c": ""},
                "jump_targets": ["x", 5],
                "context": [],
                "terminates_workflow": "yes",
                "scheduled_time": 1.5,
                "mi_config": {"counts": 1},
            }
        ],
        [
            (
                "stages[0].join_type: 'N_OFM' is none of AND, OR, MULTI_MERGE, DISCRIMINATOR, N_OF_M; "
                "did you mean 'N_OF_M'?"
            ),
            "stages[0].tasks: expected a list, got an object",
            "stages[0].split_conditions.b: expected text, got 3",
            "stages[0].split_conditions.c: must not be empty",
            "stages[0].jump_targets[1]: expected text, got 5",
            "stages[0].context: expected an object, got a list",
            "stages[0].terminates_workflow: expected true or false, got 'yes'",
            "stages[0].scheduled_time: expected a whole number or nothing, got 1.5",
            "stages[0].mi_config.counts: unknown field; did you mean 'count'?",
        ],
    ),
    "contexts that are not JSON": (
        [{"ref_id": "a", "context": {"handle": print, "ok": {"deep": [float("nan")]}}}],
        [
            "stages[0].context.handle: object is not JSON: builtin_function_or_method",
            "stages[0].context.ok.deep[0]: number is not JSON: nan",
        ],
    ),
    "names too long and empty": (
        [
            {"ref_id": "r" * 201},
            {"ref_id": ""},
            {"ref_id": "a", "name": "n" * 201},
            {"ref_id": "b", "tasks": [{"name": "t", "implementing_class": "t" * 501}]},
        ],
        [
            "stages[0].ref_id: text of 201 characters is longer than 200",
            "stages[1].ref_id: must not be empty",
            "stages[2].name: text of 201 characters is longer than 200",
            "stages[3].tasks[0].implementing_class: text of 501 characters is longer than 500",
        ],
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_definition_is_told_what_is_wrong_and_where(name: str) -> None:
    """Every problem is one line with its path, and nothing else is said."""
    stages, wanted = UNSOUND[name]

    assert told(*stages) == wanted


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"priority": 10}, "priority: 10 is above 9"),
        ({"priority": -1}, "priority: -1 is below 0"),
        ({"max_jumps": -1}, "max_jumps: -1 is below 0"),
        ({"max_depth": -1}, "max_depth: -1 is below 0"),
        ({"max_jumps": 2**63}, "max_jumps: 9223372036854775808 is above 9223372036854775807"),
        ({"max_depth": 10**30}, f"max_depth: {10**30} is above 9223372036854775807"),
        ({"max_concurrent_executions": 2**64}, f"max_concurrent_executions: {2**64} is above 9223372036854775807"),
        ({"timeout_ms": 0}, "timeout_ms: 0 is below 1"),
        ({"application": "a" * 201}, "application: text of 201 characters is longer than 200"),
        ({"name": 5}, "name: expected text, got 5"),
        ({"type": "PIPE"}, "type: 'PIPE' is none of PIPELINE, ORCHESTRATION; did you mean 'PIPELINE'?"),
        ({"trigger": {"usr": "me"}}, "trigger.usr: unknown field; did you mean 'user'?"),
        ({"trigger": {"artifacts": [{"a": print}]}}, "trigger.artifacts[0].a: object is not JSON: "),
        ({"context": {"a": {1, 2}}}, "context.a: object is not JSON: set; pass a sorted list"),
        ({"context": {"\ud800": 1}}, "context: text is not JSON: it holds half of a surrogate pair"),
        ({"id": "x"}, "id: is not part of a definition: the engine gives it"),
    ],
)
def test_settings_of_the_workflow_are_checked(settings: dict[str, object], wanted: str) -> None:
    """One problem, with the field's name as its path."""
    (only,) = told(START, **settings)

    assert only.startswith(wanted)


def test_no_stages_is_a_problem_whether_missing_or_empty() -> None:
    """A workflow that would run nothing is refused."""
    assert told() == ["stages: there is no stage: nothing would run"]
    assert [str(problem) for problem in find_definition_problems({"name": "n"})] == ["stages: is missing"]
    assert [str(problem) for problem in find_definition_problems([])] == ["expected an object, got a list"]
    assert told(3) == ["stages[0]: expected an object, got 3"]


def test_an_unreadable_name_is_not_held_against_those_who_use_it() -> None:
    """Follow-ups of a field that could not be read are not told; other problems still are."""
    assert told({"ref_id": 5}, after("b", "5"), {"ref_id": "c", "jump_targets": ["nowhere"]}) == [
        "stages[0].ref_id: expected text, got 5"
    ]
    assert told({"ref_id": "a", "join_type": 1}, after("b", "nowhere"))[1:] == [
        "stages[1].requisite_stage_ref_ids: no stage has the ref_id 'nowhere'"
    ]


def test_inner_workflows_are_checked_with_their_path() -> None:
    """An inner workflow may call itself, those beside it and its caller, and nobody else."""
    inner = {"stages": [{"ref_id": "a", "sub_workflow": name} for name in ("main",)], "priority": 10}
    beside = {"stages": [{"ref_id": "a", "sub_workflow": "inner"}, after("b", "x")]}
    outer = {"ref_id": "o", "sub_workflow": "inner"}

    assert told(outer, {"ref_id": "r", "sub_workflow": "main"}, name="main", sub_workflows={"inner": inner}) == [
        "sub_workflows.inner.priority: 10 is above 9"
    ]
    assert told(outer, sub_workflows={"inner": {"stages": [START]}, "beside": beside}) == [
        "sub_workflows.beside.stages[1].requisite_stage_ref_ids: no stage has the ref_id 'x'"
    ]


def test_inner_workflows_inside_themselves_come_to_an_end() -> None:
    """A workflow that contains itself is refused, in Python and in JSON."""
    flow = Workflow(name="n", stages=[StageExecution(ref_id="a")])
    flow.sub_workflows["me"] = flow
    circle: dict[str, object] = {"stages": [START]}
    circle["sub_workflows"] = {"me": circle}

    for problems in (find_problems(flow), find_definition_problems(circle)):
        assert [str(problem) for problem in problems] == [
            "sub_workflows: inner workflows stand inside each other deeper than 10 levels"
        ]


def test_an_expression_outside_the_language_is_told_at_its_path() -> None:
    """Wherever an expression stands: what can't be parsed, calls, or is empty."""
    stages: list[dict[str, Any]] = [
        {"ref_id": "x", "split_type": "OR", "split_conditions": {"a": "n.size", "b": "n > 1"}},
        after("a", "x", mi_config={"count": 1, "completion_condition": "total >"}),
        after("b", "x", context={"stageEnabled": {"type": "expression", "expression": "ready()"}}),
        {"ref_id": "s", "sub_workflow": "me", "sub_context": {"n": "  "}},
    ]
    inner = {"stages": [{"ref_id": "i", "context": {"stageEnabled": {"expression": "2 ** 9"}}}]}

    assert told(*stages, name="me", sub_workflows={"inner": inner}) == [
        "stages[0].split_conditions.a: expression 'n.size': Attribute is not allowed in a condition",
        "stages[1].mi_config.completion_condition: expression 'total >' does not parse: invalid syntax",
        "stages[2].context.stageEnabled.expression: expression 'ready()': Call is not allowed in a condition",
        "stages[3].sub_context.n: an expression must not be empty",
        "sub_workflows.inner.stages[0].context.stageEnabled.expression: expression '2 ** 9': Pow is not allowed in a condition",
    ]


JUMP = [{"name": "back", "implementing_class": "jump"}]


@pytest.mark.parametrize(
    ("context", "says"),
    [
        ({"jump_to": "start", "jump_if": "n >"}, "context.jump_if: expression 'n >' does not parse"),
        ({"jump_to": "start", "jump_unless": "f()"}, "context.jump_unless: expression 'f()': Call is not allowed"),
        ({"jump_to": "strat"}, "context.jump_to: no stage has the ref_id 'strat'; did you mean 'start'?"),
        (
            {"jump_to": "other"},
            "context.jump_to: 'other' is not among the stage's jump_targets ('start'): add it there",
        ),
        ({"jumps": {"back": {"jump_to": ""}}}, "context.jumps.back.jump_to: no stage has the ref_id ''"),
        (
            {"jumps": {"back": {"jump_to": "start", "jump_if": ""}}},
            "context.jumps.back.jump_if: an expression must not",
        ),
        ({"jumps": {"another": {}}, "jump_if": "n."}, "context.jump_if: expression 'n.' does not parse"),
    ],
)
def test_a_ready_made_jump_is_checked_before_it_is_run(context: dict[str, object], says: str) -> None:
    """The last pass of a loop is no place to learn of a typing error."""
    stage = after("b", "start", tasks=JUMP, jump_targets=["start"], context=context)
    (problem,) = told(START, {"ref_id": "other"}, stage)

    assert problem.startswith(f"stages[2].{says}")


@pytest.mark.parametrize(
    "fields",
    [
        {"tasks": JUMP, "context": {}},
        {"tasks": JUMP, "context": {"jump_to": 7, "jump_if": ["n"]}},
        {"tasks": JUMP, "context": {"jumps": "none", "jump_to": "start"}},
        {"tasks": TASKS, "context": {"jump_to": "nowhere", "jump_if": "n >"}},
    ],
)
def test_what_a_jump_may_get_later_is_left_to_it(fields: dict[str, Any]) -> None:
    """An earlier task may give the settings; other tasks may use the names for something else."""
    assert told(START, after("b", "start", jump_targets=["start"], **fields)) == []


def chooses(condition: str) -> StageExecution:
    return StageExecution(ref_id="a", split_type=SplitType.OR, split_conditions={"b": condition})


BAD_STAGES: dict[str, Callable[[], list[StageExecution]]] = {
    "a forbidden expression": lambda: [chooses("open('x')"), StageExecution(ref_id="b", requisite_stage_ref_ids={"a"})],
    "an unknown name": lambda: [StageExecution(ref_id="a", requisite_stage_ref_ids={"x"})],
    "a circle": lambda: [StageExecution(ref_id="a", requisite_stage_ref_ids={"a"})],
    "no JSON": lambda: [StageExecution(ref_id="a", context={"when": object()})],
    "a jump to nowhere": lambda: [
        StageExecution(ref_id="a", context={"jump_to": "x"}, tasks=[TaskExecution.create("back", "jump")])
    ],
    "too large": lambda: [StageExecution(ref_id="a", context={"t": "x" * MAX_DEFINITION_BYTES})],
    "a finished stage's double": lambda: [one := StageExecution(ref_id="a"), one],
}


@pytest.mark.parametrize("bad", BAD_STAGES)
def test_a_definition_is_refused_when_it_is_made_as_it_is_when_it_is_submitted(bad: str) -> None:
    """`create`, `validate`, `find_problems` and the submission say the same, word for word."""
    flow = Workflow(application="shop", name="order", stages=BAD_STAGES[bad]())
    with pytest.raises(InvalidWorkflowError) as made:
        Workflow.create("shop", "order", flow.stages)
    with pytest.raises(InvalidWorkflowError) as validated:
        flow.validate()
    with pytest.raises(InvalidWorkflowError) as submitted:
        Simulation().start(flow)

    assert str(made.value) == str(validated.value) == str(submitted.value)
    assert validated.value.problems == submitted.value.problems == tuple(find_problems(flow))


def test_what_was_changed_since_it_was_made_can_be_checked_again() -> None:
    """`create` looks once; `validate` looks at the workflow as it is now."""
    flow = Workflow.create("shop", "order", [StageExecution(ref_id="a")])
    flow.validate()
    flow.add_stage(StageExecution(ref_id="b", requisite_stage_ref_ids={"A"}))

    with pytest.raises(InvalidWorkflowError, match=r"no stage has the ref_id 'A'; did you mean 'a'\?"):
        flow.validate()


def test_a_registered_reducer_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Custom reducers count in the process that registered them."""
    monkeypatch.setattr(reducers, "_CUSTOM", {"mine": len})

    assert told({"ref_id": "a", "output_reducers": {"k": "mine"}}) == []


def test_ids_are_checked_where_python_gives_them() -> None:
    """A workflow's id is plain, and no id stands twice."""
    task = TaskExecution.create("t", "work")
    flow = Workflow(id="no spaces", stages=[StageExecution(id="1", ref_id="a", tasks=[task])])
    flow.add_stage(StageExecution(id="1", ref_id="b", tasks=[task]))

    assert [str(problem) for problem in find_problems(flow)] == [
        "id: 'no spaces' must be 1 to 128 of the characters A-Z a-z 0-9 . _ -, and not . or ..",
        "stages[1].id: duplicate id '1': stages[0].id has it already",
        f"stages[1].tasks[0].id: duplicate id '{task.id}': stages[0].tasks[0].id has it already",
    ]
    assert find_problems(Workflow(id="order-17_a.b", stages=[StageExecution(ref_id="a")])) == []


@pytest.mark.parametrize("bad", ["", "a" * 129, "a/b", "a\n", "ü"])
def test_an_id_outside_its_characters_is_refused(bad: str) -> None:
    """128 letters, digits, dots, underscores and hyphens at most."""
    assert len(find_problems(Workflow(id=bad, stages=[StageExecution(ref_id="a")]))) == 1


def test_what_python_lets_through_is_found() -> None:
    """Wrong types in the dataclasses, and things that are no stages and tasks."""
    stage = StageExecution(ref_id="a", requisite_stage_ref_ids="bc", tasks=["work"])  # type: ignore[arg-type, list-item]
    stage.split_conditions = None  # type: ignore[assignment]
    flow = Workflow(stages=[stage, "b"])  # type: ignore[list-item]

    assert [str(problem) for problem in find_problems(flow)] == [
        "stages[0].tasks[0]: expected an object, got 'work'",
        "stages[0].requisite_stage_ref_ids: expected a list, got 'bc'",
        "stages[0].split_conditions: expected an object, got nothing",
        "stages[1]: expected an object, got 'b'",
    ]


def test_a_threshold_made_negative_later_is_found() -> None:
    """The dataclass checks when it is made, the definition when it is submitted."""
    stage = StageExecution(ref_id="a", join_type=JoinType.N_OF_M)
    stage.join_threshold = -1

    assert [str(problem) for problem in find_problems(Workflow(stages=[stage]))] == [
        "stages[0].join_threshold: -1 is below 0"
    ]


def test_one_error_has_every_problem() -> None:
    """Duplicate, unknown name and cycle at once; the error is upstream's errors too."""
    stages = [
        StageExecution(ref_id=ref_id, requisite_stage_ref_ids=set(above))
        for ref_id, above in [("a", ""), ("a", ""), ("b", ["nowhere"]), ("c", "d"), ("d", "c")]
    ]
    flow = Workflow(name="by hand", stages=stages)
    with pytest.raises(InvalidWorkflowError) as caught:
        check(flow)

    text = str(caught.value)
    assert text.splitlines()[0] == "workflow 'by hand' is refused, 3 problems:"
    assert all(word in text for word in ("duplicate", "'nowhere'", "cycle c -> d -> c"))
    assert [problem.code for problem in caught.value.problems] == ["duplicate_ref", "unknown_ref", "cycle"]
    assert caught.value.code == "duplicate_ref"
    assert isinstance(caught.value, InvalidStageGraphError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CircularDependencyError)


def test_without_a_cycle_the_error_is_no_circular_dependency() -> None:
    """except CircularDependencyError catches cycles only."""
    with pytest.raises(InvalidWorkflowError) as caught:
        check(Workflow(stages=[]))

    assert not isinstance(caught.value, CircularDependencyError)


@pytest.mark.parametrize("kind", [InvalidWorkflowError, InvalidWorkflowCycleError])
def test_the_error_survives_pickling(kind: type[InvalidWorkflowError]) -> None:
    """It may travel between processes."""
    error = kind([Problem("a", "b", "c")], "n")
    back = pickle.loads(pickle.dumps(error))

    assert (type(back), str(back), back.problems, back.code) == (kind, str(error), error.problems, "c")


def test_shape_and_graph_are_told_together_when_a_definition_is_read() -> None:
    """A pipeline file with a typo and a bad number gets both in one error."""
    raw = {
        "stages": [{"ref_id": "fetch"}, after("load", "fetsch", join_type="N_OF_M", join_threshold=-1)],
    }
    with pytest.raises(InvalidWorkflowError) as caught:
        from_definition(raw)

    assert str(caught.value).splitlines()[1:] == [
        "  stages[1].join_threshold: -1 is below 0",
        "  stages[1].requisite_stage_ref_ids: no stage has the ref_id 'fetsch'; did you mean 'fetch'?",
    ]


def test_a_definition_that_is_too_large_is_refused() -> None:
    """16 MiB as JSON, and not more."""
    (problem,) = find_definition_problems({"stages": [{"ref_id": "a", "context": {"t": "x" * MAX_DEFINITION_BYTES}}]})

    assert problem.code == "too_large"


def test_more_stages_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is a constant of the module."""
    monkeypatch.setattr("stabilize_celery.models.checks.rules.MAX_STAGES", 2)

    assert told(START, {"ref_id": "b"}, {"ref_id": "c"}) == ["stages: 3 stages are more than 2"]


def test_a_text_of_very_many_problems_is_cut_but_the_list_is_not() -> None:
    """Log lines stay readable; programs get everything."""
    flow = Workflow(stages=[StageExecution(ref_id=f"s{at}", requisite_stage_ref_ids={"no"}) for at in range(1500)])
    with pytest.raises(InvalidWorkflowError) as caught:
        check(flow)

    assert len(caught.value.problems) == 1500
    assert str(caught.value).endswith(f"and {1500 - MAX_LISTED_PROBLEMS} more")


def test_a_hostile_key_stays_on_one_line() -> None:
    """A line of the error is a problem, whatever users wrote."""
    (problem,) = told({"ref_id": "a", "context": {"x\n  stages[0]: fine": print}})

    assert "\n" not in problem


def test_the_work_of_checking_grows_with_the_stages_and_no_faster() -> None:
    """Four times the stages take about four times the calls, in a chain and where all join."""

    def calls(count: int) -> int:
        stages: list[dict[str, Any]] = [{"ref_id": "s0"}] + [
            after(f"s{at}", f"s{at - 1}", context={"k": at}) for at in range(1, count)
        ]
        stages.append(after("join", *(f"s{at}" for at in range(count))))
        profile = cProfile.Profile()
        assert profile.runcall(told, *stages) == []
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(2_000) < 4.2 * calls(500)


def test_a_refusal_is_short_however_long_names_and_circles_are() -> None:
    """Logs and terminals get it."""
    stages = [StageExecution(ref_id=f"s{at}", requisite_stage_ref_ids={f"s{(at + 1) % 500}"}) for at in range(500)]
    with pytest.raises(InvalidWorkflowError) as caught:
        check(Workflow(application="a", name="n" * 100_000, stages=stages))

    assert "-> … 480 more -> s0" in str(caught.value)
    assert len(str(caught.value)) < 1_000
