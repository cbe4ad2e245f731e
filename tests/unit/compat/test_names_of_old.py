"""Conditions, schemas and verifiers under their old names: they do what programs written for `stabilize` expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stabilize_celery import (
    Condition,
    ConditionReason,
    ConditionSet,
    ConditionType,
    SchemaValidator,
    TaskRegistry,
    ValidationError,
    VerifyResult,
    get_verifier,
    is_valid,
    register_verifier,
    validate_context,
    validate_outputs,
    verifier,
)
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.verification import SHARED
from stabilize_celery.testing import run_workflow


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a test makes known to the process is unknown to the next one."""
    own = SHARED.layers[0]
    before = dict(own)
    yield
    own.clear()
    own.update(before)


# -- conditions --------------------------------------------------------------------------------------------------------


def test_a_condition_goes_through_json_and_back() -> None:
    """Usual texts are the enumeration's members again, others stay texts."""
    ours = ConditionSet([Condition.ready(True, "TasksSucceeded", "done"), Condition("Backed up", False, "NoDisk")])

    again = ConditionSet.from_list(ours.to_list())

    assert again.all() == ours.all()
    ready = again.get(ConditionType.READY)
    assert ready is not None
    assert (ready.reason, ready.message) == (ConditionReason.TASKS_SUCCEEDED, "done")
    assert "Backed up" in again


def test_the_time_of_a_condition_is_that_of_its_last_change() -> None:
    """Another message alone changes nothing but the generation."""
    first = Condition.progressing(True, ConditionReason.IN_PROGRESS)
    told, ended = first.update(message="half"), first.update(status=False, reason="Done")

    assert (told.last_transition_time, told.observed_generation) == (first.last_transition_time, 1)
    assert ended.last_transition_time > first.last_transition_time
    assert (told.message, told.status, ended.status, ended.reason) == ("half", True, False, "Done")


def test_a_set_has_one_of_each_type_and_answers_in_short() -> None:
    """Of a configuration that nothing is said of, nothing is wrong."""
    conditions = ConditionSet()
    assert (conditions.is_ready, conditions.has_failed, conditions.is_config_valid) == (False, False, True)

    conditions.set(Condition.ready(False, "Initializing"))
    conditions.set(Condition.ready(True, "StageCompleted"))
    conditions.set(Condition.failed("Timeout", "too late"))
    conditions.set(Condition.verified(True, "VerificationPassed"))
    conditions.set(Condition.config_valid(False, "ConfigError"))
    assert (conditions.is_ready, conditions.has_failed, conditions.is_config_valid) == (True, True, False)
    assert (conditions.is_verified, conditions.is_progressing, len(conditions)) == (True, False, 4)

    conditions.remove(ConditionType.FAILED)
    conditions.remove("unknown")
    assert not conditions.has_failed
    conditions.clear()
    assert list(conditions) == []


# -- schemas -----------------------------------------------------------------------------------------------------------

SERVER = {
    "type": "object",
    "required": ["host"],
    "properties": {
        "host": {"type": "string", "minLength": 1},
        "ports": {"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": True},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "schema", "constraint"),
    [
        ("a", {"type": "integer"}, "type"),
        (True, {"type": "integer"}, "type"),
        (True, {"type": "number"}, "type"),
        (None, {"type": ["string", "integer"]}, "type"),
        ("c", {"enum": ["a", "b"]}, "enum"),
        (2, {"const": 1}, "const"),
        ("", {"minLength": 1}, "minLength"),
        ("abc", {"maxLength": 2}, "maxLength"),
        ("abc", {"pattern": "^b"}, "pattern"),
        (0, {"minimum": 1}, "minimum"),
        (2, {"maximum": 1}, "maximum"),
        (1, {"exclusiveMinimum": 1}, "exclusiveMinimum"),
        (1, {"exclusiveMaximum": 1}, "exclusiveMaximum"),
        (3, {"multipleOf": 2}, "multipleOf"),
        ([], {"minItems": 1}, "minItems"),
        ([1, 2], {"maxItems": 1}, "maxItems"),
        ([{"a": 1}, {"a": 1}], {"uniqueItems": True}, "uniqueItems"),
        ({}, {"minProperties": 1}, "minProperties"),
        ({"a": 1}, {"maxProperties": 0}, "maxProperties"),
        ({}, {"required": ["a"]}, "required"),
        ({"a": 1}, {"additionalProperties": False}, "additionalProperties"),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, "type"),
    ],
)
def test_each_constraint_is_told_by_its_name(value: Any, schema: dict[str, Any], constraint: str) -> None:
    """And what breaks one is not valid."""
    (problem,) = SchemaValidator(schema).validate(value)

    assert problem.constraint == constraint
    assert not is_valid(value, schema)


@pytest.mark.parametrize("value", [{"host": "a"}, {"host": "a", "ports": [1, 2]}, {"host": "a", "ports": []}])
def test_what_keeps_a_schema_is_valid(value: dict[str, Any]) -> None:
    """Names that may be absent are not asked for."""
    assert is_valid(value, SERVER)
    assert validate_context(value, SERVER) == []


def test_all_problems_are_found_with_the_place_of_each() -> None:
    """As a path that one can follow."""
    found = validate_outputs({"ports": [1, 0, "x"], "name": "n"}, SERVER)

    assert sorted(problem.path for problem in found) == ["host", "name", "ports[1]", "ports[2]"]
    assert str(found[0]) == "host: is required"
    assert str(ValidationError("", "is wrong")) == "is wrong"


# -- verifiers ---------------------------------------------------------------------------------------------------------


def test_a_verifier_of_the_process_is_found_by_every_registry() -> None:
    """A registry's own one of that name goes before it."""

    @verifier("compat positive")
    def positive(stage: StageExecution) -> VerifyResult:
        return VerifyResult.ok() if stage.outputs["n"] > 0 else VerifyResult.failed("n is not positive")

    register_verifier("compat never", lambda _: VerifyResult.failed("never"))
    registry = TaskRegistry()
    registry.register_verifier("compat never", lambda _: VerifyResult.ok("ours"))
    stage = StageExecution(ref_id="s", outputs={"n": 1})

    assert get_verifier("compat positive").verify(stage).is_ok
    assert registry.get_verifier("compat positive").verify(stage).is_ok
    assert registry.get_verifier("compat never").verify(stage).message == "ours"
    with pytest.raises(ConfigurationError, match=r"no verifier 'compat positiv'.*did you mean 'compat positive'"):
        registry.get_verifier("compat positiv")


@pytest.mark.parametrize(("n", "status"), [(1, "SUCCEEDED"), (-1, "TERMINAL")])
def test_a_stage_is_checked_by_a_verifier_of_the_process(n: int, status: str) -> None:
    """As by one of its worker's registry."""
    register_verifier(
        "compat sign", lambda stage: VerifyResult.ok() if stage.outputs["n"] > 0 else VerifyResult.failed("negative")
    )
    context = {"verification": {"type": "callable", "callable": "compat sign"}}
    stage = StageExecution(ref_id="a", context=context, tasks=[TaskExecution.create("t", "emit")])
    done = run_workflow(Workflow.create("tests", "checked", [stage]), {"emit": lambda _: {"n": n}})

    assert done.status.name == status
