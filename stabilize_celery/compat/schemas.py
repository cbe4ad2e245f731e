"""Checks of contexts and outputs against a JSON Schema: the part of it that `stabilize` programs use.

Understood: type, enum, const; minLength, maxLength, pattern; minimum, maximum, exclusiveMinimum, exclusiveMaximum,
multipleOf; minItems, maxItems, uniqueItems, items; required, properties, additionalProperties, minProperties,
maxProperties. What else a schema has is left out of account.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = [
    "BASE_STAGE_SCHEMA",
    "SHELL_TASK_SCHEMA",
    "WAIT_TASK_SCHEMA",
    "SchemaValidator",
    "ValidationError",
    "is_valid",
    "validate_context",
    "validate_outputs",
]

_FLAG, _COUNT, _TEXTS = (
    {"type": "boolean"},
    {"type": "integer", "minimum": 0},
    {"type": "array", "items": {"type": "string"}},
)

BASE_STAGE_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "continuePipelineOnFailure": _FLAG,
        "failPipeline": _FLAG,
        "allowSiblingStagesToContinueOnFailure": _FLAG,
        "stageTimeoutMs": _COUNT,
    },
}
"""The switches that the context of any stage may have."""

SHELL_TASK_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["command"],
    "properties": {
        "command": {"type": "string", "minLength": 1},
        "timeout": {"type": "number", "minimum": 0},
        "cwd": {"type": "string"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
        "shell": {"type": ["boolean", "string"]},
        "stdin": {"type": "string"},
        "max_output_size": _COUNT,
        "expected_codes": {"type": "array", "items": {"type": "integer"}},
        "secrets": _TEXTS,
        "binary": _FLAG,
        "continue_on_failure": _FLAG,
    },
}
"""The context of a `shell` task."""

WAIT_TASK_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"waitTime": {"type": "number", "minimum": 0}},
    "required": ["waitTime"],
}
"""The context of a `wait` task as upstream has it; here `seconds` serves as well."""


@dataclass
class ValidationError:
    """One thing that is wrong with a value; `path` is where, such as `servers[0].host`."""

    path: str
    message: str
    value: Any = None
    constraint: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SchemaValidator:
    """Finds all that is wrong with values; knows what its module says of JSON Schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    def validate(self, data: Any, path: str = "") -> list[ValidationError]:
        """Return everything that is wrong with `data`; `path`: where it stands itself."""
        return list(_problems(data, self.schema, path))


def validate_context(context: Any, schema: Mapping[str, Any]) -> list[ValidationError]:
    """Return everything that is wrong with a stage's context."""
    return SchemaValidator(schema).validate(context)


def validate_outputs(outputs: Any, schema: Mapping[str, Any]) -> list[ValidationError]:
    """Return everything that is wrong with a stage's outputs."""
    return SchemaValidator(schema).validate(outputs)


def is_valid(data: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether nothing is wrong with `data`."""
    return next(_problems(data, schema, ""), None) is None


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
    "null": (type(None),),
}
_Rule: TypeAlias = tuple[str, Callable[[Any, Any], bool], str]
"""A keyword, whether a value keeps it, and what is told if not."""

_ANY: Sequence[_Rule] = (
    ("enum", lambda value, allowed: value in allowed, "must be one of {}"),
    ("const", lambda value, wanted: value == wanted, "must be exactly {}"),
)
_OF_TYPE: Mapping[str, Sequence[_Rule]] = {
    "string": (
        ("minLength", lambda value, least: len(value) >= least, "must have minimum length {}"),
        ("maxLength", lambda value, most: len(value) <= most, "must have maximum length {}"),
        ("pattern", lambda value, pattern: re.search(pattern, value) is not None, "must match pattern {}"),
    ),
    "number": (
        ("minimum", lambda value, least: value >= least, "must be >= {}"),
        ("maximum", lambda value, most: value <= most, "must be <= {}"),
        ("exclusiveMinimum", lambda value, below: value > below, "must be > {}"),
        ("exclusiveMaximum", lambda value, above: value < above, "must be < {}"),
        ("multipleOf", lambda value, step: value % step == 0, "must be multiple of {}"),
    ),
    "array": (
        ("minItems", lambda value, least: len(value) >= least, "must have at least {} items"),
        ("maxItems", lambda value, most: len(value) <= most, "must have at most {} items"),
        ("uniqueItems", lambda value, wanted: not wanted or _all_differ(value), "must have unique items"),
    ),
    "object": (
        ("minProperties", lambda value, least: len(value) >= least, "must have at least {} properties"),
        ("maxProperties", lambda value, most: len(value) <= most, "must have at most {} properties"),
    ),
}


def _problems(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[ValidationError]:
    wanted = schema.get("type")
    types = [wanted] if isinstance(wanted, str) else list(wanted or ())
    if types and not any(_is(value, one) for one in types):
        told = f"must be {' or '.join(types)}, not {_type_of(value)}"
        yield ValidationError(path, told, value, "type")
        return
    rules = [*_ANY, *(rule for kind in _OF_TYPE if _is(value, kind) for rule in _OF_TYPE[kind])]
    for keyword, keeps, told in rules:
        if keyword in schema and not keeps(value, schema[keyword]):
            yield ValidationError(path, told.format(repr(schema[keyword])), value, keyword)
    if _is(value, "array") and isinstance(schema.get("items"), Mapping):
        for position, item in enumerate(value):
            yield from _problems(item, schema["items"], f"{path}[{position}]")
    if _is(value, "object"):
        yield from _of_object(value, schema, path)


def _of_object(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[ValidationError]:
    below = f"{path}." if path else ""
    for name in schema.get("required", ()):
        if name not in value:
            yield ValidationError(f"{below}{name}", "is required", None, "required")
    known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, item in value.items():
        inner = known.get(name, more)
        if isinstance(inner, Mapping):
            yield from _problems(item, inner, f"{below}{name}")
        elif inner is False:
            yield ValidationError(f"{below}{name}", "is not allowed here", item, "additionalProperties")


def _is(value: Any, kind: str) -> bool:
    """Whether a value is of a type; true and false are no numbers, and of an unknown type is everything."""
    types = _TYPES.get(kind)
    if types is None:
        return True
    return isinstance(value, types) and (kind == "boolean" or not isinstance(value, bool))


def _type_of(value: Any) -> str:
    return next((kind for kind in _TYPES if _is(value, kind)), type(value).__name__)


def _all_differ(items: Sequence[Any]) -> bool:
    return all(item not in items[:position] for position, item in enumerate(items))
