"""Where processor time goes: per stage, by process: the client, Redis, the worker's main process, its children.

Our modes beside Celery's canvas; by turns, several repetitions. Other programs may run: what they take is not counted,
though they make all of it dearer.
"""

import math
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks import tables
from benchmarks.peers.canvas import Canvas
from benchmarks.peers.ours import Ours
from benchmarks.peers.processes import family
from benchmarks.peers.serving import Peer
from benchmarks.plan import MODES

__all__ = ["PARTS", "SHAPES", "measure", "table"]

CANVAS = "Celery's canvas"
PARTS = ("client", "Redis", "main process", "children")
SHAPES = {"chain of 50": ("chain", [50], 15), "200 x 3": ("many", [200, 3], 7), "fan-out of 1,000": ("fan", [1_000], 5)}
"""What is measured: the method of a peer, its arguments, how often."""


@dataclass(frozen=True, slots=True)
class _Variant:
    """What is measured: a peer with its worker."""

    name: str
    peer: Peer
    worker: int
    server: int


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Return what each part used of the processor, by shape and variant (ms per stage): medians of all repetitions."""
    with ExitStack() as stack:
        variants = list(_variants(stack))
        return {shape: _spent(variants, *what) for shape, what in SHAPES.items()}


def _spent(variants: Sequence[_Variant], kind: str, sizes: list[int], repetitions: int) -> dict[str, dict[str, float]]:
    stages = math.prod(sizes) if kind == "many" else sizes[0]
    spent: dict[str, list[list[float]]] = {variant.name: [] for variant in variants}
    for _ in range(repetitions):
        for variant in variants:
            before = _used_ms(variant)
            variant.peer.do(kind, sizes)
            spent[variant.name].append([(b - a) / stages for a, b in zip(before, _used_ms(variant), strict=True)])
    return {
        name: dict(zip(PARTS, map(statistics.median, zip(*rows, strict=True)), strict=True))
        for name, rows in spent.items()
    }


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return the medians in Markdown, by shape; the last column is all parts' over those of the first variant."""
    head = ["ms per stage", "", *PARTS, "all", "to canvas"]
    rows = []
    for shape, variants in found.items():
        reference = sum(variants[CANVAS].values())
        for name, parts in variants.items():
            told = [f"{value:.2f}" for value in (*parts.values(), sum(parts.values()), sum(parts.values()) / reference)]
            rows.append([shape, name, *told])
    return tables.table(head, rows)


def _variants(stack: ExitStack) -> Iterator[_Variant]:
    yield _variant(CANVAS, Canvas(_folder(stack), stack, ["acks"]))
    for mode in MODES:
        yield _variant(f"`{mode}`", Ours(_folder(stack), stack, [mode]))


def _variant(name: str, peer: "Canvas | Ours") -> _Variant:
    peer.warm()
    client: redis.Redis = peer.redis
    server = int(client.info()["process_id"])  # type: ignore[index]  # redis-py's types are of both its clients
    return _Variant(name, peer, peer.worker.pid, server)


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="processor-")))


def _used_ms(variant: _Variant) -> list[float]:
    """Return what each part has used so far (ms)."""
    children = [pid for pid in family(variant.worker) if pid != variant.worker]
    own, server, main_process = (_process_ms(pid) for pid in (os.getpid(), variant.server, variant.worker))
    return [own, server, main_process, sum(map(_process_ms, children))]


def _process_ms(pid: int) -> float:
    """Return the processor time of all threads of a process, which the kernel counts in nanoseconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in threads) / 1e6
