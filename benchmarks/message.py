"""What a stage costs in our own code: processor time, calls by part, Redis commands, round trips.

`python -m benchmarks message`: one process, a Redis of its own, no Celery. Calls tell a change of 1 % on a busy
machine, where times of the same code differ by half.
"""

import cProfile
import pstats
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import redis

from benchmarks import tables
from benchmarks.backends import InProcess
from benchmarks.shapes import chain
from stabilize_celery import Workflow
from stabilize_celery.settings import CONTINUATION, FUSED, PER_MESSAGE
from tests.servers import RedisServer

__all__ = ["PARTS", "Cost", "cost_of", "measure", "part_of", "table"]

PARTS = ("engine", "store", "runtime", "models", "tasks", "redis-py", "the rest")
"""Folders of the package, and what lies outside of it."""
SHAPES: Mapping[str, Callable[[], list[Workflow]]] = {
    "chain of 50": lambda: [chain(50, "same_key")],
    "20 x 3": lambda: [chain(3, "same_key") for _ in range(20)],
}
_OURS = "stabilize_celery/"
_LOOKS = ("config", "info", "client", "hello", "select")


@dataclass(frozen=True, slots=True)
class Cost:
    """Per stage; `start_ms` per workflow. Times are of the processor (ms), the median of the repetitions."""

    mode: str
    shape: str
    cpu_ms: float
    start_ms: float
    commands: float
    round_trips: float
    calls: Mapping[str, float]
    """By part, with those of built-in functions, which count where they are called."""


def cost_of(backend: InProcess, mode: str, shape: str, repetitions: int) -> Cost:
    """Measure one shape on a backend that has run it before."""
    stages = sum(len(workflow.stages) for workflow in SHAPES[shape]())
    times = [_timed(backend, SHAPES[shape]()) for _ in range(repetitions)]
    commands, round_trips = _sent(backend, SHAPES[shape]())
    return Cost(
        mode,
        shape,
        median(handling for _, handling in times) * 1000 / stages,
        median(starting for starting, _ in times) * 1000 / len(SHAPES[shape]()),
        commands / stages,
        round_trips / stages,
        {part: calls / stages for part, calls in _calls(backend, SHAPES[shape]()).items()},
    )


def _timed(backend: InProcess, workflows: Sequence[Workflow]) -> tuple[float, float]:
    """Return the processor time of starting workflows, and of handling all their messages (s)."""
    began = time.process_time()
    for workflow in workflows:
        backend.runtime.submit(workflow)
    started = time.process_time()
    backend.handle_all()
    return started - began, time.process_time() - started


def _sent(backend: InProcess, workflows: Sequence[Workflow]) -> tuple[int, int]:
    """Return how many commands and round trips workflows cost, their start in it."""
    with redis.Redis.from_url(backend.url) as client:
        client.config_resetstat()
        before = backend.store.round_trips
        _timed(backend, workflows)
        stats: Mapping[str, Mapping[str, int]] = client.info("commandstats")
        spared = tuple(f"cmdstat_{name}" for name in _LOOKS)
        counted = sum(stat["calls"] for name, stat in stats.items() if not name.startswith(spared))
        return counted, backend.store.round_trips - before


def _calls(backend: InProcess, workflows: Sequence[Workflow]) -> Counter[str]:
    """Return how many functions are called while messages are handled, by part."""
    for workflow in workflows:
        backend.runtime.submit(workflow)
    profile = cProfile.Profile()
    profile.runcall(backend.handle_all)
    found: Counter[str] = Counter()
    # The standard library tells no types of what it has counted.
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, _), (_, calls, _, _, callers) in stats.items():
        if file == "~":
            for (caller, _, _), (_, called, _, _) in callers.items():
                found[part_of(caller)] += called
        else:
            found[part_of(file)] += calls
    return found


def part_of(file: str) -> str:
    """Return the part that a source file belongs to."""
    if "site-packages/redis/" in file or "site-packages/hiredis/" in file:
        return "redis-py"
    folder = file.rpartition(_OURS)[2].partition("/")[0] if _OURS in file else ""
    return folder if folder in PARTS else "the rest"


def table(costs: Sequence[Cost]) -> str:
    """Return costs as a table in Markdown."""
    head = ["mode", "shape", "CPU, ms", "start of a workflow, ms", "commands", "round trips", "calls", *PARTS]
    rows = []
    for cost in costs:
        figures = [f"{cost.cpu_ms:.2f}", f"{cost.start_ms:.2f}", f"{cost.commands:.0f}", f"{cost.round_trips:.1f}"]
        calls = [f"{sum(cost.calls.values()):,.0f}", *(f"{cost.calls.get(part, 0):.0f}" for part in PARTS)]
        rows.append([f"`{cost.mode}`", cost.shape, *figures, *calls])
    return tables.table(head, rows)


def measure(repetitions: int = 10) -> list[Cost]:
    """Measure all modes and shapes, on a server of their own."""
    costs = []
    with RedisServer() as server:
        for mode in (PER_MESSAGE, FUSED, CONTINUATION):
            backend = InProcess(server.url, mode)
            for shape, make in SHAPES.items():
                _timed(backend, make())
                costs.append(cost_of(backend, mode, shape, repetitions))
            backend.store.close()
    return costs
