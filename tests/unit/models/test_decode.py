"""Whatever comes over the wire is answered with problems, never with a traceback."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stabilize_celery.models.definition import definition_digest, from_definition, to_definition
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.models.schema import StageDefinition, WorkflowDefinition
from stabilize_celery.models.validation import check, find_definition_problems

NAMES = st.sampled_from(["a", "b", "c", "d", "", "x" * 201])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | NAMES | st.binary(max_size=2)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3)
)
STAGES = st.lists(st.dictionaries(st.sampled_from(StageDefinition.__struct_fields__), ANYTHING, max_size=6), max_size=4)
WORKFLOWS = st.fixed_dictionaries(
    {"stages": STAGES | ANYTHING},
    optional={name: ANYTHING for name in WorkflowDefinition.__struct_fields__ if name != "stages"},
)

LIKELY_STAGE = st.fixed_dictionaries(
    {"ref_id": st.sampled_from("abcdef")},
    optional={
        "requisite_stage_ref_ids": st.lists(st.sampled_from("abcdefz"), max_size=3),
        "join_type": st.sampled_from(["AND", "OR", "N_OF_M", "MULTI_MERGE", "DISCRIMINATOR"]),
        "join_threshold": st.integers(-1, 3),
        "split_type": st.sampled_from(["AND", "OR", "XOR"]),
        "split_conditions": st.dictionaries(st.sampled_from("abcdefz"), st.just("n > 1"), max_size=3),
        "split_default": st.sampled_from("abcz"),
        "parent_stage_id": st.sampled_from("abz"),
        "synthetic_stage_owner": st.sampled_from(["STAGE_BEFORE", "STAGE_AFTER"]),
        "deferred_choice_group": st.sampled_from(["g", "h"]),
        "tasks": st.lists(st.just({"implementing_class": "work"}), max_size=2),
        "context": st.dictionaries(st.text(max_size=3), st.integers(0, 3) | st.lists(st.text(max_size=2)), max_size=2),
        "jump_targets": st.lists(st.sampled_from("abz"), max_size=2),
    },
)


@example({"stages": [{"ref_id": None, "parent_stage_id": ""}]})
@given(WORKFLOWS | ANYTHING)
@settings(max_examples=300, deadline=None)
def test_nothing_that_arrives_makes_validation_fail(raw: Any) -> None:
    """Any value at all gets a list of problems with one line each."""
    for problem in find_definition_problems(raw):
        assert "\n" not in str(problem)
        assert problem.code


@given(st.lists(LIKELY_STAGE, max_size=6))
@settings(max_examples=300, deadline=None)
def test_what_is_accepted_comes_back_the_same(stages: list[dict[str, Any]]) -> None:
    """A definition without problems makes a workflow without problems, and has one digest for ever."""
    raw = {"name": "n", "stages": stages}
    problems = find_definition_problems(raw)
    if problems:
        with pytest.raises(InvalidWorkflowError) as caught:
            check(from_definition(raw))
        assert {problem.path for problem in caught.value.problems} == {problem.path for problem in problems}
        return

    flow = from_definition(raw)
    check(flow)
    definition = to_definition(flow)
    again = json.loads(json.dumps(definition))
    assert to_definition(from_definition(again)) == definition
    assert definition_digest(again) == definition_digest(definition)


def test_the_text_of_a_long_value_is_cut() -> None:
    """A message quotes the beginning of what is wrong, not all of it."""
    (problem,) = find_definition_problems({"stages": [{"ref_id": "a"}], "priority": "x" * 100_000})

    assert len(problem.message) < 200


def test_a_definition_within_its_bounds_is_read_whatever_its_depth() -> None:
    """Inner workflows may stand ten levels inside each other, and not eleven."""
    raw: dict[str, Any] = {"stages": [{"ref_id": "a"}]}
    for _ in range(10):
        raw = {"stages": [{"ref_id": "a"}], "sub_workflows": {"i": raw}}

    assert find_definition_problems(raw) == []
    assert to_definition(from_definition(raw)) == raw
    (problem,) = find_definition_problems({"stages": [{"ref_id": "a"}], "sub_workflows": {"i": raw}})
    assert "deeper than 10 levels" in problem.message
