"""What is made of the measured values: spreads, paired ratios, percentiles. Values in, values out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

__all__ = ["Spread", "growth", "paired_ratios", "percentile", "scaled"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median and maximum of values that were measured alike."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of the values.

        Raises:
            ValueError: there are none.

        """
        if not values:
            raise ValueError("no spread of no values: measure at least once")
        return cls(min(values), median(values), max(values))

    def as_json(self) -> dict[str, float]:
        """Return the three by name."""
        return asdict(self)

    def __str__(self) -> str:
        return " / ".join(scaled(value) for value in (self.minimum, self.median, self.maximum))


def paired_ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Return ours over theirs for each repetition that both were measured in, in order.

    What was measured in different repetitions is never compared: the machine may have been busier in one of them.
    """
    return [ours[at] / theirs[at] for at in sorted(ours.keys() & theirs.keys()) if theirs[at] > 0]


def growth(small: Sequence[float], large: float, small_size: int, large_size: int) -> float:
    """Return the large run's cost per stage over that of the small runs before and after it."""
    return (large / large_size) / (sum(small) / len(small) / small_size)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0..1) of the values do not exceed.

    Raises:
        ValueError: there are no values.

    """
    if not values:
        raise ValueError("no percentile of no values: measure at least once")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def scaled(value: float) -> str:
    """Return a number with three significant digits, and no more of them than it needs."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
