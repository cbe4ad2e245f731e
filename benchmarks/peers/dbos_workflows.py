"""DBOS on SQLite, its default where no database is given; two threads run workflows.

A chain is a workflow of steps, called one after another. A fan-out starts child workflows and waits for them: DBOS
has no steps side by side in a workflow of plain functions. Its queues are not used: they look once a second.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.peers.servers import POOL
from benchmarks.peers.serving import Answer, Peer, eventually_true, serve
from benchmarks.stamps import Stamps

__all__ = ["Dbos"]

_NO_LOCK = "DBOS has queues with a concurrency of one, that look once a second, and no lock"


class Dbos(Peer):
    """DBOS in this process, as it is meant to be used."""

    packages: tuple[str, ...] = ("dbos", "sqlalchemy")
    cannot = {"mutex": _NO_LOCK, "release": _NO_LOCK, "after": "a workflow goes on by itself: see `wake`"}  # noqa: RUF012

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        super().__init__(folder, stack, arguments)
        from benchmarks.peers import dbos_app  # noqa: PLC0415 - imports dbos, whose absence `serve` tells

        self.stamps = Stamps(folder)
        self.app: Any = dbos_app
        dbos_app.launch(folder / "dbos.sqlite", POOL)
        stack.callback(dbos_app.DBOS.destroy)

    def warm(self) -> None:
        self.chain(5)
        self.fan(5)

    def chain(self, length: int) -> Answer:
        return self.many(1, length)

    def many(self, count: int, length: int) -> Answer:
        began = time.perf_counter()
        handles = [self.app.DBOS.start_workflow(self.app.chain, length) for _ in range(count)]
        for handle in handles:
            handle.get_result()
        return {"seconds": time.perf_counter() - began}

    def fan(self, width: int) -> Answer:
        began = time.perf_counter()
        # In this thread: a parent in the pool would keep one of its two threads from the children.
        self.app.fan(width)
        return {"seconds": time.perf_counter() - began}

    def submit(self, count: int) -> Answer:
        began = time.perf_counter()
        handles = [self.app.DBOS.start_workflow(self.app.chain, 1) for _ in range(count)]
        seconds = time.perf_counter() - began
        for handle in handles:
            handle.get_result()
        return {"seconds": seconds, "ended_after_s": time.perf_counter() - began}

    def send(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            sent = time.time()
            self.app.DBOS.start_workflow(self.app.stamped_chain, 1).get_result()
            delays.append(self.stamps.spans_ms("s0")[0][0] - 1000 * sent)
        return {"delays_ms": delays}

    def hop(self, samples: int) -> Answer:
        self.stamps.clear()
        self.app.DBOS.start_workflow(self.app.stamped_chain, samples + 1).get_result()
        return {"delays_ms": self.stamps.gaps_ms("s")}

    def wake(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            handle = self.app.DBOS.start_workflow(self.app.signalled)
            eventually_true(lambda: "ended:ready" in self.stamps.read())
            # It may still be on its way from the last line before the wait into the wait.
            time.sleep(0.05)
            sent = time.time()
            self.app.DBOS.send(handle.get_workflow_id(), "go", "signal")
            handle.get_result()
            delays.append(self.stamps.spans_ms("woken")[0][0] - 1000 * sent)
        return {"delays_ms": delays}

    def join(self, samples: int) -> Answer:
        delays = []
        for _ in range(samples):
            self.stamps.clear()
            self.app.stamped_fan(10)
            last = max(ended for _, ended in self.stamps.spans_ms("m"))
            delays.append(self.stamps.spans_ms("last")[0][0] - last)
        return {"delays_ms": delays}


if __name__ == "__main__":
    serve(Dbos, "dbos")
