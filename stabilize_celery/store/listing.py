"""Pages of workflows, newest first, merged from the indexes of all partitions.

A page starts strictly below its cursor, which is a place in the order (start time, id) and not a count: workflows that
come or go meanwhile neither double nor hide others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.store import keys
from stabilize_celery.store.contract import Filter, Listed, Page
from stabilize_celery.store.errors import NoSuchPageError
from stabilize_celery.store.queries import list_of, scored
from stabilize_celery.store.values import value_of
from stabilize_celery.store.wire import Batch, Reply

__all__ = ["Listing"]

_Place: TypeAlias = tuple[int, str]
"""Start time (ms) and workflow id: where a line stands in the order."""

_FIELDS = ("status", "application", "name", "ended_ms", "priority")
_MIN_WINDOW = 16
_MOST_LISTED = 100_000
"""Workflows on one page (count)."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Part of the order without a gap, newest first; `has_more`: something may follow."""

    places: list[_Place]
    has_more: bool


class Listing:
    """The listing of one namespace. `gather` carries out batches of commands, one round trip for all."""

    def __init__(
        self, gather: Callable[[Sequence[Batch]], list[list[Reply]]], namespace: str, partition_count: int
    ) -> None:
        self._gather = gather
        self._prefixes = [keys.partition_prefix(namespace, number) for number in range(partition_count)]

    def page(self, wanted: Filter, limit: int, cursor: str | None) -> Page:
        """Return up to `limit` workflows below `cursor`; two round trips unless much is filtered out.

        Raises:
            NoSuchPageError: the cursor is not one of ours, or `limit` is beyond 1 to 100,000.

        """
        if not 1 <= limit <= _MOST_LISTED:
            raise NoSuchPageError(f"a page of {limit} workflows: ask for 1 to {_MOST_LISTED}")
        for text in (wanted.name, wanted.status, wanted.application):
            value_of(text or "", "filter")
        below = _parse(cursor)
        items: list[Listed] = []
        while True:
            stretch = self._stretch(_index_keys(self._prefixes, wanted), below, limit)
            for position, line in enumerate(self._lines(stretch.places), 1):
                below = stretch.places[position - 1]
                if line is not None and _matches(line, wanted):
                    items.append(line)
                if len(items) == limit:
                    is_last = position == len(stretch.places) and not stretch.has_more
                    return Page(items, None if is_last else _text(below))
            if not stretch.has_more:
                return Page(items, None)

    def _stretch(self, index: Sequence[str], below: _Place | None, limit: int) -> _Stretch:
        window = max(_MIN_WINDOW, 2 * limit // len(index) + _MIN_WINDOW)
        while True:
            merged, has_more = self._window(index, below, window)
            if merged or not has_more:
                return _Stretch(merged[:limit], has_more or len(merged) > limit)
            # Everything in view started in the very ms of the cursor, at or above it.
            window *= 4

    def _window(self, index: Sequence[str], below: _Place | None, window: int) -> tuple[list[_Place], bool]:
        top = "+inf" if below is None else below[0]
        replies = self._gather(
            [Batch(key, [("ZREVRANGEBYSCORE", key, top, "-inf", "WITHSCORES", "LIMIT", 0, window)]) for key in index]
        )
        columns = [[(int(score), member) for member, score in scored(reply)] for (reply,) in replies]
        # Below the last place of a full column there may be places that it has not shown yet.
        horizon = max((column[-1] for column in columns if len(column) == window), default=None)
        merged = sorted(
            (
                place
                for column in columns
                for place in column
                if (below is None or place < below) and (horizon is None or place >= horizon)
            ),
            reverse=True,
        )
        return merged, horizon is not None

    def _lines(self, places: Sequence[_Place]) -> list[Listed | None]:
        batches = []
        for _, workflow_id in places:
            prefix = self._prefixes[keys.partition_of(workflow_id, len(self._prefixes))]
            key = keys.workflow(keys.workflow_prefix(prefix, workflow_id))
            batches.append(Batch(key, [("HMGET", key, *_FIELDS)]))
        return [_line(place, reply) for place, (reply,) in zip(places, self._gather(batches), strict=True)]


def _index_keys(prefixes: Sequence[str], wanted: Filter) -> list[str]:
    if wanted.name is not None:
        return [keys.index_name(prefix, wanted.name) for prefix in prefixes]
    if wanted.status is not None:
        return [keys.index_status(prefix, wanted.status) for prefix in prefixes]
    if wanted.application is not None:
        return [keys.index_application(prefix, wanted.application) for prefix in prefixes]
    return [keys.index_every(prefix) for prefix in prefixes]


def _line(place: _Place, reply: Reply) -> Listed | None:
    status, application, name, ended, priority = (
        item.decode() if isinstance(item, bytes) else "" for item in list_of(reply)
    )
    if status in ("", "GONE"):
        return None
    return Listed(
        place[1], application, name, status, place[0], int(ended or 0) or None, int(priority or DEFAULT_PRIORITY)
    )


def _matches(line: Listed, wanted: Filter) -> bool:
    return (
        wanted.application in (None, line.application)
        and wanted.name in (None, line.name)
        and wanted.status in (None, line.status)
    )


def _text(place: _Place) -> str:
    return f"{place[0]}-{place[1]}"


def _parse(cursor: str | None) -> _Place | None:
    if cursor is None:
        return None
    started, dash, workflow_id = cursor.partition("-")
    if not started.isdecimal() or not dash or not workflow_id:
        raise NoSuchPageError(f"cursor {cursor[:100]!r} is not one of ours; pass on what the page before gave")
    return int(started), workflow_id
