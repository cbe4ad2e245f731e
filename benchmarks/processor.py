"""Where processor time goes: `.venv/bin/python -m benchmarks.processor [chain|many|fan] [SIZE ...]`.

Per stage, by process: the client, Redis, the worker's main process, its children. With and without children that wait
for messages (decision 014), beside Celery's canvas; by turns, several repetitions. Other programs may run: what they
take is not counted, though they make all of it dearer.
"""

import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.peers.canvas import Canvas
from benchmarks.peers.ours import Ours
from benchmarks.peers.processes import family
from benchmarks.peers.serving import Peer

__all__ = ["main"]

_REPETITIONS = 15
_MODES = ("per_message", "fused", "continuation")
_PARTS = ("client", "Redis", "main process", "children")
_SIZES = {"chain": [50], "many": [200, 3], "fan": [1_000]}


@dataclass(frozen=True, slots=True)
class _Variant:
    """What is measured: a peer with its worker, and whether its children wait."""

    name: str
    peer: Peer
    worker: int
    server: int


def main(kind: str, sizes: list[int]) -> None:
    """Measure one shape; print milliseconds of processor time per stage, the median of all repetitions."""
    stages = math.prod(sizes) if kind == "many" else sizes[0]
    with ExitStack() as stack:
        variants = list(_variants(stack))
        spent: dict[str, list[list[float]]] = {variant.name: [] for variant in variants}
        for _ in range(_REPETITIONS):
            for variant in variants:
                before = _used_ms(variant)
                variant.peer.do(kind, sizes)
                spent[variant.name].append([(b - a) / stages for a, b in zip(before, _used_ms(variant), strict=True)])
    print(
        f"{kind} {'x'.join(map(str, sizes))}, ms per stage".ljust(34), *(f"{part:>12}" for part in (*_PARTS, "worker"))
    )
    for name, rows in spent.items():
        told = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(name.ljust(34), *(f"{value:>12.2f}" for value in (*told, told[2] + told[3])))


def _variants(stack: ExitStack) -> Iterator[_Variant]:
    yield _variant("Celery's canvas", Canvas(_folder(stack), stack, ["acks"]))
    for mode in _MODES:
        for wait_ms in ("0", "1000"):
            os.environ["STABILIZE_WAIT_MS"] = wait_ms
            name = f"{mode}, {'children wait' if wait_ms != '0' else 'each to Celery'}"
            yield _variant(name, Ours(_folder(stack), stack, [mode, "ledger"]))


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


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "chain"
    main(chosen, [int(size) for size in sys.argv[2:]] or _SIZES[chosen])
