"""What a flood costs: `.venv/bin/python -m benchmarks.load [workflows] [branches]`.

So many workflows of five stages are submitted at once to two workers of one process each: do all end, how long are the
queues at most, what memory does a waiting and what a finished workflow take. Then one workflow of so many branches is
started, and small ones behind it: how long do those take?
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import redis

from stabilize_celery import Workflow
from stabilize_celery.runtime.lanes import lanes
from stabilize_celery.settings import Settings
from tests.chaos.fleet import STATE_SERVER, ChaosFleet
from tests.chaos.flows import stage
from tests.integration.fleet import eventually
from tests.servers import RedisServer

__all__ = ["main"]

_QUEUES = (Settings().control_queue, Settings().work_queue)
_STAGES = 5
_LONGEST_S = 1_800
_SMALL = 5


def main(size: int, branches: int) -> dict[str, float]:
    """Measure both; times in s, memory in bytes."""
    with tempfile.TemporaryDirectory() as folder, RedisServer(*STATE_SERVER, append_only=True) as server:
        fleet = ChaosFleet(server, server, Path(folder))
        try:
            return _flood(fleet, server, size) | _behind_a_large_one(fleet, branches)
        finally:
            fleet.stop()


def _flood(fleet: ChaosFleet, server: RedisServer, size: int) -> dict[str, float]:
    with redis.Redis(port=server.port) as client:
        empty = client.info("memory")["used_memory"]
        began = time.monotonic()
        fleet.client.start_many([_chain(number) for number in range(size)])
        submitted_s = time.monotonic() - began
        waiting = client.info("memory")["used_memory"] - empty
        longest = 0
        for _ in range(2):
            fleet.add_worker(1)

        def ended() -> bool:
            nonlocal longest
            longest = max(longest, sum(client.llen(lane) for queue in _QUEUES for lane in lanes(queue)))
            time.sleep(0.5)
            return sum(len(ids) for ids in fleet.store.indexed("ended", _everywhere(fleet), size).values()) == size

        began = time.monotonic()
        eventually(ended, _LONGEST_S)
        took_s = time.monotonic() - began
        finished = client.info("memory")["used_memory"] - empty
    return {
        "workflows": size,
        "submitting_s": submitted_s,
        "took_s": took_s,
        "stages_per_s": size * _STAGES / took_s,
        "longest_queues": longest,
        "bytes_per_waiting_workflow": waiting / size,
        "bytes_per_finished_workflow": finished / size,
    }


def _everywhere(fleet: ChaosFleet) -> dict[int, int]:
    return dict.fromkeys(range(fleet.store.partitions()), 0)


def _behind_a_large_one(fleet: ChaosFleet, branches: int) -> dict[str, float]:
    alone = [_took(fleet, number) for number in range(_SMALL)]
    middle = [stage(f"b{number}", "in") for number in range(branches)]
    large = fleet.client.start(
        Workflow.create("bench", "large", [stage("in"), *middle, stage("out", *(one.ref_id for one in middle))])
    )
    eventually(lambda: large.get().stage_by_ref_id("in").status.is_complete, 60)
    behind = [_took(fleet, number) for number in range(_SMALL)]
    large.wait(_LONGEST_S)
    return {"branches": branches, "small_alone_s": statistics.median(alone), "first_small_behind_s": behind[0]}


def _took(fleet: ChaosFleet, number: int) -> float:
    began = time.monotonic()
    fleet.client.start(_chain(number)).wait(_LONGEST_S)
    return time.monotonic() - began


def _chain(number: int) -> Workflow:
    stages = [stage(f"s{at}", *([f"s{at - 1}"] if at else [])) for at in range(_STAGES)]
    return Workflow.create("bench", f"chain{number}", stages)


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:3]] or [10_000]
    result = main(given[0], given[1] if len(given) > 1 else given[0])
    print(json.dumps({name: round(value, 2) for name, value in result.items()}, indent=2))
