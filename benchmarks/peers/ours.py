"""This project: its deployable worker, its client, in one of its modes."""

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import redis

from benchmarks.peers.processes import Costs, resident_bytes
from benchmarks.peers.servers import POOL, durable_redis, running
from benchmarks.peers.serving import Answer, Cannot, Peer, eventually_true, serve
from benchmarks.shapes import chain, fan_in, one_after_another, signalled
from benchmarks.stamps import Stamps
from stabilize_celery import Client, Workflow
from stabilize_celery import settings as settings_module
from stabilize_celery.engine.locks import WAITERS
from stabilize_celery.engine.places import WORKFLOW
from stabilize_celery.engine.steps import Slot, lock_slot, workflow_slot
from stabilize_celery.settings import Settings
from stabilize_celery.store.addresses import Address, address_of
from stabilize_celery.transport.worker_command import worker_argv

__all__ = ["Ours", "known_modes"]

_QUEUES = (Settings().control_queue, Settings().work_queue)
_OPTIONS = ("--pool=prefork", f"--concurrency={POOL}", "--without-heartbeat", "--loglevel=WARNING")


def known_modes() -> tuple[str, ...]:
    """Return the modes that the installed product has; one from before it had a choice goes message by message."""
    return getattr(settings_module, "MODES", ("per_message",))


