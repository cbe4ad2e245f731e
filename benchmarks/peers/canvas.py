"""Celery's canvas with the Redis result backend: chain, group, chord. The end is seen by polling one key."""

import os
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import redis
from celery import chain as celery_chain
from celery import chord

from benchmarks.peers.servers import celery_worker, durable_redis, running
from benchmarks.peers.serving import Answer, Peer, eventually_true, serve
from benchmarks.stamps import Stamps

__all__ = ["Canvas"]

_NO_LOCK = "Celery has no lock; users bring their own"
_NO_SIGNAL = "Celery has no signals"


class Canvas(Peer):
    """One worker with a pool of two; broker and results are one server."""

    packages: tuple[str, ...] = ("celery", "kombu", "redis")
    cannot = {"mutex": _NO_LOCK, "release": _NO_LOCK, "wake": _NO_SIGNAL, "after": _NO_SIGNAL}  # noqa: RUF012

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        super().__init__(folder, stack, arguments)
        self.stamps = Stamps(folder)
        server = stack.enter_context(durable_redis())
        os.environ |= {"BENCH_BROKER": server.url, "BENCH_ACKS": arguments[0]}
        self.worker = stack.enter_context(
            running(celery_worker("benchmarks.peers.canvas_app"), {}, folder / "worker.log")
        )
        # The app is made from the environment that was just completed.
        from benchmarks.peers import canvas_app  # noqa: PLC0415

        self.tasks: Any = canvas_app
        self.redis = stack.enter_context(redis.Redis.from_url(server.url))

    def warm(self) -> None:
        for _ in range(3):
            self.chain(5)
            self.fan(5)

    def chain(self, length: int) -> Answer:
        return {"seconds": self._run([self._chain(length)])}

    def many(self, count: int, length: int) -> Answer:
        return {"seconds": self._run([self._chain(length) for _ in range(count)])}

    def fan(self, width: int) -> Answer:
        body = self.tasks.noop.si()
        return {"seconds": self._run([chord([self.tasks.noop.si() for _ in range(width)], body)])}

    def submit(self, count: int) -> Answer:
        began = time.perf_counter()
        results = [self.tasks.noop.apply_async() for _ in range(count)]
        seconds = time.perf_counter() - began
        self._wait([result.id for result in results])
        return {"seconds": seconds, "ended_after_s": time.perf_counter() - began}

    def send(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            sent = time.time()
            self._run([self.tasks.stamped.si("s0")])
            delays.append(self.stamps.spans_ms("s0")[0][0] - 1000 * sent)
        return {"delays_ms": delays}

    def hop(self, samples: int) -> Answer:
        self.stamps.clear()
        self._run([celery_chain(*(self.tasks.stamped.si(f"s{at}") for at in range(samples + 1)))])
        return {"delays_ms": self.stamps.gaps_ms("s")}

    def join(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            header = [self.tasks.stamped.si(f"m{at}") for at in range(10)]
            self._run([chord(header, self.tasks.stamped.si("last"))])
            last = max(ended for _, ended in self.stamps.spans_ms("m"))
            delays.append(self.stamps.spans_ms("last")[0][0] - last)
        return {"delays_ms": delays}

    def _chain(self, length: int) -> Any:
        return celery_chain(*(self.tasks.noop.si() for _ in range(length))) if length > 1 else self.tasks.noop.si()

    def _run(self, signatures: list[Any]) -> float:
        began = time.perf_counter()
        self._wait([signature.apply_async().id for signature in signatures])
        return time.perf_counter() - began

    def _wait(self, ids: list[str]) -> None:
        for task_id in ids:
            eventually_true(partial(self.redis.exists, f"celery-task-meta-{task_id}"))


if __name__ == "__main__":
    serve(Canvas)
