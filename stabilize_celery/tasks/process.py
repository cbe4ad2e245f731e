"""Running a command: bounded output, a time limit, cancellation; its whole process group ends with it."""

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from stabilize_celery.tasks.cancellation import raise_if_cancellation_requested

__all__ = ["Command", "Finished", "run_command"]

_LOOK_S = 0.1
"""How often a cancellation and the end of the process are looked for while there is no output (s)."""
_TERM_GRACE_S = 2.0
"""How long a process group may take to end after SIGTERM, before SIGKILL (s)."""
_DRAIN_S = 0.5
"""How long output is read on after the command itself has ended: a child left in the background holds the pipe."""
_CHUNK = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run: `env` is added to the worker's own environment, `max_output` is in bytes for each stream."""

    argv: Sequence[str]
    timeout_s: float
    max_output: int
    cwd: str | None = None
    env: Mapping[str, str]
    stdin: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: of stdout the beginning is kept, of stderr the end, where the error stands."""

    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    timed_out: bool


class _Capture:
    """Keeps the first (or the last) `limit` bytes of a stream."""

    def __init__(self, limit: int, *, keep_end: bool) -> None:
        self._limit, self._keep_end = limit, keep_end
        self.content = bytearray()
        self.truncated = False

    def add(self, chunk: bytes) -> None:
        self.content += chunk
        excess = len(self.content) - self._limit
        if excess <= 0:
            return
        self.truncated = True
        if self._keep_end:
            del self.content[:excess]
        else:
            del self.content[self._limit :]


def run_command(command: Command) -> Finished:
    """Run to the end or to the time limit; then, or if the current call is canceled, the process group is killed.

    A child that the command put in the background and that outlives a command that ended by itself is left alone.

    Raises:
        OSError: it can't be started.
        TaskCancelledError: the current call was canceled meanwhile.

    """
    out, err = _Capture(command.max_output, keep_end=False), _Capture(command.max_output, keep_end=True)
    with _stdin_file(command.stdin) as stdin:
        process = _start(command, stdin)
    try:
        ended = _read_to_the_end(process, out, err, time.monotonic() + command.timeout_s)
    finally:
        # Whatever came in between (time, cancellation, the worker's own time limit): nothing is left running.
        if process.poll() is None:
            _kill_group(process)
        _close_pipes(process)
    truncated = out.truncated or err.truncated
    return Finished(process.returncode, bytes(out.content), bytes(err.content), truncated, not ended)


@contextlib.contextmanager
def _stdin_file(content: bytes | None) -> Iterator[IO[bytes] | int]:
    # A file and no pipe: a command that reads slowly, or never, can't block us.
    if content is None:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


def _start(command: Command, stdin: IO[bytes] | int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 -- running commands is what this is for
        list(command.argv),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=command.cwd,
        env={**os.environ, **command.env},
        start_new_session=True,
    )


def _read_to_the_end(process: subprocess.Popen[bytes], out: _Capture, err: _Capture, deadline: float) -> bool:
    """Collect output until the process has ended; False: the deadline (monotonic seconds) came first."""
    drain_until = None
    with selectors.DefaultSelector() as selector:
        for stream, capture in ((process.stdout, out), (process.stderr, err)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, capture)
        while True:
            raise_if_cancellation_requested()
            now = time.monotonic()
            if process.poll() is not None:
                drain_until = now + _DRAIN_S if drain_until is None else drain_until
                if now >= drain_until or not selector.get_map():
                    return True
            elif now >= deadline:
                return False
            _read_what_is_there(process, selector, min(_LOOK_S, max(0.0, (drain_until or deadline) - now)))


def _read_what_is_there(process: subprocess.Popen[bytes], selector: selectors.BaseSelector, wait_s: float) -> None:
    if not selector.get_map():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        return
    for key, _ in selector.select(wait_s):
        chunk = os.read(key.fd, _CHUNK)
        if chunk:
            key.data.add(chunk)
        else:
            selector.unregister(key.fileobj)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_TERM_GRACE_S)
    # Also when the command itself has ended: a child of it may have ignored the SIGTERM.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
