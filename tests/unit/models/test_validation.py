"""Everything that is wrong with a workflow, in one answer."""

from typing import Any

import pytest

from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.validation import find_definition_problems, find_problems
from stabilize_celery.models.workflow import Workflow
from tests.unit.models.definitions import START, TASKS, after, part, told

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
    "an after stage that names a before stage": [
        START,
        part("p", "start", "BEFORE"),
        part("q", "start", "AFTER", requisite_stage_ref_ids=["p"]),
    ],
    "keys of parts that are free": [
        {"ref_id": "a", "mutex_key": "k", "mutex_section": "s"},
        part("in", "a", "BEFORE", mutex_key="k", mutex_section="s"),
        part("other", "a", "BEFORE", mutex_key="l"),
        part("scope", "a", "BEFORE", mutex_key="k", mutex_scope="WORKFLOW"),
        {"ref_id": "b", "mutex_key": "n", "mutex_limit": 2},
        part("second", "b", "BEFORE", mutex_key="n", mutex_limit=2),
    ],
    "milestones of parts that can come": [
        START,
        part("parent", "start", "BEFORE", milestone_ref_id="start", milestone_status="RUNNING"),
        part("beside", "start", "BEFORE", milestone_ref_id="parent", milestone_status="SUCCEEDED"),
        part("not yet", "start", "BEFORE", milestone_ref_id="m", milestone_status="NOT_STARTED"),
        part("other way", "start", "BEFORE", milestone_ref_id="n", milestone_status="RUNNING"),
        part("not in it", "start", "BEFORE", milestone_ref_id="elsewhere", milestone_status="SUCCEEDED"),
        {"ref_id": "elsewhere"},
        after("m", "start"),
        after("n", "start", "elsewhere", join_type="MULTI_MERGE"),
    ],
    "a milestone of a part that an earlier pass may have brought": [
        {"ref_id": "x", "split_type": "XOR", "split_conditions": {"p": "n == 2"}, "split_default": "c"},
        after("p", "x"),
        part("b", "p", "BEFORE", milestone_ref_id="j", milestone_status="SUCCEEDED"),
        after("c", "x"),
        after("j", "p", "c", join_type="OR", jump_targets=["x"], tasks=TASKS),
    ],
    "a milestone of a part that a jump may bring": [
        START,
        part("b", "start", "BEFORE", milestone_ref_id="m", milestone_status="SUCCEEDED"),
        {"ref_id": "elsewhere", "jump_targets": ["m"], "tasks": TASKS},
        after("m", "start"),
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
        ({"application": "a" * 256}, "application: text of 256 characters is longer than 255"),
        ({"name": 5}, "name: expected text, got 5"),
        ({"type": "PIPE"}, "type: 'PIPE' is not one of PIPELINE, ORCHESTRATION; did you mean 'PIPELINE'?"),
        ({"trigger": {"usr": "me"}}, "trigger.usr: unknown field; did you mean 'user'?"),
        ({"trigger": {"artifacts": [{"a": print}]}}, "trigger.artifacts[0].a: object is not JSON: "),
        ({"context": {"a": {1, 2}}}, "context.a: object is not JSON: set; pass a sorted list"),
        ({"context": {"\ud800": 1}}, "context: text is not JSON: it holds half of a surrogate pair"),
        ({"id": "x"}, "id: is not part of a definition: the engine sets it"),
    ],
)
def test_settings_of_the_workflow_are_checked(settings: dict[str, object], wanted: str) -> None:
    """One problem, with the field's name as its path."""
    (only,) = told(START, **settings)

    assert only.startswith(wanted)


def test_no_stages_is_a_problem_whether_missing_or_empty() -> None:
    """A workflow that would run nothing is refused."""
    assert told() == ["stages: there are no stages: nothing would run"]
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
            "sub_workflows: inner workflows are nested deeper than 10 levels"
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
