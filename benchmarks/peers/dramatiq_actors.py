"""Dramatiq on Redis: pipelines, and groups with a completion callback. Two processes of one thread."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from benchmarks.peers.servers import POOL, durable_redis, running
from benchmarks.peers.serving import Answer, Peer, eventually_true, serve
from benchmarks.stamps import Stamps

__all__ = ["Dramatiq"]

_NO_LOCK = "its concurrent rate limiter raises and retries: no queue of waiters"
_NO_SIGNAL = "Dramatiq has no signals"


class Dramatiq(Peer):
    """No results are stored: the last actor counts what is done."""

    packages: tuple[str, ...] = ("dramatiq", "redis")
    cannot = {"mutex": _NO_LOCK, "release": _NO_LOCK, "wake": _NO_SIGNAL, "after": _NO_SIGNAL}  # noqa: RUF012

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        super().__init__(folder, stack, arguments)
        self.stamps = Stamps(folder)
        server = stack.enter_context(durable_redis())
        os.environ["BENCH_BROKER"] = server.url
        options = ("--processes", str(POOL), "--threads", "1", "--skip-logging")
        command = [sys.executable, "-m", "dramatiq", "benchmarks.peers.dramatiq_app", *options]
        stack.enter_context(running(command, {}, folder / "worker.log"))
        # The broker is made from the environment that was just completed.
        from benchmarks.peers import dramatiq_app  # noqa: PLC0415

        self.actors: Any = dramatiq_app
        self.redis = stack.enter_context(redis.Redis.from_url(server.url))

    def warm(self) -> None:
        for _ in range(3):
            self.chain(5)
            self.fan(5)

    def chain(self, length: int) -> Answer:
        return self.many(1, length)

    def many(self, count: int, length: int) -> Answer:
        actors = self.actors
        noops = length - 1
        pipelines = [actors.in_order([*(actors.noop.message() for _ in range(noops)), actors.last.message()])]
        pipelines += [
            actors.in_order([*(actors.noop.message() for _ in range(noops)), actors.last.message()])
            for _ in range(count - 1)
        ]
        return {"seconds": self._run(pipelines, count)}

    def fan(self, width: int) -> Answer:
        group = self.actors.together([self.actors.noop.message() for _ in range(width)], self.actors.last.message())
        return {"seconds": self._run([group], 1)}

    def submit(self, count: int) -> Answer:
        self.redis.delete("done")
        began = time.perf_counter()
        for _ in range(count):
            self.actors.last.send()
        seconds = time.perf_counter() - began
        eventually_true(lambda: int(self.redis.get("done") or 0) == count)
        return {"seconds": seconds, "ended_after_s": time.perf_counter() - began}

    def send(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            sent = time.time()
            self.actors.stamped.send("s0")
            eventually_true(lambda: "ended:s0" in self.stamps.read())
            delays.append(self.stamps.spans_ms("s0")[0][0] - 1000 * sent)
        return {"delays_ms": delays}

    def hop(self, samples: int) -> Answer:
        self.stamps.clear()
        names = [f"s{at}" for at in range(samples + 1)]
        messages = [self.actors.stamped_in_order.message_with_options(args=(name,), pipe_ignore=True) for name in names]
        self._run([self.actors.in_order([*messages, self.actors.last.message()])], 1)
        return {"delays_ms": self.stamps.gaps_ms("s")}

    def join(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            messages = [self.actors.stamped.message(f"m{at}") for at in range(10)]
            self.actors.together(messages, self.actors.stamped.message("last")).run()
            eventually_true(lambda: "ended:last" in self.stamps.read())
            last = max(ended for _, ended in self.stamps.spans_ms("m"))
            delays.append(self.stamps.spans_ms("last")[0][0] - last)
        return {"delays_ms": delays}

    def _run(self, compositions: list[Any], ends: int) -> float:
        self.redis.delete("done")
        began = time.perf_counter()
        for composition in compositions:
            composition.run()
        eventually_true(lambda: int(self.redis.get("done") or 0) == ends)
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(Dramatiq, "dramatiq")
