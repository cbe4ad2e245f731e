"""What is measured: the shapes, which of them a quick run has, and how often."""

from dataclasses import dataclass
from typing import Any

__all__ = ["FULL", "JUDGED", "LATENCIES", "MODES", "QUICK", "Plan", "Shape"]

MODES = ("per_message", "fused", "continuation")
"""The product's own modes, as they are called in results."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of work, and how much of it: `kind` is the method of a peer that does it, `sizes` its arguments."""

    kind: str
    sizes: tuple[int, ...]
    about: str

    @property
    def name(self) -> str:
        """The shape's name in results, such as `chain_50` or `many_200x3`."""
        return f"{self.kind}_{'x'.join(map(str, self.sizes))}"

    @property
    def stages(self) -> int:
        """Tasks that run in it (count)."""
        if self.kind == "many":
            return self.sizes[0] * self.sizes[1]
        return self.sizes[0] + (self.kind == "fan")

    @property
    def is_latency(self) -> bool:
        """Whether single delays are measured, and not how long all of it takes."""
        return self.kind in LATENCIES

    def as_json(self) -> dict[str, Any]:
        """Return what a peer has to know."""
        return {"kind": self.kind, "sizes": list(self.sizes)}


LATENCIES = {
    "send": "producer sends or starts, to the first line of the first body",
    "hop": "end of a body, to the first line of the next body",
    "wake": "signal, to the first line of the body that it wakes",
    "after": "signal, to the first line of the next stage's body",
    "release": "end of a body that holds a mutex, to the first line of the next holder's",
    "join": "end of the last branch, to the first line of the join's body",
}

JUDGED = ("chain_50", "many_200x3", "fan_1000")
"""The shapes that have a ratio to Celery's canvas to reach."""


def _chain(length: int) -> Shape:
    return Shape("chain", (length,), f"chain of {length:,}")


def _fan(width: int) -> Shape:
    return Shape("fan", (width,), f"fan-out of {width:,} + join")


def _many(count: int, length: int) -> Shape:
    return Shape("many", (count, length), f"{count:,} workflows x {length} stages")


def _latency(kind: str, samples: int) -> Shape:
    return Shape(kind, (samples,), LATENCIES[kind])


def _mutex(waiters: int) -> Shape:
    return Shape("mutex", (waiters,), f"a mutex with {waiters} waiters")


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of the harness. Times in s."""

    shapes: tuple[Shape, ...]
    repetitions: int
    """Of the peers that are judged; interleaved."""
    others: int
    """Repetitions of all other peers."""
    limit_s: float
    """What one measurement may take; a peer that would need longer is told as such."""
    budget_s: float
    """No repetition is begun that would end after so long since the run began. Afterwards peers that are judged are
    measured at what has no figure yet, once."""
    growth: tuple[int, int] | None = None
    """Stages of the small and the large workflow of which the cost per stage is compared."""
    growth_repetitions: int = 3
    memory: int = 1_000
    """Stages of the workflow that is weighed in Redis."""
    worker_messages: int = 0
    """Messages over which the worker's own memory is watched."""


QUICK = Plan(
    shapes=(
        _chain(50),
        _many(200, 3),
        _fan(1_000),
        *(_latency(kind, 50) for kind in LATENCIES),
        _mutex(100),
    ),
    repetitions=5,
    others=1,
    limit_s=10,
    budget_s=200,
)

FULL = Plan(
    shapes=(
        _chain(10),
        _chain(50),
        _chain(500),
        _many(200, 3),
        _fan(100),
        _fan(1_000),
        _fan(10_000),
        _mutex(100),
        Shape("submit", (10_000,), "10,000 workflows of one stage submitted"),
        *(_latency(kind, 100) for kind in LATENCIES),
    ),
    repetitions=7,
    others=3,
    limit_s=400,
    budget_s=2 * 3600,
    growth=(1_000, 10_000),
    worker_messages=100_000,
)
