"""What a process and its children have used, read from /proc; 0 where there is none."""

import os
from pathlib import Path
from typing import Any

import redis

__all__ = ["Costs", "cpu_s", "family", "resident_bytes"]


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
    ticks = 0
    for fields in family(pid).values():
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the memory of a process and its living children; pages that they share count for each."""
    return sum(int(fields[21]) for fields in family(pid).values()) * os.sysconf("SC_PAGE_SIZE")


def family(pid: int) -> dict[int, list[str]]:
    """Return the lines of /proc/PID/stat, from the third field on, of a process and its children, by process id."""
    lines = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = file.read_text()
        except OSError:
            # It has ended since it was listed.
            continue
        lines[int(text.split(" ", 1)[0])] = text.rsplit(")", 1)[1].split()
    return {one: fields for one, fields in lines.items() if one == pid or int(fields[1]) == pid}
