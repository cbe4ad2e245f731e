"""A limit: our runtime and a real Redis in one process, without Celery: what the engine and its commits cost."""

import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.backends import InProcess
from benchmarks.peers.servers import durable_redis
from benchmarks.peers.serving import Answer, Cannot, Peer, serve
from benchmarks.shapes import chain, fan_in
from stabilize_celery import Workflow

__all__ = ["Alone"]

MAX_STAGES = 2_000
"""Above, one process alone takes minutes and says nothing new."""


class Alone(Peer):
    """One process that handles every message itself, in order. The argument is its mode."""

    packages: tuple[str, ...] = ("redis", "stabilize-celery")

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        super().__init__(folder, stack, arguments)
        server = stack.enter_context(durable_redis())
        self.backend = InProcess(server.url, arguments[0])
        stack.callback(self.backend.store.close)

    def warm(self) -> None:
        self.chain(20)
        self.fan(20)

    def chain(self, length: int) -> Answer:
        return self.many(1, length)

    def many(self, count: int, length: int) -> Answer:
        return self._run([chain(length, "noop") for _ in range(count)])

    def fan(self, width: int) -> Answer:
        return self._run([fan_in(width, "noop")])

    def submit(self, count: int) -> Answer:
        return self._run([chain(1, "noop") for _ in range(count)])

    def _run(self, workflows: list[Workflow]) -> Answer:
        if sum(len(workflow.stages) for workflow in workflows) > MAX_STAGES:
            raise Cannot(f"one process: measured up to {MAX_STAGES:,} stages")
        began = time.perf_counter()
        for workflow in workflows:
            self.backend.run(workflow)
        return {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    serve(Alone)
