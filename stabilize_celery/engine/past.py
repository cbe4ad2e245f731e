"""Data travels with the thread: which earlier run wrote what a run can see (wcp 1.4).

A run carries, for each output name visible to it, who wrote it and when; the values stay where they were written and
are loaded when a task asks for them. Two exceptions keep the cost of a stage the same, however long the way behind it:
small values that a condition ahead looks at travel along (`Source.value`), and what is older than the newest
`NEAR` writes lies on immutable *pages* that are shared and read on demand (docs/decisions/009).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.models.reducers import ANY, reduce

__all__ = [
    "NEAR",
    "Page",
    "Past",
    "Source",
    "decode_page",
    "extended",
    "merged",
    "newest_of",
    "paged",
    "pages_to_merge",
    "resolve",
    "threads_of",
]

NEAR = 64
"""How many sources a run carries itself before they go to a page (count)."""
CARRIED_BYTES = 4096
"""The largest value that travels along for the conditions ahead (bytes, packed)."""


class Source(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Who wrote a visible value: a run, or a reducer over several sources."""

    stamp: int
    """When (us, time of the slot); among writers of one name the highest wins."""
    thread: str = ""
    reducer: str = ""
    parts: tuple["Source", ...] = ()
    value: bytes = b""
    """The value, packed, where a condition ahead looks at it and it is small; else empty."""


Page: TypeAlias = dict[str, Source]


_PAGE = msgspec.msgpack.Decoder(Page)


class Past(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a run can see. A name in `near` is never older than the same name on a page."""

    near: dict[str, Source] = {}
    pages: tuple[str, ...] = ()
    """Names of pages (engine/places.py, PAGES)."""
    latest: int = 0
    """The highest stamp in it (us)."""


def extended(past: Past, outputs: Mapping[str, Any], thread: str, stamp: int, carried: Collection[str] = ()) -> Past:
    """Return `past` after the run `thread` wrote `outputs`, later than all that it saw.

    `carried`: the names that conditions ahead look at; small values of theirs travel along.
    """
    near = {name: _stripped(source) if name not in carried else source for name, source in past.near.items()}
    if not outputs:
        return Past(near, past.pages, past.latest)
    latest = max(stamp, past.latest + 1)
    for name, value in outputs.items():
        near[name] = Source(latest, thread, value=_carried(value) if name in carried else b"")
    return Past(near, past.pages, latest)


def _carried(value: Any) -> bytes:
    packed = pack(value)
    return packed if len(packed) <= CARRIED_BYTES else b""


def _stripped(source: Source) -> Source:
    if not source.value and not source.parts:
        return source
    return msgspec.structs.replace(source, value=b"", parts=tuple(map(_stripped, source.parts)))


def pages_to_merge(pasts: Sequence[Past], reducers: Collection[str]) -> list[str]:
    """Return the pages that `merged` needs: those that not all branches share; all of them for a reducer."""
    every = dict.fromkeys(page for past in pasts for page in past.pages)
    shared = set(every).intersection(*(past.pages for past in pasts)) if not reducers else set()
    return [page for page in every if page not in shared]


def merged(pasts: Sequence[Past], reducers: Mapping[str, str], pages: Mapping[str, Page]) -> Past:
    """Return what is visible where branches meet, given in order of their edges: the later write of a name wins.

    A reducer combines what the branches wrote under its name; that of `*`, oldest first, under any name of which they
    bring different values. `pages`: the contents of `pages_to_merge`.
    """
    near: dict[str, Source] = {}
    for past in pasts:
        for name, source in past.near.items():
            if name not in near or source.stamp > near[name].stamp:
                near[name] = source
    for page in pages.values():  # what lies there may be newer than what another branch carries
        for name in near.keys() & page.keys():
            if page[name].stamp > near[name].stamp:
                near[name] = page[name]
    latest = max((past.latest for past in pasts), default=0)
    others = {} if ANY not in reducers else dict.fromkeys((*near, *newest_of(pages.values())), reducers[ANY])
    for name, reducer in {**others, **reducers}.items():
        seen = (past.near.get(name) or _newest(name, past.pages, pages) for past in pasts)
        parts = tuple(dict.fromkeys(source for source in seen if source is not None))
        if name not in reducers:
            parts = tuple(sorted(parts, key=lambda source: source.stamp)) if len(parts) > 1 else ()
        if parts:
            latest += 1
            near[name] = Source(latest, "", reducer, parts)
    return Past(near, tuple(dict.fromkeys(page for past in pasts for page in past.pages)), latest)


def newest_of(pages: Iterable[Page]) -> Page:
    """Return the newest source of each name on the pages."""
    found: Page = {}
    for page in pages:
        for name, source in page.items():
            if name not in found or source.stamp > found[name].stamp:
                found[name] = source
    return found


def _newest(name: str, names: Sequence[str], pages: Mapping[str, Page]) -> Source | None:
    found = [pages[page][name] for page in names if name in pages[page]]
    return max(found, key=lambda source: source.stamp, default=None)


def decode_page(data: bytes) -> Page:
    """Return a stored page."""
    return _PAGE.decode(data)


def paged(past: Past, page: str) -> tuple[Past, Page]:
    """Return `past` with its sources moved to the new page `page`, and the page; an empty page while there are few.

    What travels along with its value stays: a condition is about to look at it.
    """
    old = {name: source for name, source in past.near.items() if not source.value}
    if sum(1 + len(source.parts) for source in old.values()) <= NEAR:
        return past, {}
    kept = {name: source for name, source in past.near.items() if source.value}
    return Past(kept, (*past.pages, page), past.latest), old


def threads_of(sources: Iterable[Source]) -> set[str]:
    """Return the runs whose outputs must be read to know the values of `sources`."""
    found: set[str] = set()
    for source in sources:
        if source.parts:
            found |= threads_of(source.parts)
        elif not source.value:
            found.add(source.thread)
    return found


def resolve(name: str, source: Source, outputs: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the value of `name` from the outputs of the runs.

    Raises:
        ReducerError: a reducer can't combine what the branches brought.
        KeyError: the run's outputs do not hold the name (state was lost).

    """
    if source.parts:
        return reduce(source.reducer, [resolve(name, part, outputs) for part in source.parts])
    return unpack(source.value) if source.value else outputs[source.thread][name]
