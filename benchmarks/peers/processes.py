"""What a process and its children have used."""

import contextlib
from typing import Any

import psutil
import redis

__all__ = ["Costs", "cpu_s", "family", "own_cpu_s", "resident_bytes"]


class Costs:
    """What a worker and its Redis spend while something runs, per stage."""

    def __init__(self, client: "redis.Redis", worker: int) -> None:
        self._client = client
        self._worker = worker
        self._before = self._now()

    def per_stage(self, stages: int) -> dict[str, float]:
        """Return what was spent since this was made, by the name that results have for it."""
        now = self._now()
        return {name: (value - self._before[name]) / stages for name, value in now.items()}

    def _now(self) -> dict[str, float]:
        told: Any = self._client.info()
        return {
            "worker_cpu_ms_per_stage": 1000 * cpu_s(self._worker),
            "redis_cpu_ms_per_stage": 1000 * (told["used_cpu_user"] + told["used_cpu_sys"]),
            "redis_commands_per_stage": told["total_commands_processed"],
        }


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and its living children (s)."""
    return sum(own_cpu_s(one) for one in family(pid))


def own_cpu_s(pid: int) -> float:
    """Return the processor time of one process, without its children (s); 0: it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def resident_bytes(pid: int) -> int:
    """Return the memory of a process and its living children; pages that they share count for each."""
    sizes = 0
    for one in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            sizes += psutil.Process(one).memory_info().rss
    return sizes


def family(pid: int) -> list[int]:
    """Return the ids of a process and its children, for as long as it lives."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children())]
    except psutil.NoSuchProcess:
        return []
