"""Definitions: a workflow as a short JSON object, without ids and runtime state, and back.

Only what differs from the default is written. `parent_stage_id` is the parent's ref_id here, since ids are given anew
to every workflow that is started.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from stabilize_celery.models.decode import decode_workflow
from stabilize_celery.models.encode import encode_workflow, fields_of
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.problems import Problem, refusal
from stabilize_celery.models.schema import StageDefinition, TaskDefinition, WorkflowDefinition, workflow_schema
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.validation import find_definition_problems
from stabilize_celery.models.workflow import Workflow, WorkflowType

__all__ = [
    "definition_digest",
    "from_definition",
    "inner_definition",
    "plain_definition",
    "to_definition",
    "workflow_schema",
    "write_workflow_schema",
]


def to_definition(workflow: Workflow) -> dict[str, Any]:
    """Return the workflow's definition, which shares nothing with it and can be stored as JSON.

    Only the shape is checked; whether the workflow can run is for `models.validation.check` to say.

    Raises:
        InvalidWorkflowError: A field has the wrong type, or a context holds what is not JSON; the text lists all.

    """
    return plain_definition(encode_workflow(workflow))


def plain_definition(encoded: object) -> dict[str, Any]:
    """Return the definition that `encode_workflow` has written, as `to_definition` does.

    Raises:
        InvalidWorkflowError: see `to_definition`.

    """
    written: dict[str, Any] = _write(_decode(encoded))
    return written


def from_definition(definition: Mapping[str, Any], *, workflow_id: str | None = None) -> Workflow:
    """Return a new workflow made from a definition; its stages and tasks get new ids.

    Args:
        definition: A JSON object as docs/workflow.schema.json describes it.
        workflow_id: The workflow's id; a new one if None.

    Raises:
        InvalidWorkflowError: The shape is wrong (unknown field, wrong type, not JSON); the text lists that and all
            else that is wrong. A definition of the right shape is not checked further: see `models.validation.check`.

    """
    workflow = _build(_decode(definition))
    if workflow_id is not None:
        workflow.id = workflow_id
    return workflow


def definition_digest(definition: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of the definition as canonical JSON.

    The order of keys does not count, but for `split_conditions`, where it decides. Defaults that are written out do
    count: compare what `to_definition` returns.
    """
    canonical = json.dumps(_canonical(definition), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def inner_definition(definition: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the definition to start when a stage of `definition` calls the inner workflow `name`.

    It takes along every workflow that it may call in turn: its own inner ones, those beside it, and its caller.

    Raises:
        KeyError: `definition` has no such inner workflow and is not called so itself.

    """
    beside = definition.get("sub_workflows", {})
    if name not in beside:
        if not name or name != definition.get("name"):
            raise KeyError(name)
        return dict(definition)
    caller = {key: value for key, value in definition.items() if key != "sub_workflows"}
    callers = {definition["name"]: caller} if definition.get("name") else {}
    inner = dict(beside[name])
    inner.setdefault("name", name)
    inner["sub_workflows"] = {**callers, **beside, **inner.get("sub_workflows", {})}
    return inner


def write_workflow_schema(path: Path) -> None:
    """Write the JSON Schema of definitions to `path`: docs/workflow.schema.json is such a file."""
    path.write_text(json.dumps(workflow_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _decode(raw: object) -> WorkflowDefinition:
    shape: list[Problem] = []
    definition = decode_workflow(raw, "", shape)
    if definition is None or shape:
        name = raw.get("name") if isinstance(raw, Mapping) else None
        raise refusal(find_definition_problems(raw), name if isinstance(name, str) else "")
    return definition


def _write(value: object) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = ((name, getattr(value, name), default) for name, default in _fields_of(type(value)))
        written = {name: _write(given) for name, given, default in fields if given != default}
        # A trigger that says nothing is an empty object.
        return {name: one for name, one in written.items() if name != "trigger" or one}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _write(item) for key, item in value.items()}
    return [_write(item) for item in value] if isinstance(value, list) else value


@functools.cache
def _fields_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, object], ...]:
    return tuple(fields_of(kind))


def _build(definition: WorkflowDefinition) -> Workflow:
    values = _values(definition)
    values["type"] = WorkflowType(definition.type)
    values["trigger"] = Trigger(**_values(definition.trigger))
    values["stages"] = [_build_stage(stage) for stage in definition.stages]
    values["sub_workflows"] = {name: _build(inner) for name, inner in definition.sub_workflows.items()}
    workflow = Workflow(**values)
    for stage in workflow.stages:
        parent = None if stage.parent_stage_id is None else workflow.stage_by_ref_id(stage.parent_stage_id)
        if parent is not None:
            stage.parent_stage_id = parent.id
    return workflow


def _build_stage(definition: StageDefinition) -> StageExecution:
    values = _values(definition)
    values["tasks"] = [_build_task(task) for task in definition.tasks]
    values["requisite_stage_ref_ids"] = set(definition.requisite_stage_ref_ids)
    if definition.mi_config is not None:
        values["mi_config"] = MultiInstanceConfig(**_values(definition.mi_config))
    return StageExecution(**values)


def _build_task(definition: TaskDefinition) -> TaskExecution:
    return TaskExecution(**_values(definition))


def _values(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _canonical(definition: Mapping[str, Any]) -> dict[str, Any]:
    canonical = dict(definition)
    if "stages" in canonical:
        canonical["stages"] = [_canonical_stage(stage) for stage in canonical["stages"]]
    if "sub_workflows" in canonical:
        canonical["sub_workflows"] = {name: _canonical(one) for name, one in canonical["sub_workflows"].items()}
    return canonical


def _canonical_stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    if "split_conditions" not in stage:
        return dict(stage)
    return {**stage, "split_conditions": list(stage["split_conditions"].items())}
