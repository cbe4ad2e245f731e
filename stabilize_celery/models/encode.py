"""Writing a workflow as the mapping that its definition is: only what differs from the default.

Whatever a user put into a field is passed on as it is, for the decoder to judge; state that the engine keeps (status,
outputs, times, versions, ids) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from stabilize_celery.models.limits import MAX_SUB_WORKFLOW_NESTING
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.schema import (
    MultiInstanceDefinition,
    StageDefinition,
    TaskDefinition,
    TriggerDefinition,
    WorkflowDefinition,
)
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.trigger import Trigger

if TYPE_CHECKING:
    from stabilize_celery.models.workflow import Workflow

__all__ = ["encode_stages", "encode_workflow", "fields_of"]

_Write = Callable[[Any], object]


def encode_workflow(workflow: Workflow, levels: int = MAX_SUB_WORKFLOW_NESTING) -> dict[str, Any]:
    """Return the workflow's definition, unchecked; it shares contexts with the workflow.

    Args:
        workflow: Any workflow, sound or not.
        levels: Inner workflows nested deeper than this are passed on as they are, for the decoder to refuse (count).

    """

    def write_inner(inner: object) -> object:
        if not isinstance(inner, Mapping):
            return inner
        return {name: _encode_inner(one, type(workflow), levels - 1) for name, one in inner.items()}

    writers = {
        "stages": encode_stages,
        "trigger": lambda trigger: _write(trigger, _TRIGGER_FIELDS, {}) if isinstance(trigger, Trigger) else trigger,
        "sub_workflows": write_inner,
    }
    encoded = _write(workflow, _WORKFLOW_FIELDS, writers)
    encoded.setdefault("stages", [])
    if not encoded.get("trigger", True):
        del encoded["trigger"]
    return encoded


def _encode_inner(inner: object, kind: type[Workflow], levels: int) -> object:
    if not isinstance(inner, kind):
        return inner
    # Too deep, perhaps inside itself: an empty nest tells the decoder so without going on for ever.
    return encode_workflow(inner, levels) if levels >= 0 else {"sub_workflows": {"": {}}}


def encode_stages(stages: object) -> object:
    """Return the definitions of a list of stages; parents are named by ref_id where they are in the list."""
    if not isinstance(stages, list | tuple):
        return stages
    ref_ids = {stage.id: stage.ref_id for stage in stages if isinstance(stage, StageExecution)}
    writers = {**_STAGE_WRITERS, "parent_stage_id": lambda parent: _ref_id_of(parent, ref_ids)}
    return [_write_stage(stage, writers) if isinstance(stage, StageExecution) else stage for stage in stages]


def _ref_id_of(parent: object, ref_ids: Mapping[str, str]) -> object:
    return ref_ids.get(parent, parent) if isinstance(parent, str) else parent


def _write_stage(stage: StageExecution, writers: Mapping[str, _Write]) -> dict[str, Any]:
    encoded = _write(stage, _STAGE_FIELDS, writers)
    encoded.setdefault("ref_id", stage.ref_id)
    return encoded


def _write_tasks(tasks: object) -> object:
    if not isinstance(tasks, list | tuple):
        return tasks
    encoded = [_write_task(task) if isinstance(task, TaskExecution) else task for task in tasks]
    marks = [
        (task.stage_start, task.stage_end) if isinstance(task, TaskExecution) else (False, False) for task in tasks
    ]
    if marks == [(at == 0, at == len(marks) - 1) for at in range(len(marks))]:
        # These are the marks that the stage makes itself: one definition, whether the author wrote them or not.
        for task in encoded:
            if isinstance(task, dict):
                task.pop("stage_start", None)
                task.pop("stage_end", None)
    return encoded


def _write_task(task: TaskExecution) -> dict[str, Any]:
    encoded = _write(task, _TASK_FIELDS, {})
    encoded.setdefault("implementing_class", task.implementing_class)
    return encoded


def _write_mi_config(config: object) -> object:
    return _write(config, _MI_FIELDS, {}) if isinstance(config, MultiInstanceConfig) else config


def _write_names(names: object) -> object:
    if not isinstance(names, set | frozenset | list | tuple):
        return names
    return sorted(set(names)) if all(isinstance(name, str) for name in names) else list(names)


def _write(model: object, fields: Iterable[tuple[str, object]], writers: Mapping[str, _Write]) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    for name, default in fields:
        value = getattr(model, name)
        # Most fields are as they were made: what can be told by looking at types comes first.
        if value is default or (type(value) in _CONTAINERS and not value):
            continue
        if value != default and (type(value) is str or not _is_empty(value)):
            write = writers.get(name)
            encoded[name] = value if write is None else write(value)
    return encoded


_CONTAINERS = (list, dict, set)
_COLLECTIONS = (list, tuple, set, frozenset, Mapping)


def _is_empty(value: object) -> bool:
    return isinstance(value, _COLLECTIONS) and not value


def fields_of(kind: type[msgspec.Struct]) -> list[tuple[str, object]]:
    """Return the names and defaults of a definition's fields; NODEFAULT where a field is required or made anew."""
    return [(one.name, _default_of(one)) for one in msgspec.structs.fields(kind)]


def _default_of(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.default_factory in (list, dict):
        return field.default_factory()
    return msgspec.NODEFAULT


_TASK_FIELDS = fields_of(TaskDefinition)
_MI_FIELDS = fields_of(MultiInstanceDefinition)
_TRIGGER_FIELDS = fields_of(TriggerDefinition)
_WORKFLOW_FIELDS = fields_of(WorkflowDefinition)
_STAGE_FIELDS = fields_of(StageDefinition)
_STAGE_WRITERS: dict[str, _Write] = {
    "tasks": _write_tasks,
    "mi_config": _write_mi_config,
    "requisite_stage_ref_ids": _write_names,
}
