"""Upstream `stabilize`: SQLite file or memory, as it comes and with the best settings that were found.

Best: its write-ahead log, its aggressive tier, no de-duplication by the processor, drained by one thread: its threads
are slower than one. Delays are measured with its threads, polling once a millisecond: draining has no delays.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.peers.serving import Answer, Cannot, Peer, serve
from benchmarks.stamps import Stamps, begun, ended

__all__ = ["Upstream"]

_POLLS_S = 900
_DRAINS = "drained by one thread: it has no delays; see the file store"


class Upstream(Peer):
    """A store and a queue of its own for each run."""

    packages: tuple[str, ...] = ("stabilize",)
    cannot = {  # noqa: RUF012
        "mutex": "who waits for a mutex polls every 15 s",
        "release": "who waits for a mutex polls every 15 s",
        "wake": "not measured",
        "after": "not measured",
    }

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        super().__init__(folder, stack, arguments)
        self.stamps = Stamps(folder)
        self._place, settings = arguments
        self._is_best = settings == "best"
        self._numbers = count()
        if self._is_best:
            os.environ |= {"STABILIZE_SQLITE_TIER": "aggressive", "STABILIZE_SQLITE_JOURNAL_MODE": "WAL"}
        import stabilize  # noqa: PLC0415 - its absence is told by `serve`
        from stabilize.queue import processor  # noqa: PLC0415

        self.stabilize: Any = stabilize
        self.processor: Any = processor

    def warm(self) -> None:
        self.chain(3)

    def chain(self, length: int) -> Answer:
        return self._drain([self._chain(length)])

    def many(self, workflows: int, length: int) -> Answer:
        return self._drain([self._chain(length) for _ in range(workflows)])

    def fan(self, width: int) -> Answer:
        return self._drain([self._fan(width, "noop")])

    def submit(self, workflows: int) -> Answer:
        return self._drain([self._chain(1) for _ in range(workflows)], is_submission=True)

    def send(self, samples: int) -> Answer:
        delays = []
        with self._threads() as (store, queue):
            for _ in range(samples):
                self.stamps.clear()
                sent = time.time()
                self._start(store, queue, [self._chain(1, "stamped")])
                self._wait_for("ended:s0")
                delays.append(self.stamps.spans_ms("s0")[0][0] - 1000 * sent)
        return {"delays_ms": delays}

    def hop(self, samples: int) -> Answer:
        self.stamps.clear()
        with self._threads() as (store, queue):
            self._start(store, queue, [self._chain(samples + 1, "stamped")])
            self._wait_for(f"ended:s{samples}")
        return {"delays_ms": self.stamps.gaps_ms("s")}

    def join(self, samples: int) -> Answer:
        delays = []
        with self._threads() as (store, queue):
            for _ in range(samples):
                self.stamps.clear()
                self._start(store, queue, [self._fan(10, "stamped")])
                self._wait_for("ended:last")
                last = max(ended for _, ended in self.stamps.spans_ms("m"))
                delays.append(self.stamps.spans_ms("last")[0][0] - last)
        return {"delays_ms": delays}

    def _drain(self, workflows: list[Any], *, is_submission: bool = False) -> Answer:
        store, queue, processor = self._engine()
        began = time.perf_counter()
        self._start(store, queue, workflows)
        submitted = time.perf_counter() - began
        processor.process_all(timeout=_POLLS_S)
        seconds = time.perf_counter() - began
        status = store.retrieve(workflows[-1].id).status.name
        if status != "SUCCEEDED":
            raise RuntimeError(f"upstream workflow ended {status}: there is nothing to measure")
        return {"seconds": submitted, "ended_after_s": seconds} if is_submission else {"seconds": seconds}

    @contextmanager
    def _threads(self) -> Iterator[tuple[Any, Any]]:
        if self._place == "memory":
            raise Cannot(_DRAINS)
        fast = {"poll_frequency_ms": 1, "max_workers": 2} if self._is_best else {}
        store, queue, processor = self._engine(**fast)
        processor.start()
        try:
            yield store, queue
        finally:
            processor.stop()

    def _engine(self, **settings: Any) -> tuple[Any, Any, Any]:
        one = self.stabilize
        file = self.folder / f"{next(self._numbers)}.db"
        url = f"sqlite:///{file}" if self._place == "file" else "sqlite:///:memory:"
        store = one.SqliteWorkflowStore(url, create_tables=True)
        queue = one.SqliteQueue(url, table_name="queue_messages")
        queue._create_table()  # noqa: SLF001 - as its own examples do
        registry = one.TaskRegistry()
        registry.register("noop", lambda _: one.TaskResult.success())
        registry.register("stamped", self._stamped)
        if self._is_best:
            settings["enable_deduplication"] = False
        config = self.processor.QueueProcessorConfig(**settings)
        return store, queue, self.processor.QueueProcessor(queue, config=config, store=store, task_registry=registry)

    def _stamped(self, stage: Any) -> Any:
        begun(stage.ref_id)
        ended(stage.ref_id)
        return self.stabilize.TaskResult.success()

    def _start(self, store: Any, queue: Any, workflows: list[Any]) -> None:
        orchestrator = self.stabilize.Orchestrator(queue)
        for workflow in workflows:
            store.store(workflow)
            orchestrator.start(workflow)

    def _chain(self, length: int, task: str = "noop") -> Any:
        stages = [self._stage(f"s{at}", {f"s{at - 1}"} if at else set(), task) for at in range(length)]
        return self.stabilize.Workflow.create("bench", "chain", stages)

    def _fan(self, width: int, task: str) -> Any:
        refs = [f"m{at}" for at in range(width)]
        stages = [self._stage(ref, set(), task) for ref in refs]
        return self.stabilize.Workflow.create("bench", "fan", [*stages, self._stage("last", set(refs), task)])

    def _stage(self, ref_id: str, after: set[str], task: str) -> Any:
        run = self.stabilize.TaskExecution.create(name=task, implementing_class=task, stage_start=True, stage_end=True)
        return self.stabilize.StageExecution(
            ref_id=ref_id, type=task, name=ref_id, requisite_stage_ref_ids=after, tasks=[run]
        )

    def _wait_for(self, label: str) -> None:
        while label not in self.stamps.read():
            time.sleep(0.002)


if __name__ == "__main__":
    serve(Upstream, "stabilize")
