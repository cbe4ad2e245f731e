"""Data travels with the thread: which earlier run wrote what a run can see (DESIGN section 3).

A run carries, for each output name visible to it, who wrote it and when; the values stay where they were written and
are loaded when a task or a condition asks for them. Two pasts meet at a join: the later write of a name wins, or the
stage's reducer says how the branches' values become one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

__all__ = ["Past", "Source", "extended", "merged", "resolve", "threads_of"]


class Source(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Who wrote a visible value: a run, or a reducer over several sources."""

    stamp: int
    """When (us, time of the slot); among writers of one name the highest wins."""
    thread: str = ""
    reducer: str = ""
    parts: tuple["Source", ...] = ()


Past: TypeAlias = dict[str, Source]


def extended(past: Past, names: Iterable[str], thread: str, stamp: int) -> Past:
    """Return `past` after the run `thread` wrote `names`; later than all that it saw."""
    after = max((source.stamp for source in past.values()), default=0) + 1
    source = Source(max(stamp, after), thread)
    return {**past, **dict.fromkeys(names, source)}


def merged(pasts: Sequence[Past], reducers: Mapping[str, str]) -> Past:
    """Return what is visible where branches meet, given in order of their edges."""
    result: Past = {}
    for past in pasts:
        for name, source in past.items():
            if name not in result or source.stamp > result[name].stamp:
                result[name] = source
    for name, reducer in reducers.items():
        parts = tuple(dict.fromkeys(past[name] for past in pasts if name in past))
        if parts:
            result[name] = Source(max(part.stamp for part in parts), "", reducer, parts)
    return result


def threads_of(sources: Iterable[Source]) -> set[str]:
    """Return the runs whose outputs are needed to know the values of `sources`."""
    found: set[str] = set()
    for source in sources:
        found |= threads_of(source.parts) if source.parts else {source.thread}
    return found


def resolve(name: str, source: Source, outputs: Mapping[str, Mapping[str, Any]], reduce: Any) -> Any:
    """Return the value of `name` from the outputs of the runs; `reduce(reducer, values)` combines branches.

    Raises:
        KeyError: the run's outputs do not hold the name (state was lost).

    """
    if source.parts:
        return reduce(source.reducer, [resolve(name, part, outputs, reduce) for part in source.parts])
    return outputs[source.thread][name]
