"""What a flood costs: many workflows submitted at once, then a worker; and small ones behind one of many branches.

Do all end, how fast, how long do queues become, what memory of Redis does a waiting and a finished workflow take, and
does that of the worker grow? The worker is as recommended: mode `fused`, a pool of two.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import redis

from benchmarks import tables
from benchmarks.backends import eventually
from benchmarks.peers.processes import family
from benchmarks.peers.servers import POOL, durable_redis, running
from benchmarks.shapes import chain, fan_out
from stabilize_celery import Client
from stabilize_celery.runtime.lanes import lanes
from stabilize_celery.settings import FUSED, Settings
from stabilize_celery.transport.worker_command import worker_argv

__all__ = ["measure", "table"]

_QUEUES = (Settings().control_queue, Settings().work_queue)
_OPTIONS = ("--pool=prefork", f"--concurrency={POOL}", "--loglevel=WARNING", f"--queues={','.join(_QUEUES)}")
_STAGES = 5
_LONGEST_S = 1_800
_SMALL = 5


def measure(size: int, branches: int) -> dict[str, Any]:
    """Measure both; times in s, memory in bytes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(durable_redis())
        environ = {
            "STABILIZE_REDIS_URL": server.url,
            "STABILIZE_BROKER_URL": server.url,
            "STABILIZE_MODE": FUSED,
            "STABILIZE_TASK_MODULES": "benchmarks.peers.ours_tasks",
        }
        settings = Settings.from_env({**os.environ, **environ})
        client = stack.enter_context(Client(settings=settings))
        state = stack.enter_context(redis.Redis.from_url(server.url))

        def start_worker() -> int:
            command = worker_argv("workers.app", settings, extra=_OPTIONS)
            worker = stack.enter_context(running(command, environ, folder / "worker.log")).pid
            eventually(client.store.fleet)
            return worker

        return _flood(client, state, size, start_worker) | _behind_a_large_one(client, branches)


def _flood(client: Client, state: "redis.Redis", size: int, start_worker: Callable[[], int]) -> dict[str, Any]:
    empty = _memory(state)
    began = time.monotonic()
    client.start_many([chain(_STAGES, "noop") for _ in range(size)])
    submitting_s = time.monotonic() - began
    waiting = _memory(state) - empty
    worker = start_worker()
    at_first = _resident(worker)
    longest = 0

    def have_ended() -> bool:
        nonlocal longest
        longest = max(longest, sum(int(state.llen(lane)) for queue in _QUEUES for lane in lanes(queue)))
        ended = client.store.indexed("ended", dict.fromkeys(range(client.store.partitions()), 0), size)
        return sum(map(len, ended.values())) == size

    began = time.monotonic()
    eventually(have_ended, _LONGEST_S, 0.5)
    took_s = time.monotonic() - began
    return {
        "workflows": size,
        "stages": _STAGES,
        "submitting_s": submitting_s,
        "took_s": took_s,
        "stages_per_s": size * _STAGES / took_s,
        "longest_queues": longest,
        "bytes_per_waiting_workflow": waiting / size,
        "bytes_per_finished_workflow": (_memory(state) - empty) / size,
        "worker_bytes_at_first": at_first,
        "worker_bytes_after_it": _resident(worker),
    }


def _behind_a_large_one(client: Client, branches: int) -> dict[str, Any]:
    alone = [_took(client) for _ in range(_SMALL)]
    large = client.start(fan_out(branches, "noop"))
    eventually(lambda: large.get().stage_by_ref_id("first").status.is_complete, pause_s=0.01)
    behind = [_took(client) for _ in range(_SMALL)]
    large.wait(timeout_s=_LONGEST_S)
    return {
        "branches": branches,
        "small_alone_s": statistics.median(alone),
        "first_small_behind_s": behind[0],
        "median_small_behind_s": statistics.median(behind),
    }


def _took(client: Client) -> float:
    began = time.monotonic()
    client.start(chain(_STAGES, "noop")).wait(timeout_s=_LONGEST_S)
    return time.monotonic() - began


def _memory(state: "redis.Redis") -> int:
    told: Any = state.info("memory")
    return int(told["used_memory"])


def _resident(worker: int) -> list[int]:
    """Return the memory of a worker's main process and of its children (bytes)."""
    return [psutil.Process(pid).memory_info().rss for pid in family(worker)]


def table(found: dict[str, Any]) -> str:
    """Return what was found in Markdown."""
    rows = [
        (f"{found['workflows']:,} workflows of {found['stages']} stages submitted", f"{found['submitting_s']:.1f} s"),
        ("all of them executed", f"{found['took_s']:.0f} s, {found['stages_per_s']:,.0f} stages/s"),
        ("most messages in queues at once", f"{found['longest_queues']:,}"),
        ("Redis, per waiting workflow", f"{found['bytes_per_waiting_workflow']:,.0f} bytes"),
        ("Redis, per finished workflow", f"{found['bytes_per_finished_workflow']:,.0f} bytes"),
        ("memory of the worker's processes at first", _megabytes(found["worker_bytes_at_first"])),
        ("the same after all of it", _megabytes(found["worker_bytes_after_it"])),
        (f"a chain of {found['stages']} alone (median)", f"{found['small_alone_s']:.2f} s"),
        (f"the first one behind {found['branches']:,} branches", f"{found['first_small_behind_s']:.2f} s"),
        ("five of them, one after the other (median)", f"{found['median_small_behind_s']:.2f} s"),
    ]
    return tables.table(["a flood", ""], rows)


def _megabytes(sizes: list[int]) -> str:
    return ", ".join(f"{size / 1e6:.0f} MB" for size in sizes)
