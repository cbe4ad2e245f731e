"""What was seen of late, by a mark that two equal values share: checking a definition again tells nothing new."""

import hashlib
import marshal
import threading
from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from stabilize_celery.models.limits import MAX_DEFINITION_BYTES

__all__ = ["Mark", "Recent", "mark_of"]

V = TypeVar("V")
LARGEST_BYTES = MAX_DEFINITION_BYTES
"""Values that are larger have no mark: no definition is."""
_MOST_PARTS = 2_097_152
"""Nor have those of more parts (count), each counted wherever it stands: one that has itself in it has no end."""
_MOST_BYTES = 4 * 1024 * 1024


class Mark(NamedTuple):
    """What two values share if they are the same in every way that counts; `size`: of one of them (bytes)."""

    digest: bytes
    size: int


def mark_of(value: object) -> Mark | None:
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
    if len(written) > LARGEST_BYTES:
        return None
    return Mark(hashlib.blake2b(written, digest_size=16).digest(), len(written))


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
    """Values by mark, the oldest forgotten first. Any thread may use it.

    Args:
        most: How many are kept (count).
        most_bytes: How large all together may be that they were made of (bytes).

    """

    def __init__(self, most: int, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._values: dict[tuple[Mark, Hashable], V] = {}
        self._lock = threading.Lock()
        self._bytes = 0

    def get(self, mark: Mark | None, terms: Hashable = None) -> V | None:
        """Return what was kept under a mark, and made on these terms."""
        return None if mark is None else self._values.get((mark, terms))

    def keep(self, mark: Mark | None, value: V, terms: Hashable = None) -> None:
        """Keep a value, if it has a mark and there is room. `terms`: what it was made of besides."""
        if mark is None or mark.size > self._most_bytes:
            return
        with self._lock:
            if (mark, terms) not in self._values:
                self._bytes += mark.size
            self._values[mark, terms] = value
            while len(self._values) > self._most or self._bytes > self._most_bytes:
                oldest = next(iter(self._values))
                del self._values[oldest]
                self._bytes -= oldest[0].size
