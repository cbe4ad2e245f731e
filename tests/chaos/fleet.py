"""A fleet with the tasks of crowd.py, on a server that keeps its writes; and a server that witnesses, never killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import psutil

from stabilize_celery.client import Client
from stabilize_celery.transport.broker import broker_settings
from stabilize_celery.transport.publish import CeleryPublisher
from tests.integration.fleet import ROOT, Fleet, Worker
from tests.servers import RedisServer

__all__ = ["STATE_SERVER", "ChaosFleet"]

STATE_SERVER = ("--maxmemory-policy", "noeviction")


class ChaosFleet(Fleet):
    """Workers of crowd.py; `client` is a producer of theirs."""

    def __init__(
        self,
        server: RedisServer,
        witness: RedisServer,
        folder: Path,
        *,
        broker: str = "",
        state: str = "",
        **settings: str,
    ) -> None:
        super().__init__(server, folder, broker=broker, state=state, **settings)
        self.state_servers = [self.state_url]
        """URLs of the servers that have keys of the state: the masters, where there are several."""
        self.env["CROWD_WITNESS"] = witness.url
        self.celery.conf.update(broker_settings(self.broker_url, 5.0))
        self.env["PYTHONPATH"] += f"{os.pathsep}{ROOT / 'tests' / 'chaos'}"

    @cached_property
    def client(self) -> Client:
        return Client(self.state_url, self.broker_url)

    @cached_property
    def publisher(self) -> CeleryPublisher:
        return CeleryPublisher(self.celery)

    def add_worker(
        self, concurrency: int = 2, *, app: str = "crowd", wait: bool = True, options: Sequence[str] = ()
    ) -> Worker:
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-c", str(concurrency)]
        command += ["-n", f"w{len(self.workers)}@%h", "-l", "INFO", "--without-gossip", "--without-mingle", *options]
        if wait:
            return self.run_worker(command)
        self.workers.append(Worker(command, self.folder, self.env, len(self.workers)))
        return self.workers[-1]

    def children(self, worker: Worker) -> list[int]:
        """Return the process ids of a worker's pool."""
        return [child.pid for child in psutil.Process(worker.process.pid).children()]

    def kill(self, pid: int) -> None:
        """Kill one process of a pool, unless it has ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        super().stop()
        self.client.close()
