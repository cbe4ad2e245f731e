"""Copying what users put into contexts, and saying where it is not JSON.

JSON here is what JSON and msgpack can both carry: None, booleans, whole numbers of 64 bits, finite floats, text that is
Unicode, lists, and objects with text as keys. Tuples become lists; nothing else is turned into something it was not.
"""

import math
from collections.abc import Mapping
from typing import Any

from stabilize_celery.models.limits import MAX_CONTEXT_NESTING
from stabilize_celery.models.problems import Problem, join_path, shown

__all__ = ["NOT_JSON", "as_plain", "copy_json"]

NOT_JSON = "not_json"
"""The code of a problem with a value that can't be stored."""

_CONTAINERS = (dict, list, tuple, Mapping)
"""The usual ones first: whether something is a Mapping takes longer to tell."""
_SMALLEST_INT = -(2**63)
_LARGEST_INT = 2**64 - 1


def copy_json(value: object, path: str, problems: list[Problem], inside: tuple[int, ...] = ()) -> Any:
    """Return a deep copy of `value` in plain types; what is not JSON becomes None and a problem with its path.

    Args:
        value: What a user put there.
        path: Where it stands.
        problems: Takes what is not JSON.
        inside: The lists and objects that it stands in, outermost first (`id` of each).

    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _copy_text(value, path, problems)
    if isinstance(value, int | float):
        return _copy_number(value, path, problems)
    if isinstance(value, _CONTAINERS):
        return _copy_container(value, path, problems, inside)
    return _refuse(path, f"object is not JSON: {_kind(value)}{_advice(value)}", problems)


def as_plain(value: object) -> object:
    """Return what a subclass of a JSON type stands for: numpy's float64 is a float. For encoders, which ask.

    Raises:
        TypeError: it is none.

    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return list(value)
    raise TypeError(f"object is not JSON: {_kind(value)}")


def _copy_text(value: str, path: str, problems: list[Problem]) -> Any:
    text = str.__str__(value)
    if not text.isascii() and not _is_unicode(text):
        return _refuse(path, "text is not JSON: it holds half of a surrogate pair", problems)
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _copy_number(value: float, path: str, problems: list[Problem]) -> Any:
    if isinstance(value, int):
        if _SMALLEST_INT <= value <= _LARGEST_INT:
            return int(value)
        return _refuse(path, "whole number is beyond 64 bits; pass it as text", problems)
    if math.isfinite(value):
        return float(value)
    return _refuse(path, f"number is not JSON: {value}", problems)


def _copy_container(
    value: Mapping[Any, object] | list[object] | tuple[object, ...],
    path: str,
    problems: list[Problem],
    inside: tuple[int, ...],
) -> Any:
    if id(value) in inside:
        # Found at once: a tree whose nodes know their parent has more paths than could ever be walked.
        return _refuse(path, "object is not JSON: it contains itself", problems)
    if len(inside) >= MAX_CONTEXT_NESTING:
        return _refuse(path, f"nested deeper than {MAX_CONTEXT_NESTING} levels", problems)
    inside = (*inside, id(value))
    if isinstance(value, list | tuple):
        return [copy_json(item, join_path(path, at), problems, inside) for at, item in enumerate(value)]
    copied: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(key, str):
            name = _copy_text(key, path, problems)
            plain = copy_json(item, join_path(path, name or "?"), problems, inside)
            if name is not None:
                copied[name] = plain
        else:
            _refuse(path, f"key {shown(key)} is not JSON: keys must be text, not {_kind(key)}", problems)
    return copied


def _refuse(path: str, message: str, problems: list[Problem]) -> None:
    problems.append(Problem(path, message, NOT_JSON))


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _advice(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "; decode it, or pass base64 text"
    if isinstance(value, set | frozenset):
        return "; pass a sorted list"
    return ""