class Ours(Peer):
    """A client and one worker with a pool of two; broker and state are one server.

    Arguments are the mode, and what queues the worker consumes beside ours. One with an equals sign is of the worker's
    environment, one with a hyphen an option of its command; `broker=apart` gives the broker a server of its own.
    """

    packages: tuple[str, ...] = ("celery", "kombu", "redis", "stabilize-celery")

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        super().__init__(folder, stack, arguments)
        given = [one for one in arguments if "=" not in one and not one.startswith("-")]
        mode, *queues = given
        options = [one for one in arguments if one.startswith("-")]
        more = dict(one.split("=", 1) for one in arguments if "=" in one and not one.startswith("-"))
        if mode not in known_modes():
            raise Cannot(f"the product has no mode {mode!r}, only {', '.join(known_modes())}")
        os.environ["STABILIZE_MODE"] = mode
        self.stamps = Stamps(folder)
        self.server = stack.enter_context(durable_redis())
        broker = stack.enter_context(durable_redis()) if more.pop("broker", "") else self.server
        environ = {
            "STABILIZE_REDIS_URL": self.server.url,
            "STABILIZE_BROKER_URL": broker.url,
            "STABILIZE_TASK_MODULES": "benchmarks.peers.ours_tasks",
            **more,
        }
        consumed = f"--queues={','.join((*_QUEUES, *queues))}"
        command = worker_argv("workers.app", Settings.from_env(environ), extra=(*_OPTIONS, consumed, *options))
        self.worker = stack.enter_context(running(command, environ, folder / "worker.log"))
        settings = Settings.from_env(os.environ, redis_url=self.server.url, broker_url=broker.url)
        self.client = stack.enter_context(Client(settings=settings))
        self.redis = stack.enter_context(redis.Redis.from_url(self.server.url))

    def warm(self) -> None:
        eventually_true(lambda: self.client.store.fleet() or self.worker.poll() is not None, 0.05)
        if self.worker.poll() is not None:
            raise RuntimeError((self.folder / "worker.log").read_text()[-2000:])
        for _ in range(3):
            self._run([chain(5, "noop"), fan_in(5, "noop")])

    def chain(self, length: int) -> Answer:
        return self._watched([chain(length, "noop")])

    def many(self, count: int, length: int) -> Answer:
        return self._watched([chain(length, "noop") for _ in range(count)])

    def fan(self, width: int) -> Answer:
        return self._watched([fan_in(width, "noop")])

    def _watched(self, workflows: list[Workflow]) -> Answer:
        """Run workflows, and see what it costs in processor time and commands."""
        costs = Costs(self.redis, self.worker.pid)
        seconds = self._run(workflows)
        return {"seconds": seconds, **costs.per_stage(sum(len(workflow.stages) for workflow in workflows))}

    def worker_memory(self, messages: int) -> Answer:
        """Run workflows until about so many messages were handled; the worker's memory after each tenth."""
        stages = messages // (3 if self.arguments[0] == "per_message" else 1)
        sizes = []
        for _ in range(10):
            left = stages // 10
            while left > 0:
                self._run([chain(3, "noop") for _ in range(min(200, left // 3 + 1))])
                left -= 600
            sizes.append(resident_bytes(self.worker.pid))
        return {"rss_bytes": sizes}

    def submit(self, count: int) -> Answer:
        workflows = [chain(1, "noop") for _ in range(count)]
        began = time.perf_counter()
        handles = self.client.start_many(workflows)
        seconds = time.perf_counter() - began
        self._wait(handle.id for handle in handles)
        return {"seconds": seconds, "ended_after_s": time.perf_counter() - began}

    def mutex(self, waiters: int) -> Answer:
        key = str(uuid4())
        return {"seconds": self._run([one_after_another("noop", f"m{at}", key) for at in range(waiters)])}

    def release(self, samples: int) -> Answer:
        """All stand in line before the first goes on: what is measured is the hand-over, not how they came."""
        self.stamps.clear()
        key = str(uuid4())
        first = self.client.start(one_after_another("bench_ask", "first", key))
        eventually_true(lambda: "SUSPENDED" in {stage.status.name for stage in first.get().stages}, 0.005)
        others = [one_after_another("bench_stamp", f"m{at}", key) for at in range(samples + 1)]
        handles = [first, *self.client.start_many(others)]
        line = self._place(lock_slot(f"GLOBAL:{key}")).key(WAITERS)
        eventually_true(lambda: self.redis.zcard(line) == len(others), 0.005)
        first.signal("first", "go")
        self._wait(handle.id for handle in handles)
        return {"delays_ms": self.stamps.gaps_ms("m")}

    def hop(self, samples: int) -> Answer:
        self.stamps.clear()
        self._run([chain(samples + 1, "bench_stamp")])
        return {"delays_ms": self.stamps.gaps_ms("s")}

    def send(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            workflow = chain(1, "bench_stamp")
            sent = time.time()
            self._run([workflow])
            delays.append(self.stamps.spans_ms("s0")[0][0] - 1000 * sent)
        return {"delays_ms": delays}

    def wake(self, samples: int) -> Answer:
        return {"delays_ms": [self._signalled("woken") for _ in range(samples)]}

    def after(self, samples: int) -> Answer:
        return {"delays_ms": [self._signalled("after") for _ in range(samples)]}

    def join(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            self._run([fan_in(10, "bench_stamp")])
            last = max(ended for _, ended in self.stamps.spans_ms("m"))
            delays.append(self.stamps.spans_ms("last")[0][0] - last)
        return {"delays_ms": delays}

    def _signalled(self, awaited: str) -> float:
        self.stamps.clear()
        handle = self.client.start(signalled("bench_ask", "bench_stamp"))
        eventually_true(lambda: "SUSPENDED" in {stage.status.name for stage in handle.get().stages}, 0.005)
        sent = time.time()
        handle.signal("ask", "go")
        self._wait([handle.id])
        return self.stamps.spans_ms(awaited)[0][0] - 1000 * sent

    def _run(self, workflows: list[Workflow]) -> float:
        began = time.perf_counter()
        handles = self.client.start_many(workflows)
        self._wait(handle.id for handle in handles)
        seconds = time.perf_counter() - began
        for handle in handles[-1:]:
            if (status := handle.status().name) != "SUCCEEDED":
                raise RuntimeError(f"workflow {handle.id} ended {status}: there is nothing to measure")
        return seconds

    def _wait(self, ids: Iterable[str]) -> None:
        """Look at one key, as the peers do."""
        for workflow_id in ids:
            eventually_true(partial(self._has_ended, workflow_id))

    def _has_ended(self, workflow_id: str) -> bool:
        return bool(self.redis.hexists(self._place(workflow_slot(workflow_id)).key(WORKFLOW), "ended_ms"))

    def _place(self, slot: Slot) -> Address:
        return address_of(slot, self.client.settings.namespace, self.client.settings.partitions)


if __name__ == "__main__":
    serve(Ours)
