"""What workflows are measured on: the runtime alone in this process, or a fleet of Celery workers; on a real Redis."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from benchmarks.work import registry
from stabilize_celery import Client, Workflow
from stabilize_celery.models.messages import MESSAGE_TYPES
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import PER_MESSAGE, Settings
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.transport.celery_tasks import message_of
from tests.servers import RedisServer

__all__ = ["Backend", "InProcess", "OnCelery", "eventually", "in_process", "on_celery", "worker_process"]

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
TIMEOUT_S = 600.0
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class Backend(Protocol):
    """Runs a workflow to its end."""

    name: str

    def run(self, workflow: Workflow) -> float:
        """Return how long the workflow took from its creation to its end (s)."""
        ...


class InProcess:
    """One worker without a broker: what the engine and Redis cost, and nothing else."""

    name = "in process"

    def __init__(self, url: str, mode: str = PER_MESSAGE) -> None:
        settings = Settings(mode=mode)
        self.url = url
        self.store = RedisStore(url)
        self.runtime = Runtime(self.store, registry, self, settings, "benchmark")
        if settings.is_fused:
            # As a worker does that was told to consume our queues.
            self.runtime.serves = lambda: frozenset({settings.work_queue})
        self._sent: deque[Outgoing] = deque()

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Take messages, in order."""
        self._sent.extend(batch)

    def run(self, workflow: Workflow) -> float:
        """Return how long the handling of all messages took (s)."""
        workflow_id = self.runtime.submit(workflow)
        began = time.perf_counter()
        self.handle_all()
        seconds = time.perf_counter() - began
        _check(self.runtime.read(workflow_id))
        return seconds

    def handle_all(self, leaving: str = "") -> None:
        """Handle messages until none is left but those of the kind `leaving`."""
        left = []
        while self._sent:
            sent = self._sent.popleft()
            if sent.kind == leaving:
                left.append(sent)
            else:
                self.runtime.handle(message_of(MESSAGE_TYPES[sent.kind], sent.task_id, sent.kwargs))
        self._sent.extend(left)


class OnCelery:
    """A client of a fleet."""

    name = "Celery fleet"

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(self, workflow: Workflow) -> float:
        """Return the time between the workflow's start and its end, as Redis' own clock tells (s)."""
        done = self._client.start(workflow).wait(timeout_s=TIMEOUT_S)
        _check(done)
        return ((done.end_time or 0) - (done.start_time or 0)) / 1000


@contextmanager
def in_process() -> Iterator[InProcess]:
    """Give a backend on a server of its own."""
    with RedisServer() as server:
        backend = InProcess(server.url)
        try:
            yield backend
        finally:
            backend.store.close()


@contextmanager
def on_celery(concurrency: int = 2) -> Iterator[OnCelery]:
    """Give a backend with one prefork worker, on a server of its own: database 0 is the broker, 1 the state."""
    with RedisServer() as server:
        base = server.url.rsplit("/", 1)[0]
        options = ("-P", "prefork", "-c", str(concurrency), *QUIET)
        with worker_process(f"{base}/0", f"{base}/1", *options), Client(f"{base}/1", f"{base}/0") as client:
            eventually(client.store.fleet)
            yield OnCelery(client)


@contextmanager
def worker_process(broker: str, state: str | None, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker of `benchmarks.work`; without a `state` it is a plain Celery worker."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.work", "worker", "-l", "WARNING", *options]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("STABILIZE_", "BENCH_"))}
    env |= {"BENCH_BROKER": broker, "PYTHONPATH": str(ROOT), **({"BENCH_STATE": state} if state else {})}
    with TemporaryDirectory(prefix="bench-") as folder, (Path(folder) / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def eventually(probe: Callable[[], T], timeout_s: float = 60.0, pause_s: float = 0.05) -> T:
    """Return the first truthy answer.

    Raises:
        TimeoutError: there was none in time.

    """
    deadline = time.monotonic() + timeout_s
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {probe!r} answered {answer!r}")
        time.sleep(pause_s)
    return answer


def _check(done: Workflow) -> None:
    if done.status.name != "SUCCEEDED":
        raise RuntimeError(f"workflow {done.id} ended {done.status.name}: there is nothing to measure")
