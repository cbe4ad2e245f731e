"""Workflows that want a second key while they hold a first one: by nested stages, inner workflows and sections."""

from random import Random
from typing import Any

from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from tests.simulation.stories import stage

BEFORE, AFTER = SyntheticStageOwner.STAGE_BEFORE, SyntheticStageOwner.STAGE_AFTER


def mutex(key: str, **more: Any) -> dict[str, Any]:
    """The fields of a stage with a key; `crane` is a semaphore of two."""
    return {"mutex_key": key, "mutex_limit": 2 if key == "crane" else 1, **more}


def around(parent: StageExecution, owner: SyntheticStageOwner, *made: StageExecution) -> list[StageExecution]:
    """The parent and what is planned around it."""
    for one in made:
        one.parent_stage_id, one.synthetic_stage_owner = parent.id, owner
    return [parent, *made]


def nested(first: str, second: str, owner: SyntheticStageOwner = BEFORE, **more: Any) -> list[StageExecution]:
    """Stage `load` holds the first key; stage `check` before or after it wants the second."""
    return around(stage("load", **mutex(first), **more), owner, stage("check", **mutex(second)))


def gated(first: str, second: str) -> list[StageExecution]:
    """The same, but `check` asks only after the signal `go` to stage `gate`."""
    gate = stage("gate", does="approval", context={"signal": "go"})
    return around(stage("load", **mutex(first)), BEFORE, gate, stage("check", "gate", **mutex(second)))


def calling(first: str, second: str) -> list[StageExecution]:
    """Stage `call` holds the first key and runs an inner workflow whose stage `inside` wants the second."""
    task = {"name": "work", "implementing_class": "work"}
    inside = {"ref_id": "inside", "type": "test", "name": "inside", "tasks": [task], **mutex(second)}
    inner = {"application": "tests", "name": "inner", "stages": [inside]}
    return [stage("call", does="sub_workflow", context={"workflow": inner}, **mutex(first))]


def joining(first: str, second: str) -> list[StageExecution]:
    """A section of `begin` and `end` holds the first key; `end` joins `begin` with `outside`, which wants the second."""
    section = mutex(first, mutex_section="section")
    begin = stage("begin", "start", **section)
    outside = stage("outside", "start", "later", **mutex(second))
    return [stage("start"), stage("later"), begin, outside, stage("end", "begin", "outside", **section)]


def nested_after(first: str, second: str) -> list[StageExecution]:
    """The same, and `check` is after it."""
    return nested(first, second, AFTER)


SHAPES = (nested, nested_after, calling, joining)


def any_stages(random: Random, keys: list[str]) -> list[StageExecution]:
    """One of the shapes, with keys that may be the same where that is not refused."""
    shape, first = random.choice(SHAPES), random.choice(keys)
    is_refused = shape in (nested, nested_after) and first != "crane"
    return shape(first, random.choice([key for key in keys if key != first or not is_refused]))
