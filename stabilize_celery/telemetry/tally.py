"""Numbers that grow: counters and histograms of one process, and how they are told to another one."""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from stabilize_celery.telemetry.catalogue import CATALOGUE

__all__ = ["Count", "Series", "Sink", "Tally"]

Count: TypeAlias = tuple[str, tuple[str, ...], float]
"""A metric's name, the values of its labels, and what to add to a counter or to put into a histogram."""


class Sink(Protocol):
    """Takes counts."""

    def add(self, counts: Sequence[Count]) -> None:
        """Take counts; must not raise, and must not wait."""
        ...


@dataclass(slots=True)
class Series:
    """One line of a metric: its sum, and of a histogram how many values there are up to each bucket's bound."""

    total: float = 0.0
    count: int = 0
    buckets: list[int] = field(default_factory=list)


class Tally:
    """The sums of all counts. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[tuple[str, tuple[str, ...]], Series] = {}

    def add(self, counts: Sequence[Count]) -> None:
        """Add counts; those of unknown metrics (of another version's process) are left out."""
        with self._lock:
            for name, labels, value in counts:
                if name in CATALOGUE:
                    self._add(name, labels, value)

    def _add(self, name: str, labels: tuple[str, ...], value: float) -> None:
        bounds = CATALOGUE[name].buckets
        series = self._series.get((name, labels))
        if series is None:
            series = self._series[name, labels] = Series(buckets=[0] * (len(bounds) + 1))
        series.total += value
        series.count += 1
        if bounds:
            series.buckets[bisect_left(bounds, value)] += 1

    def read(self) -> Iterator[tuple[str, tuple[str, ...], Series]]:
        """Yield every series, as it is now."""
        with self._lock:
            found = [
                (*key, Series(series.total, series.count, list(series.buckets))) for key, series in self._series.items()
            ]
        yield from found
