"""A private server and real Celery workers that know the scenario files, for one run of the runner."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from stabilize_celery.settings import PER_MESSAGE, Settings
from stabilize_celery.testing.conformance.server import PrivateServer
from stabilize_celery.transport.worker_command import worker_argv

__all__ = ["FILES", "JOURNAL", "Fleet", "FleetError"]

FILES = "STABILIZE_CONFORMANCE_FILES"
"""Environment variable of the workers: the paths of the scenario files, a JSON list."""
JOURNAL = "STABILIZE_CONFORMANCE_JOURNAL"
"""Environment variable of the workers: the path of the journal that all processes share."""

_WORKERS = 2
_PROCESSES_EACH = 2
_READY_S = 60.0
_STOP_S = 10.0
_TASK_MODULE = "stabilize_celery.testing.conformance.worker"


class FleetError(Exception):
    """The workers do not come up; the text has the end of a log."""


class Fleet:
    """A context: a server and workers in process groups of their own, gone when it ends."""

    def __init__(self, files: Sequence[Path], mode: str = PER_MESSAGE, *, takes: bool = True) -> None:
        self._files = files
        self._mode = mode
        self._takes = takes
        self._stack = ExitStack()
        self._workers: list[subprocess.Popen[bytes]] = []
        self.folder = Path()
        self.settings = Settings()

    @property
    def journal_file(self) -> Path:
        """The journal that all processes share."""
        return self.folder / "journal.sqlite"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="conformance-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            server = stack.enter_context(PrivateServer(self.folder))
            self.settings = Settings(redis_url=server.url(1), broker_url=server.url(0), mode=self._mode)
            stack.callback(self._stop_workers)
            self._start_workers()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_workers(self) -> None:
        for number in range(_WORKERS):
            queues = f"{self.settings.control_queue},{self.settings.work_queue}"
            extra = ["-n", f"conformance{number}@%h", "-c", str(_PROCESSES_EACH), "-Q", queues]
            command = worker_argv("workers.app", self.settings, extra=extra)
            with self._log(number).open("wb") as log:
                self._workers.append(
                    subprocess.Popen(  # noqa: S603 - the interpreter that runs this, with our own arguments
                        command, env=self._environment(), stdout=log, stderr=log, start_new_session=True
                    )
                )
        deadline = time.monotonic() + _READY_S
        for number, worker in enumerate(self._workers):
            while " ready." not in self._log(number).read_text(errors="replace"):
                if worker.poll() is not None or time.monotonic() > deadline:
                    told = self._log(number).read_text(errors="replace")[-2000:]
                    raise FleetError(f"a Celery worker does not come up; its log:\n{told}")
                time.sleep(0.05)

    def _environment(self) -> dict[str, str]:
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("STABILIZE_")}
        return foreign | {
            "STABILIZE_REDIS_URL": self.settings.redis_url,
            "STABILIZE_BROKER_URL": self.settings.broker_url,
            "STABILIZE_MODE": self._mode,
            **({} if self._takes else {"STABILIZE_TAKE_MS": "0"}),
            "STABILIZE_TASK_MODULES": _TASK_MODULE,
            FILES: json.dumps([str(path.absolute()) for path in self._files]),
            JOURNAL: str(self.journal_file),
        }

    def _log(self, number: int) -> Path:
        return self.folder / f"worker{number}.log"

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(max(0.1, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
