"""Does the cost of a stage grow with the workflow? A thousand stages against a hundred, side by side in one run.

Each repetition measures small, large, small again; its ratio is the large one's cost per stage over the small ones'. So
a machine that becomes slower or faster in between moves both, and single figures are not to be compared with others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.backends import Backend, in_process, on_celery
from benchmarks.shapes import chain, fan_out, many_instances
from stabilize_celery import Workflow

__all__ = ["LIMIT", "Measured", "Shape", "measure", "table"]

LIMIT = 1.3
"""Cost per stage, large over small: at most this: cost is local."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of workflow. `make(size)`: one of `size` stages or instances, give or take the two ends of a fan."""

    name: str
    make: Callable[[int], Workflow]


SHAPES = (
    Shape("chain", lambda size: chain(size, "same_key")),
    Shape("chain, each stage its own output", lambda size: chain(size, "own_key")),
    Shape("fan-out and join", lambda size: fan_out(size, "same_key")),
    Shape("fan-out and join, own outputs", lambda size: fan_out(size, "own_key")),
    Shape("instances of one stage", lambda size: many_instances(size, "same_key")),
)


@dataclass(slots=True)
class Measured:
    """One shape on one backend. Costs are ms per stage, one per repetition."""

    backend: str
    shape: str
    small: int
    large: int
    small_ms: list[float] = field(default_factory=list)
    large_ms: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def is_within(self) -> bool:
        """Whether the median ratio is within the limit."""
        return median(self.ratios) <= LIMIT

    def as_json(self) -> dict[str, Any]:
        """Return everything measured, with the ratio's spread."""
        spread = {"min": min(self.ratios), "median": median(self.ratios), "max": max(self.ratios)}
        return {**asdict(self), "ratio": spread, "limit": LIMIT, "is_within": self.is_within}


def measure(repetitions: int, small: int, large: int, *, fleet: bool = True) -> Iterator[Measured]:
    """Yield what was measured, backend by backend; the shapes take turns within each repetition."""
    with in_process() as backend:
        yield from _measure_on(backend, repetitions, small, large)
    if fleet:
        with on_celery() as backend:
            yield from _measure_on(backend, repetitions, small, large)


def _measure_on(backend: Backend, repetitions: int, small: int, large: int) -> Sequence[Measured]:
    found = [Measured(backend.name, shape.name, small, large) for shape in SHAPES]
    backend.run(chain(small, "same_key"))
    for _ in range(repetitions):
        for shape, measured in zip(SHAPES, found, strict=True):
            _repeat(backend, shape, measured)
    return found


def _repeat(backend: Backend, shape: Shape, measured: Measured) -> None:
    def cost_ms(size: int, times: int) -> float:
        return sum(backend.run(shape.make(size)) for _ in range(times)) * 1000 / size / times

    before = cost_ms(measured.small, 3)
    large = cost_ms(measured.large, 1)
    after = cost_ms(measured.small, 3)
    measured.small_ms.append((before + after) / 2)
    measured.large_ms.append(large)
    measured.ratios.append(large / measured.small_ms[-1])


def table(rows: Sequence[Measured]) -> str:
    """Return the rows as people read them."""
    head = f"{'where':<13} {'shape':<34} {'ms/stage':>17} {'ratio min/median/max':>22}  at most {LIMIT}"
    sizes = f"{'':<13} {'':<34} {'at ' + str(rows[0].small):>8} {'at ' + str(rows[0].large):>8}" if rows else ""
    return "\n".join([head, sizes, *map(_line, rows)])


def _line(row: Measured) -> str:
    spread = f"{min(row.ratios):.2f} / {median(row.ratios):.2f} / {max(row.ratios):.2f}"
    costs = f"{median(row.small_ms):>8.2f} {median(row.large_ms):>8.2f}"
    return f"{row.backend:<13} {row.shape:<34} {costs} {spread:>22}  {'yes' if row.is_within else 'NO'}"
