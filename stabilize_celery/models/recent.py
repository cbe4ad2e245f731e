"""What was seen of late, by a mark that two equal values share: checking a definition again tells nothing new."""

import hashlib
import marshal
from typing import Any, Generic, TypeVar

__all__ = ["Recent", "mark_of"]

V = TypeVar("V")
LARGEST_BYTES = 65_536
"""Values that are larger have no mark: they would fill the memory, and are rare."""
_MOST_PARTS = 8_192
"""Nor have those of more parts (count), each counted wherever it stands: one that has itself in it has no end."""


def mark_of(value: object) -> bytes | None:
    """Return a mark of plain JSON-like data, the same only for data of the same types, values and order.

    None: it is large, has no end, or has something else in it.
    """
    if not _has_few_parts(value):
        return None
    try:
        # Version 2 knows no references: what it writes does not depend on who shares what.
        written = marshal.dumps(value, 2)  # type: ignore[arg-type]  # that it can't is one of its answers
    except ValueError:
        return None
    return hashlib.blake2b(written, digest_size=16).digest() if len(written) <= LARGEST_BYTES else None


def _has_few_parts(value: object) -> bool:
    """Whether a value is small enough to be written at all: what is shared is written again at each place."""
    nests: list[Any] = [value] if type(value) in _NESTS else []
    seen = 1
    while nests:
        nest = nests.pop()
        parts = nest.values() if type(nest) is dict else nest
        seen += len(parts)
        if seen > _MOST_PARTS:
            return False
        nests += [part for part in parts if type(part) in _NESTS]
    return True


_NESTS = frozenset({dict, list, tuple})
"""What has parts; what only behaves like one of these can't be written anyway."""


class Recent(Generic[V]):
    """Values by mark, the oldest forgotten first. `most`: how many (count). Any thread may use it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[bytes, V] = {}

    def get(self, mark: bytes | None) -> V | None:
        """Return what was kept under a mark."""
        return None if mark is None else self._values.get(mark)

    def keep(self, mark: bytes | None, value: V) -> None:
        """Keep a value, if it has a mark."""
        if mark is None:
            return
        self._values[mark] = value
        while len(self._values) > self._most:
            self._values.pop(next(iter(self._values)), None)
