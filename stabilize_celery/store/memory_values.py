"""The values of the memory store that need more than a builtin: sorted sets and streams."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["SortedSet", "Stream", "StreamId"]

StreamId = tuple[int, int]
"""Milliseconds, and the number within them."""


class SortedSet:
    """Members by score, then by bytes, as Redis orders them."""

    def __init__(self) -> None:
        self._scores: dict[bytes, float] = {}
        self._order: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._order)

    def score(self, member: bytes) -> float | None:
        """Return a member's score; None if it is no member."""
        return self._scores.get(member)

    def put(self, member: bytes, score: float) -> bool:
        """Set a member's score; return whether that changed anything."""
        old = self._scores.get(member)
        if old == score:
            return False
        self.discard(member)
        self._scores[member] = score
        insort(self._order, (score, member))
        return True

    def discard(self, member: bytes) -> bool:
        """Remove a member; return whether it was there."""
        score = self._scores.pop(member, None)
        if score is None:
            return False
        del self._order[bisect_left(self._order, (score, member))]
        return True

    def first(self, start: int, stop: int) -> list[tuple[float, bytes]]:
        """Return the members at positions `start` to `stop` inclusive; -1 is the last."""
        return self._order[start : None if stop == -1 else stop + 1]

    def downwards(self, top: float, offset: int, count: int) -> Iterator[tuple[float, bytes]]:
        """Yield up to `count` members with a score of at most `top`, highest first."""
        end = bisect_right(self._order, top, key=lambda place: place[0]) - offset
        for position in range(end - 1, max(end - 1 - count, -1), -1):
            yield self._order[position]


@dataclass(slots=True)
class Stream:
    """Entries in order of their ids."""

    entries: list[tuple[StreamId, Sequence[bytes]]] = field(default_factory=list)
    last: StreamId = (0, 0)

    def append(self, now_ms: int, fields: Sequence[bytes]) -> StreamId:
        """Add an entry; return its id, which is greater than all before."""
        last_ms, last_number = self.last
        self.last = (now_ms, 0) if now_ms > last_ms else (last_ms, last_number + 1)
        self.entries.append((self.last, fields))
        return self.last

    def after(self, identity: StreamId, count: int) -> list[tuple[StreamId, Sequence[bytes]]]:
        """Return up to `count` entries behind `identity`."""
        start = bisect_right(self.entries, identity, key=lambda entry: entry[0])
        return self.entries[start : start + count]
