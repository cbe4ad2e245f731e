"""YAML as pipelines are written in it: what JSON has too, with the lines that each value stands on."""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, CommentedSet, TaggedScalar
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.scalarbool import ScalarBoolean
from typing_extensions import override

__all__ = ["line_in", "plain_of", "read_yaml"]

_DEEP = re.compile(r"(?:[\[{]\s*(?:[\w\"'-]+\s*:\s*)?){200}")
"""Brackets opened in each other: far more than any definition may have, and YAML's reader takes seconds for some."""
_TEXT = "tag:yaml.org,2002:str"


def read_yaml(text: str) -> Any:
    """Return what YAML text holds, with its lines.

    Raises:
        YAMLError: it is none, has a tag that is not YAML's own, or an alias within what it stands for.
        RecursionError: it is nested too deeply.

    """
    if _DEEP.search(text):
        raise RecursionError
    yaml = YAML()
    yaml.Composer, yaml.Constructor = _Composer, _Constructor
    return yaml.load(text)


class _Composer(Composer):
    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False  # a name that is used again is sound, and means the later value

    @override
    def return_alias(self, a: Any) -> Any:
        if a.end_mark is None:  # its end has not been read: so the alias stands within it
            raise ComposerError(None, None, "an alias to this stands within it, so it has no end", a.start_mark)
        return a


class _Constructor(RoundTripConstructor):
    @override
    def construct_non_recursive_object(self, node: Any, tag: str | None = None) -> Any:
        kind = str(tag or node.tag)
        is_known = isinstance(node, ScalarNode) if kind == _TEXT else kind in self.yaml_constructors
        if not is_known:
            told = f"the tag {_short(kind)} has no meaning in a pipeline: leave it out"
            raise ConstructorError(None, None, told, node.start_mark)
        try:
            return super().construct_non_recursive_object(node, tag)
        except (YAMLError, RecursionError):
            raise
        except (LookupError, ValueError) as error:
            told = f"{node.value!r} can't be read as {_short(kind)} ({error}); as text, it needs quotes"
            raise ConstructorError(None, None, told, node.start_mark) from None


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)


def line_in(node: Any, key: str | int) -> int | None:
    """Return the line (from 0) of an item, also of one that `<<` brings from elsewhere; None: it is not known."""
    if isinstance(node, CommentedMap) and key in node:
        for place in (node, *_merged(node)):
            position = (place.lc.data or {}).get(key)
            if position is not None:
                return int(position[0])
    elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
        position = (node.lc.data or {}).get(key)
        return None if position is None else int(position[0])
    return None


def _merged(node: CommentedMap) -> Iterator[CommentedMap]:
    for place in getattr(node, "merge", None) or ():
        yield place
        yield from _merged(place)


def plain_of(value: Any) -> Any:
    """Return what was read in plain types; what JSON has not (bytes, a set, a key that is no text) stays what it is.

    The model refuses that, with its path.
    """
    if isinstance(value, Mapping):
        return {_key(key): plain_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_of(item) for item in value]
    if isinstance(value, CommentedSet):
        return {_scalar(item) for item in value}
    return _scalar(value)


def _key(value: Any) -> Any:
    return value if isinstance(value, date) else _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, TaggedScalar) and value.tag.value == _TEXT:
        return str(value.value)
    if isinstance(value, ScalarBoolean):  # one with an anchor is a kind of int
        return bool(value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    # YAML makes dates of what JSON has as text.
    return value.isoformat() if isinstance(value, date) else value
