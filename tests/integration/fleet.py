"""Real Celery workers of the app in shop.py on a real server, each in a process group of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import redis
from celery import Celery

from stabilize_celery.client.why import explain
from stabilize_celery.errors import StabilizeError
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Filter
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.broker import broker_settings
from stabilize_celery.transport.process import open_store
from stabilize_celery.transport.publish import CeleryPublisher
from tests.servers import RedisServer

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


def eventually(probe: Callable[[], T | None], timeout_s: float = 30.0) -> T:
    """Return the first truthy answer; AssertionError once the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s; last answer: {answer!r}")
        time.sleep(0.05)


class Worker:
    """One worker; `log` is all that it said."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str], number: int) -> None:
        self.log_file = folder / f"worker{number}.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log[-3000:]
        return " ready." in self.log

    def send(self, number: signal.Signals) -> None:
        """To the main process alone, as a supervisor does."""
        self.process.send_signal(number)

    def kill_group(self, number: signal.Signals = signal.SIGKILL) -> None:
        """To the worker and its pool, as a lost machine looks."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        if number == signal.SIGKILL:
            self.process.wait(10)


class Fleet:
    """One server, any number of workers, and a producer. `broker` and `state` are URLs in place of the server's."""

    at_work: ClassVar[list[Fleet]] = []
    """All that were made and not stopped: a test that fails tells how they are."""

    def __init__(
        self, server: RedisServer, folder: Path, *, broker: str = "", state: str = "", **settings: str
    ) -> None:
        self.folder = folder
        self.journal_file = folder / "journal"
        self.journal_file.touch()
        base = server.url.rsplit("/", 1)[0]
        self.broker_url, self.state_url = broker or f"{base}/0", state or f"{base}/1"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STABILIZE_")},
            "SHOP_BROKER": self.broker_url,
            "SHOP_STATE": self.state_url,
            "SHOP_JOURNAL": str(self.journal_file),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'integration'}",
            **{f"STABILIZE_{name.upper()}": value for name, value in settings.items()},
        }
        self.workers: list[Worker] = []
        chosen = Settings.from_env(self.env)
        self.store = open_store(self.state_url, chosen)
        self.celery = Celery("producer", broker=self.broker_url, set_as_current=False)
        if "?master=" in self.broker_url:
            self.celery.conf.update(broker_settings(self.broker_url, 5.0))
        publisher = CeleryPublisher(self.celery)
        self.runtime = Runtime(self.store, TaskRegistry(), publisher, chosen, "producer")
        Fleet.at_work.append(self)

    def start_worker(self, *options: str, pool: str = "prefork", concurrency: int = 2) -> Worker:
        command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-P", pool, "-c", str(concurrency)]
        # Mingling takes a second of each start, in which the worker sleeps.
        return self.run_worker([*command, "-n", f"w{len(self.workers)}@%h", "-l", "INFO", "--without-mingle", *options])

    def run_worker(self, command: list[str]) -> Worker:
        worker = Worker(command, self.folder, self.env, len(self.workers))
        self.workers.append(worker)
        eventually(worker.is_ready, 60)
        return worker

    def stop(self) -> None:
        if self in Fleet.at_work:
            Fleet.at_work.remove(self)
        for worker in self.workers:
            worker.kill_group()
        self.store.close()
        self.celery.close()

    def submit(self, ref_id: str, does: str = "work", **context: Any) -> str:
        task = {"name": does, "implementing_class": does}
        stage = {"ref_id": ref_id, "type": "x", "name": ref_id, "context": context, "tasks": [task]}
        return self.runtime.submit({"application": "shop", "name": "one", "stages": [stage]})

    def workflow(self, workflow_id: str) -> Workflow:
        return self.runtime.read(workflow_id)

    def ended(self, workflow_id: str, timeout_s: float = 30.0) -> Workflow:
        """Wait for the end of a workflow."""
        eventually(lambda: self.workflow(workflow_id).status.is_complete, timeout_s)
        return self.workflow(workflow_id)

    def told(self) -> dict[str, str]:
        """How it is, for whoever looks for the cause of a failure: what its workers said last, what does not end."""
        told = {f"{worker.log_file} ends with": worker.log[-6_000:] for worker in self.workers}
        settings = self.runtime.settings
        try:
            listed = self.store.listing(Filter(), 100, None).items
            unfinished = [one for one in listed if not WorkflowStatus[one.status].is_complete][:8]
            waits = {one.id: map(str, explain(self.store, one.id, settings)) for one in unfinished}
            lines = [f"{one.id} {one.name} {one.status}: {'; '.join(waits[one.id])}" for one in unfinished]
            now_ms, owed = self.store.first_due(range(settings.partitions), 20)
        except (StabilizeError, redis.RedisError) as error:
            return {**told, "its state": f"not to be had: {error!r}"}
        due = [f"{one.workflow_id} {one.name} in {one.due_ms - now_ms} ms" for some in owed.values() for one in some]
        return {**told, "workflows that have not ended": "\n".join(lines), "what is due": "\n".join(due)}

    def journal(self, kind: str, ref_id: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.journal_file.read_text().splitlines()]
        return [entry for entry in entries if (entry["kind"], entry["ref_id"]) == (kind, ref_id)]
