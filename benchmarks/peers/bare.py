"""A limit: Celery tasks without canvas and results. A task of a chain sends the next one itself."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from benchmarks.peers.processes import Costs
from benchmarks.peers.servers import celery_worker, durable_redis, running
from benchmarks.peers.serving import Answer, Peer, eventually_true, serve
from benchmarks.stamps import Stamps

__all__ = ["Bare"]

_NO_LOCK = "Celery has no lock; users bring their own"
_NO_SIGNAL = "Celery has no signals"


class Bare(Peer):
    """One worker with a pool of two, results ignored."""

    packages: tuple[str, ...] = ("celery", "kombu", "redis")
    cannot = {  # noqa: RUF012
        "mutex": _NO_LOCK,
        "release": _NO_LOCK,
        "wake": _NO_SIGNAL,
        "after": _NO_SIGNAL,
        "join": "bare tasks do not join",
    }

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        super().__init__(folder, stack, arguments)
        self.stamps = Stamps(folder)
        server = stack.enter_context(durable_redis())
        os.environ |= {"BENCH_BROKER": server.url, "BENCH_ACKS": arguments[0]}
        command = celery_worker("benchmarks.peers.bare_app")
        self.worker = stack.enter_context(running(command, {}, folder / "worker.log"))
        # The app is made from the environment that was just completed.
        from benchmarks.peers import bare_app  # noqa: PLC0415

        self.tasks: Any = bare_app
        self.redis = stack.enter_context(redis.Redis.from_url(server.url, socket_timeout=None))

    def warm(self) -> None:
        for _ in range(3):
            self.chain(5)
            self.fan(5)

    def chain(self, length: int) -> Answer:
        return self.many(1, length)

    def many(self, count: int, length: int) -> Answer:
        self.redis.delete("chains")
        costs = Costs(self.redis, self.worker.pid)
        began = time.perf_counter()
        for _ in range(count):
            self.tasks.link.apply_async((length,))
        self._wait_for(count)
        return {"seconds": time.perf_counter() - began, **costs.per_stage(count * length)}

    def fan(self, width: int) -> Answer:
        costs = Costs(self.redis, self.worker.pid)
        return {"seconds": self._send(width)["ended_after_s"], **costs.per_stage(width)}

    def submit(self, count: int) -> Answer:
        return self._send(count)

    def _wait_for(self, chains: int) -> None:
        """Wait until so many chains have ended; blocked, since what polling asks would count as the peer's own."""
        for _ in range(chains):
            self.redis.blpop(["chains"], timeout=0)

    def _send(self, count: int) -> Answer:
        self.redis.delete("chains")
        began = time.perf_counter()
        for _ in range(count):
            self.tasks.noop.apply_async()
        seconds = time.perf_counter() - began
        # The queue is first in, first out: when this one runs, at most one before it is still running.
        self.tasks.link.apply_async((1,))
        self._wait_for(1)
        return {"seconds": seconds, "ended_after_s": time.perf_counter() - began}

    def send(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            sent = time.time()
            self.tasks.stamped.apply_async((1,))
            eventually_true(lambda: "ended:s1" in self.stamps.read())
            delays.append(self.stamps.spans_ms("s1")[0][0] - 1000 * sent)
        return {"delays_ms": delays}

    def hop(self, samples: int) -> Answer:
        self.stamps.clear()
        self.tasks.stamped.apply_async((samples + 1,))
        eventually_true(lambda: "ended:s1" in self.stamps.read(), 0.05)
        return {"delays_ms": self.stamps.gaps_ms("s")}


if __name__ == "__main__":
    serve(Bare)
