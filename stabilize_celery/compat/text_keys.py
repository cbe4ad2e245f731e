"""Keys of objects as JSON writes them: upstream stored `{1: "a"}`, and gave back `{"1": "a"}`."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["with_text_keys"]

_SCALARS = (bool, int, float, type(None))


def with_text_keys(value: Any) -> Any:
    """Return a value whose numbers, truth values and Nones as keys are texts, at any depth; itself if there are none.

    A key that JSON has no text for stays, and is refused where it is to be stored.
    """
    if isinstance(value, Mapping):
        changed = {_text(key): with_text_keys(one) for key, one in value.items()}
        is_same = len(changed) == len(value) and all(value.get(key, changed) is one for key, one in changed.items())
        return value if is_same else changed
    if isinstance(value, list | tuple):
        items = [with_text_keys(one) for one in value]
        return value if all(one is old for one, old in zip(items, value, strict=True)) else items
    return value


def _text(key: Any) -> Any:
    return json.dumps(key) if isinstance(key, _SCALARS) else key
