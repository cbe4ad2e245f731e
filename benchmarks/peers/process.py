"""The harness' side of a peer: its process, asked one thing at a time, ended when it takes too long."""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.peers import Entry

__all__ = ["PeerProcess", "TooLongError"]

_ROOT = Path(__file__).parents[2]
_START_S = 90.0
_END_S = 40.0


class TooLongError(Exception):
    """A peer has not answered in time, or ended; it was stopped with everything that it had started."""


class PeerProcess:
    """A peer in a process group of its own; a context. It starts when something is first asked.

    Attributes:
        lacks: Why it cannot be measured here; empty if it can.
        versions: Of the packages that it uses.

    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.lacks = ""
        self.versions: Mapping[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._folder = Path()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._process.pid if self._process else 0

    def ask(self, shape: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        """Return the answer to one question.

        Raises:
            TooLongError: there was none within `limit_s`. The next question starts a new process.

        """
        self.start()
        if self.lacks or self._process is None or self._process.stdin is None:
            return {"cannot": self.lacks}
        # One that has ended takes no question, and gives no answer: that is what is told then.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(shape) + "\n")
            self._process.stdin.flush()
        return self._line(limit_s)

    def start(self) -> None:
        """Start it, unless it runs or is known to lack something."""
        if self._process is None and not self.lacks:
            self._start()

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        command = [sys.executable, "-m", f"benchmarks.peers.{self.entry.module}", *self.entry.arguments]
        ours = ("STABILIZE_", "CELERY_", "DBOS_", "BENCH_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        env |= {"PYTHONPATH": str(_ROOT), "TMPDIR": str(self._folder)}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        try:
            told = self._line(_START_S)
        except TooLongError as error:
            told = {"lacks": f"it does not start: {error}"}
        self.lacks, self.versions = told.get("lacks", ""), told.get("versions", {})
        if self.lacks:
            self.end()

    def _line(self, limit_s: float) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise TooLongError("it does not run")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(limit_s) else None
        if line:
            told: dict[str, Any] = json.loads(line)
            return told
        if line is not None:
            # Its output has ended, and so has it; what it says at last comes after that.
            process.wait(10)
        log = (self._folder / "log").read_text(errors="replace").strip()[-600:]
        self.end(at_once=True)
        raise TooLongError(f"not within {limit_s:g} s" if line is None else f"it ended: {log}")

    def end(self, *, at_once: bool = False) -> None:
        """Stop it and all that it has started, in good order unless `at_once`."""
        if self._process is None:
            return
        if self._process.stdin and not at_once:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            deadline = time.monotonic() + _END_S
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)
