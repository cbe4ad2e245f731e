"""What is wrong with a definition, one mistake at a time, and the words for it."""

from typing import Any

import pytest

from tests.unit.models.definitions import START, TASKS, after, part, told

UNSOUND: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "a duplicate": (
        [START, {"ref_id": "b"}, START, START],
        [
            "stages[2].ref_id: duplicate ref_id 'start': stages[0] has it already",
            "stages[3].ref_id: duplicate ref_id 'start': stages[0] has it already",
        ],
    ),
    "a name that is a way to somewhere else": (
        [{"ref_id": "."}, {"ref_id": ".."}, {"ref_id": "..."}],
        [f"stages[{at}].ref_id: {name!r} can't stand in a path: take another" for at, name in enumerate((".", ".."))],
    ),
    "an unknown requisite": (
        [{"ref_id": "fetch"}, after("b", "fetsch")],
        ["stages[1].requisite_stage_ref_ids: no stage has the ref_id 'fetsch'; did you mean 'fetch'?"],
    ),
    "a self edge": (
        [after("a", "a")],
        ["stages[0].requisite_stage_ref_ids: stage 'a' requires itself; to repeat it, use a jump (jump_targets)"],
    ),
    "a cycle": (
        [START, after("c", "d"), after("d", "c", "start")],
        [("stages[1].requisite_stage_ref_ids: cycle c -> d -> c; to repeat stages, use a jump (jump_targets)")],
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
        ["stages[2].requisite_stage_ref_ids: 'p' belongs to the parent 'start', but this stage to the top level"],
    ),
    "a merge of several branches": (
        [START, {"ref_id": "b"}, after("c", "start", "b", thread_merge=2)],
        ["stages[2].thread_merge: needs a stage with exactly one requisite; this one has 2"],
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
        [
            "stages[0].split_conditions: the edge to 'b' has no condition and is not the split_default: make it one of them"
        ],
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
                "stages[4].deferred_choice_group: a member of the choice 'g' must have one requisite or none; "
                "this one has several"
            ),
        ],
    ),
    "a choice of which a member gathers threads": (
        [
            {"ref_id": "s", "thread_split": 2},
            after("a", "s", deferred_choice_group="g", thread_merge=2),
            after("b", "s", deferred_choice_group="g"),
        ],
        ["stages[1].thread_merge: has no effect on a member of a choice: each thread is an offer of its own"],
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
            "stages[1].milestone_status: 'SUCEEDED' is not a status; did you mean 'SUCCEEDED'?",
            "stages[1].milestone_ref_id: no stage has the ref_id 'frist'; did you mean 'first'?",
            "stages[2].milestone_status: is missing beside milestone_ref_id",
            "stages[3].milestone_ref_id: is missing beside milestone_status",
            "stages[4].milestone_ref_id: a stage can't be its own milestone",
        ],
    ),
    "a status in small letters": (
        [START, {"ref_id": "a", "milestone_ref_id": "start", "milestone_status": "running"}],
        ["stages[1].milestone_status: 'running' is not a status; did you mean 'RUNNING'?"],
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
        ["stages[0].jump_targets: 's' runs only as part of 'b': jump to that stage"],
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
    "a before stage that waits for an after stage": (
        [{"ref_id": "p"}, part("b", "p", "BEFORE", requisite_stage_ref_ids=["a"]), part("a", "p", "AFTER")],
        ["stages[1].requisite_stage_ref_ids: 'a' runs after the work of the parent, which this stage runs before"],
    ),
    "keys that the whole holds": (
        [
            {"ref_id": "p", "mutex_key": "k", "mutex_limit": 2},
            part("b", "p", "BEFORE", mutex_key="k"),
            part("c", "b", "AFTER"),
            part("d", "c", "AFTER", mutex_key="k", mutex_limit=3),
            {"ref_id": "q", "mutex_key": "k", "mutex_section": "s"},
            part("e", "q", "AFTER", mutex_key="k"),
            part("f", "q", "AFTER", mutex_key="k", mutex_section="t"),
        ],
        [
            f"stages[{at}].mutex_key: '{whole}', of which this stage is a part, holds it until this stage has ended: "
            "that covers both"
            for at, whole in ((1, "p"), (3, "b"), (5, "q"), (6, "q"))
        ],
    ),
    "milestones of parts that come too late": (
        [
            {"ref_id": "x"},
            after("p", "x"),
            part("own", "p", "BEFORE", milestone_ref_id="p", milestone_status="SUCCEEDED"),
            part("next", "p", "BEFORE", milestone_ref_id="m", milestone_status="SUCCEEDED"),
            part("inner", "next", "AFTER", milestone_ref_id="m.after", milestone_status="RUNNING"),
            part("beside", "p", "BEFORE", milestone_ref_id="p.after", milestone_status="RUNNING"),
            part("p.after", "p", "AFTER"),
            after("c", "x"),
            after("j", "p", "c", join_type="OR"),
            after("m", "j"),
            part("m.after", "m", "AFTER"),
        ],
        [
            "stages[2].milestone_status: this stage is a part of 'p': only its status RUNNING can come",
            "stages[3].milestone_ref_id: 'm' comes only after 'p', which waits for this stage",
            "stages[4].milestone_ref_id: 'm.after' comes only after 'next', which waits for this stage",
            "stages[5].milestone_ref_id: 'p.after' comes only after 'p', which waits for this stage",
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
                "nothing waits for the instances"
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
            "stages[0].status: is not part of a definition: the engine sets it",
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
                "stages[0].join_type: 'N_OFM' is not one of AND, OR, MULTI_MERGE, DISCRIMINATOR, N_OF_M; "
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
            {"ref_id": "a", "name": "n" * 256},
            {"ref_id": "b", "tasks": [{"name": "t", "implementing_class": "t" * 501}]},
        ],
        [
            "stages[0].ref_id: text of 201 characters is longer than 200",
            "stages[1].ref_id: must not be empty",
            "stages[2].name: text of 256 characters is longer than 255",
            "stages[3].tasks[0].implementing_class: text of 501 characters is longer than 500",
        ],
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_definition_is_told_what_is_wrong_and_where(name: str) -> None:
    """Every problem is one line with its path, and nothing else is said."""
    stages, wanted = UNSOUND[name]

    assert told(*stages) == wanted
