"""Laying the outputs of one stage over those of the stages before it."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["merge_outputs"]


def merge_outputs(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the layers in one dict: lists of one key are joined without repeats, of other values the latest wins.

    Nothing that the layers hold is changed. Source: upstream's get_context.
    """
    merged: dict[str, Any] = {}
    lists: dict[str, _DistinctList] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, list) and isinstance(merged.get(key), list):
                if key not in lists:
                    lists[key] = _DistinctList(merged[key])
                lists[key].extend(value)
                merged[key] = lists[key].items
            else:
                merged[key] = value
                lists.pop(key, None)
    return merged


class _DistinctList:
    """A copy of a list that takes further items once each; what it started with keeps its repeats."""

    def __init__(self, items: list[Any]) -> None:
        self.items = list(items)
        self._hashable = {item for item in items if _is_hashable(item)}

    def extend(self, items: Iterable[Any]) -> None:
        for item in items:
            if _is_hashable(item):
                if item not in self._hashable:
                    self._hashable.add(item)
                    self.items.append(item)
            elif item not in self.items:
                self.items.append(item)


def _is_hashable(item: object) -> bool:
    return item is None or isinstance(item, str | int | float | bool)
