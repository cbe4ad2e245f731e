"""What expectations say about time: before, during, never together."""

from collections.abc import Iterator, Sequence
from functools import cmp_to_key
from itertools import combinations
from typing import TypeAlias

from stabilize_celery.testing.conformance.history import Mark, Span, precedes

__all__ = ["Named", "find_before_end", "find_interleaving", "find_most_at_once", "find_order", "find_overlap"]

Named: TypeAlias = tuple[str, list[Span]]
"""Runs, and what the scenario calls them."""


def find_order(first: Named, second: Named) -> Iterator[str]:
    """Yield what is wrong if not every end of the first comes before every start of the second, or one did not run."""
    yield from _find_missing(first, second)
    for earlier in first[1]:
        for later in second[1]:
            if earlier.end is None or not precedes(earlier.end, later.start):
                told = _told(first, second)
                yield f"order: expected every end of {first[0]} before every start of {second[0]}; {told}"
                return


def find_before_end(first: Named, second: Named) -> Iterator[str]:
    """Yield what is wrong if the first does not start before the second last ends."""
    yield from _find_missing(first, second)
    ends = [span.end for span in second[1]]
    if not first[1] or not ends or None in ends:
        return
    if not any(end is not None and precedes(span.start, end) for span in first[1] for end in ends):
        yield f"expected {first[0]} to start before {second[0]} last ends; {_told(first, second)}"


def find_overlap(several: Sequence[Named]) -> Iterator[str]:
    """Yield each pair of runs that were at work at the same time."""
    flat = [(name, span) for name, spans in several for span in spans]
    for (name, span), (other_name, other) in combinations(flat, 2):
        if _overlap(span.start, span.end, other.start, other.end):
            told = _told((name, [span]), (other_name, [other]))
            yield f"expected no two runs of {', '.join(name for name, _ in several)} at the same time; {told}"


def find_interleaving(groups: Sequence[Sequence[Named]]) -> Iterator[str]:
    """Yield each pair of groups of which one starts before the other has ended."""
    extents = []
    for group in groups:
        spans = [span for _, runs in group for span in runs]
        if spans:
            extents.append((", ".join(name for name, _ in group), *_extent(spans)))
    for first, second in combinations(extents, 2):
        if _overlap(*first[1:], *second[1:]):
            yield f"expected [{first[0]}] and [{second[0]}] not to interleave, but they did"


def find_most_at_once(several: Sequence[Named], most: int) -> Iterator[str]:
    """Yield what is wrong if more than `most` runs were at work at some moment."""
    spans = [span for _, runs in several for span in runs]
    seen = max((sum(_is_at_work(span, other.start) for span in spans) for other in spans), default=0)
    if seen > most:
        yield f"expected at most {most} runs of {', '.join(name for name, _ in several)} at once, saw {seen}"


def _find_missing(*several: Named) -> Iterator[str]:
    yield from (f"order: expected {name} to run, but it did not" for name, spans in several if not spans)


def _is_at_work(span: Span, moment: Mark) -> bool:
    if span.start == moment:
        return True
    return precedes(span.start, moment) and (span.end is None or not precedes(span.end, moment))


def _overlap(start: Mark, end: Mark | None, other_start: Mark, other_end: Mark | None) -> bool:
    is_before = end is not None and precedes(end, other_start)
    is_after = other_end is not None and precedes(other_end, start)
    return not is_before and not is_after


def _extent(spans: Sequence[Span]) -> tuple[Mark, Mark | None]:
    ends = [span.end for span in spans]
    known = [end for end in ends if end is not None]
    return _sorted([span.start for span in spans])[0], None if len(known) < len(ends) else _sorted(known)[-1]


def _sorted(marks: Sequence[Mark]) -> list[Mark]:
    def order(one: Mark, other: Mark) -> int:
        return -1 if precedes(one, other) else 1

    return sorted(marks, key=cmp_to_key(order))


def _told(*several: Named) -> str:
    parts = []
    for name, spans in several:
        times = [f"{span.start.at}-{'...' if span.end is None else span.end.at}" for span in spans]
        parts.append(f"{name} ran at {', '.join(times)}")
    return "; ".join(parts)
