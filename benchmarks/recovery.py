"""How long the work of a lost machine lies still, at default settings.

A worker is killed with its pool (-9) while it executes a task; another one with a free process is there. Told is
the time from the kill to the moment at which the task's body starts again.
"""

import tempfile
import time
from pathlib import Path

from stabilize_celery import Workflow
from tests.chaos.fleet import STATE_SERVER, ChaosFleet
from tests.chaos.flows import stage
from tests.integration.fleet import eventually
from tests.servers import RedisServer

__all__ = ["measure"]

_BODY_S = 30


def measure(kills: int) -> list[float]:
    """Kill so many workers, one after another; return how long each task waited (s)."""
    with tempfile.TemporaryDirectory() as folder, RedisServer(*STATE_SERVER, append_only=True) as server:
        fleet = ChaosFleet(server, server, Path(folder))
        try:
            fleet.add_worker(1)
            return [_lost(fleet, number) for number in range(kills)]
        finally:
            fleet.stop()


def _lost(fleet: ChaosFleet, number: int) -> float:
    ref = f"long{number}"
    run = fleet.client.start(Workflow.create("bench", ref, [stage(ref, does="work", context={"sleep_s": _BODY_S})]))
    (first,) = eventually(lambda: fleet.journal("start", ref), 60)
    doomed = next(one for one in fleet.workers if first["pid"] in (one.process.pid, *_pool(fleet, one.process.pid)))
    # Started now, so that it is the only one that is free, and idle.
    fleet.add_worker(1)
    killed_s = time.time()
    doomed.kill_group()
    fleet.workers.remove(doomed)
    _, second = eventually(lambda: both if len(both := fleet.journal("start", ref)) > 1 else None, 60)
    run.cancel("measured")
    eventually(lambda: run.status().is_complete, 60)
    waited_s = float(second["at"]) - killed_s
    print(f"{number + 1}: {waited_s:.1f} s", flush=True)
    return waited_s


def _pool(fleet: ChaosFleet, pid: int) -> list[int]:
    return [child for one in fleet.workers if one.process.pid == pid for child in fleet.children(one)]
