"""A few workers of our own, for as long as a command runs."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stabilize_celery.cli.failures import NoServerError
from stabilize_celery.store.contract import Store

__all__ = ["LocalWorkers"]

_PAUSE_S = 0.1
_WARM_S = 10.0


class LocalWorkers:
    """A context: worker processes run inside, each in a process group of its own, with its log in `folder`.

    Args:
        commands: One command line per worker.
        say: Told what goes wrong while they are stopped.

    """

    def __init__(
        self, commands: Sequence[list[str]], environ: Mapping[str, str], folder: Path, say: Callable[[str], None]
    ) -> None:
        self._commands = commands
        self._environ = dict(environ)
        self._folder = folder
        self._say = say
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, command in enumerate(self._commands, 1):
            with self._log(number).open("wb") as log:
                self._processes.append(
                    subprocess.Popen(  # noqa: S603 - our own interpreter
                        command,
                        env=self._environ,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + _WARM_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"worker {process.pid} does not end by itself; it is killed")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def wait_until_ready(self, store: Store, timeout_s: float = 60.0) -> None:
        """Return once all of them are in the fleet registry.

        Raises:
            NoServerError: one has ended, or they are not there in time; the text has the end of its log.

        """
        deadline = time.monotonic() + timeout_s
        wanted = {str(process.pid).encode() for process in self._processes}
        while not wanted <= {line.get("pid") for line in store.fleet().values()}:
            for number, process in enumerate(self._processes, 1):
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = self._log(number).read_text(errors="replace")[-1500:]
                    raise NoServerError(f"worker {number} did not come up; the end of {self._log(number)}:\n{tail}")
            time.sleep(_PAUSE_S)

    def _log(self, number: int) -> Path:
        return self._folder / f"worker{number}.log"
