"""Reading a mapping as a definition: everything that has the wrong shape is found, not only the first.

A stage whose shape is right is decoded in one go; only one that is not is taken apart field by field.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar, get_args

import msgspec

from stabilize_celery.models.json_values import copy_json
from stabilize_celery.models.limits import MAX_SUB_WORKFLOW_NESTING
from stabilize_celery.models.problems import Problem, join_path, shown
from stabilize_celery.models.schema import (
    MultiInstanceDefinition,
    StageDefinition,
    TaskDefinition,
    TriggerDefinition,
    WorkflowDefinition,
)

__all__ = ["SHAPE", "decode_workflow"]

SHAPE = "wrong_shape"
"""The code of a problem with a field's name, type or range."""

_Decoded = TypeVar("_Decoded", bound=msgspec.Struct)
_Reader = Callable[[object, str, list[Problem]], object]

_GIVEN_BY_ENGINE = frozenset(
    {"id", "status", "outputs", "start_time", "end_time", "version", "is_canceled", "canceled_by", "queue_table"}
    | {"cancellation_reason", "paused", "task_exception_details"}
)
_BOUND = re.compile(r"Expected `(?P<kind>int|str)`(?P<length> of length)? (?P<sign>[<>])= (?P<bound>\d+)")
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<got>[^`]+)`")
_WORDS = {"object": "an object", "array": "a list", "str": "text", "int": "a whole number", "bool": "true or false"}
_WORDS |= {"float": "a number", "null": "nothing"}


class _UnreadableError(Exception):
    """A value of the wrong shape; its problems are noted already."""


def decode_workflow(raw: object, path: str, problems: list[Problem]) -> WorkflowDefinition | None:
    """Return the definition in `raw`, with defaults where a field has the wrong shape; None if nothing is readable.

    Args:
        raw: What came over the wire, or out of a file.
        path: Where `raw` stands; empty for the outermost definition.
        problems: Takes what is wrong. The contexts are copied, so the definition shares nothing with `raw`.

    """
    if _nested_too_deep(raw):
        message = f"inner workflows are nested deeper than {MAX_SUB_WORKFLOW_NESTING} levels"
        problems.append(Problem(join_path(path, "sub_workflows"), message, SHAPE))
        return None
    try:
        return _read_struct(WorkflowDefinition, _WORKFLOW_READERS, raw, path, problems)
    except _UnreadableError:
        return None


def _nested_too_deep(raw: object) -> bool:
    level = [raw]
    for _ in range(MAX_SUB_WORKFLOW_NESTING + 1):
        level = [inner for outer in level for inner in _inner_workflows(outer)]
        if not level:
            return False
    return True


def _inner_workflows(raw: object) -> list[object]:
    inner = raw.get("sub_workflows") if isinstance(raw, Mapping) else None
    return list(inner.values()) if isinstance(inner, Mapping) else []


def _read_struct(
    kind: type[_Decoded], readers: Mapping[str, _Reader], raw: object, path: str, problems: list[Problem]
) -> _Decoded:
    if not isinstance(raw, Mapping):
        problems.append(Problem(path, f"expected an object, got {_word_for(raw)}", SHAPE))
        raise _UnreadableError
    fields = _fields_of(kind)
    values: dict[str, Any] = {}
    for name, value in raw.items():
        if name in fields:
            read = readers.get(name) or _reader_of(fields[name].type)
            _keep(values, name, read, value, join_path(path, name), problems)
        else:
            problems.append(_unknown_field(name, fields, path))
    for name, one in fields.items():
        if one.required and name not in values:
            if name not in raw:
                problems.append(Problem(join_path(path, name), "is missing", SHAPE))
            values[name] = [] if name == "stages" else ""
    return kind(**values)


@functools.cache
def _fields_of(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {one.name: one for one in msgspec.structs.fields(kind)}


def _keep(values: dict[str, Any], name: str, read: _Reader, value: object, path: str, problems: list[Problem]) -> None:
    try:
        values[name] = read(value, path, problems)
    except _UnreadableError:
        return


def _unknown_field(name: object, fields: Iterable[str], path: str) -> Problem:
    if name in _GIVEN_BY_ENGINE:
        return Problem(join_path(path, str(name)), "is not part of a definition: the engine sets it", SHAPE)
    alike = difflib.get_close_matches(str(name), list(fields), n=1)
    hint = f"; did you mean {alike[0]!r}?" if alike else ""
    return Problem(join_path(path, str(name)), f"unknown field{hint}", SHAPE)


def _reader_of(wanted: Any) -> _Reader:
    def read(value: object, path: str, problems: list[Problem]) -> object:
        try:
            return msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            problems.append(_explain(value, wanted, path, str(error)))
        raise _UnreadableError

    return read


def _explain(value: object, wanted: Any, path: str, error: str) -> Problem:
    message, _, where = error.partition(" - at `$")
    at = re.match(r"\[(\d+)\]", where)
    if at is not None and isinstance(value, list | tuple):
        path, value = join_path(path, int(at[1])), value[int(at[1])]
    choices = _choices_of(wanted)
    if choices and isinstance(value, str):
        return Problem(path, _not_among(value, choices), SHAPE)
    bound = _BOUND.match(message)
    if bound is not None:
        return Problem(path, _out_of_bounds(value, bound), SHAPE)
    wrong = _WRONG_TYPE.match(message)
    if wrong is not None:
        return Problem(path, f"expected {_in_words(wrong['wanted'])}, got {_word_for(value)}", SHAPE)
    return Problem(path, message.replace("`", ""), SHAPE)


def _choices_of(wanted: Any) -> list[str]:
    kinds = [wanted, *get_args(wanted)]
    kinds += [inner for kind in kinds for inner in get_args(kind)]
    names = [member.name for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for member in kind]
    return list(dict.fromkeys(names)) or [kind for kind in kinds if isinstance(kind, str)]


def _not_among(value: str, choices: list[str]) -> str:
    alike = difflib.get_close_matches(value.upper(), choices, n=1)
    hint = f"; did you mean {alike[0]!r}?" if alike else ""
    return f"{shown(value)} is not one of {', '.join(choices)}{hint}"


def _out_of_bounds(value: object, bound: re.Match[str]) -> str:
    if bound["length"] is None:
        return f"{shown(value)} is {'below' if bound['sign'] == '>' else 'above'} {bound['bound']}"
    if not value:
        return "must not be empty"
    return f"text of {len(str(value))} characters is longer than {bound['bound']}"


def _in_words(wanted: str) -> str:
    return " or ".join(_WORDS.get(kind.strip(), kind.strip()) for kind in wanted.split("|"))


def _word_for(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str | int | float):
        return shown(value)
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else type(value).__name__


def _read_json_object(value: object, path: str, problems: list[Problem]) -> object:
    if not isinstance(value, Mapping):
        problems.append(Problem(path, f"expected an object, got {_word_for(value)}", SHAPE))
        raise _UnreadableError
    return copy_json(value, path, problems)


def _read_list(read_item: _Reader) -> _Reader:
    def read(value: object, path: str, problems: list[Problem]) -> object:
        if not isinstance(value, list | tuple):
            problems.append(Problem(path, f"expected a list, got {_word_for(value)}", SHAPE))
            raise _UnreadableError
        items: dict[str, Any] = {}
        for at, item in enumerate(value):
            _keep(items, str(at), read_item, item, join_path(path, at), problems)
        return list(items.values())

    return read


def _read_map(read_item: _Reader) -> _Reader:
    def read(value: object, path: str, problems: list[Problem]) -> object:
        if not isinstance(value, Mapping):
            problems.append(Problem(path, f"expected an object, got {_word_for(value)}", SHAPE))
            raise _UnreadableError
        items: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(key, str):
                _keep(items, key, read_item, item, join_path(path, key), problems)
            else:
                problems.append(Problem(path, f"key {shown(key)} must be text", SHAPE))
        return items

    return read


def _read_of(kind: type[msgspec.Struct], readers: Mapping[str, _Reader]) -> _Reader:
    def read(value: object, path: str, problems: list[Problem]) -> object:
        return _read_struct(kind, readers, value, path, problems)

    return read


def _optional(read_present: _Reader) -> _Reader:
    def read(value: object, path: str, problems: list[Problem]) -> object:
        return None if value is None else read_present(value, path, problems)

    return read


def _read_stage(value: object, path: str, problems: list[Problem]) -> StageDefinition:
    try:
        stage = msgspec.convert(value, StageDefinition)
    except msgspec.ValidationError:
        return _read_stage_by_field(value, path, problems)
    stage.context = copy_json(stage.context, join_path(path, "context"), problems)
    return stage


def _read_stage_by_field(value: object, path: str, problems: list[Problem]) -> StageDefinition:
    try:
        return _read_struct(StageDefinition, _STAGE_READERS, value, path, problems)
    except _UnreadableError:
        # A stage without a name keeps its place: the paths of those behind it must stay right.
        return StageDefinition(ref_id="")


def _text_map_reader(kind: type[msgspec.Struct], name: str) -> _Reader:
    hint = next(one.type for one in msgspec.structs.fields(kind) if one.name == name)
    _key, item = get_args(get_args(hint)[0])
    return _read_map(_reader_of(item))


_STAGE_READERS: dict[str, _Reader] = {
    "context": _read_json_object,
    "tasks": _read_list(_read_of(TaskDefinition, {})),
    "mi_config": _optional(_read_of(MultiInstanceDefinition, {})),
    **{
        name: _text_map_reader(StageDefinition, name) for name in ("split_conditions", "output_reducers", "sub_context")
    },
}
_TRIGGER_READERS: dict[str, _Reader] = {
    "parameters": _read_json_object,
    "artifacts": _read_list(_read_json_object),
    "payload": _read_json_object,
}
_WORKFLOW_READERS: dict[str, _Reader] = {
    "stages": _read_list(_read_stage),
    "context": _read_json_object,
    "trigger": _read_of(TriggerDefinition, _TRIGGER_READERS),
}
# An inner definition is read like the outer one, whose table must exist first.
_WORKFLOW_READERS["sub_workflows"] = _read_map(_read_of(WorkflowDefinition, _WORKFLOW_READERS))
