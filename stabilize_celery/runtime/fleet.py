"""The fleet as its registry shows it: who is there, who knows which task type, who listens on which queue."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SILENT_MS", "Fleet", "Worker", "worker_of"]

SILENT_MS = 15_000
"""A worker that has not announced itself for so long does not count as there (it does so every 5 s)."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker's line of the registry. `silent_ms`: how long ago it wrote it."""

    id: str
    node: str
    types: frozenset[str]
    queues: frozenset[str]
    silent_ms: int
    version: str = ""

    @property
    def answers(self) -> bool:
        """Whether it counts as there."""
        return self.silent_ms <= SILENT_MS


class Fleet:
    """All workers that were heard of within the last minute."""

    def __init__(self, lines: Mapping[str, Mapping[str, bytes]], now_ms: int) -> None:
        self._workers = {name: _worker(name, line, now_ms) for name, line in sorted(lines.items())}

    @property
    def live(self) -> list[Worker]:
        """The workers that answer."""
        return [worker for worker in self._workers.values() if worker.answers]

    @property
    def types(self) -> set[str]:
        """All task types that a live worker knows."""
        return {name for worker in self.live for name in worker.types}

    def find(self, worker_id: str) -> Worker | None:
        """Return a worker by its id, if it was heard of within the last minute."""
        return self._workers.get(worker_id)

    def listening(self, queue: str) -> list[Worker]:
        """Return the live workers that consume a queue."""
        return [worker for worker in self.live if queue in worker.queues]

    def knows(self, task_type: str) -> bool:
        """Return whether a live worker knows a task type; types with a prefix are known when they are looked up."""
        return ":" in task_type or task_type in self.types


def worker_of(owner: str) -> str:
    """Return the id of the worker that a claim's owner text `<worker>:<pid>/<claim>` names."""
    return owner.rpartition("/")[0].rpartition(":")[0] or owner


def _worker(name: str, line: Mapping[str, bytes], now_ms: int) -> Worker:
    node = line.get("node", b"").decode() or name.partition("#")[0]
    return Worker(
        name,
        node,
        frozenset(_lines(line.get("types", b""))),
        frozenset(_lines(line.get("queues", b""))),
        max(0, now_ms - int(line.get("seen", b"0"))),
        line.get("version", b"").decode(),
    )


def _lines(packed: bytes) -> list[str]:
    return [name for name in packed.decode().split("\n") if name]
