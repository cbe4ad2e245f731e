"""How events stand in a workflow's stream: those that one commit tells share an entry, and each has an id of its own.

An event's id is `<ms>-<number>`: time and number of its entry, the latter times `PER_ENTRY`, and its place in it.
The last of an entry has the last place, whatever their number: who has read that far goes on behind the entry.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from stabilize_celery.engine.steps import Value
from stabilize_celery.store.contract import StoredEvent

__all__ = ["PER_ENTRY", "entries_of", "events_of", "place_of", "reading_from", "stands_behind"]

PER_ENTRY = 1_000
"""Ids of events that belong to one entry (count)."""
_MOST_TOGETHER = 256
_TOGETHER = "all"
_LAST = 2**64 - 1
"""The highest number that an entry of a stream can have."""

Fields: TypeAlias = Mapping[str, Value]


def entries_of(events: Sequence[Fields]) -> Iterator[Fields]:
    """Yield the fields of the entries that tell events, in order.

    Raises:
        ValueError, TypeError, OverflowError: a value can't be stored.

    """
    for first in range(0, len(events), _MOST_TOGETHER):
        together = events[first : first + _MOST_TOGETHER]
        yield together[0] if len(together) == 1 else {_TOGETHER: msgspec.msgpack.encode(together)}


def events_of(identity: str, fields: Mapping[str, bytes]) -> Iterator[StoredEvent]:
    """Yield the events of an entry of the stream."""
    packed = fields.get(_TOGETHER)
    together = [fields] if packed is None else list(map(_read_back, msgspec.msgpack.decode(packed)))
    ms, _, number = identity.partition("-")
    first, last = int(number) * PER_ENTRY, len(together) - 1
    for at, told in enumerate(together):
        yield StoredEvent(f"{ms}-{first + (at if at < last else PER_ENTRY - 1)}", told)


def _read_back(fields: Mapping[str, Value]) -> dict[str, bytes]:
    return {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}


def reading_from(after: str) -> str:
    """Return behind which entry to read so that every event comes that stands behind the event `after`."""
    ms, _, number = after.partition("-")
    if not (ms.isdecimal() and (number or "0").isdecimal()):
        return after  # the server says what is wrong with it
    entry, place = divmod(int(number or 0), PER_ENTRY)
    if place == PER_ENTRY - 1 or (int(ms), entry) == (0, 0):
        return f"{ms}-{entry}"
    return f"{ms}-{entry - 1}" if entry else f"{int(ms) - 1}-{_LAST}"


def stands_behind(event: StoredEvent, after: str) -> bool:
    """Return whether an event is later than the one of that id."""
    return place_of(event.id) > place_of(after)


def place_of(event_id: str) -> tuple[int, int]:
    """Return where an event stands in its stream: ids are compared by it."""
    ms, _, number = event_id.partition("-")
    return int(ms), int(number or 0)
