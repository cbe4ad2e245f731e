"""The program, run in this process against a server of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from stabilize_celery.cli.program import run
from stabilize_celery.client import Client


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """All of it, on one line."""
        return " ".join((self.out + self.err).split())


Program = Callable[..., Said]


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path) -> Program:
    """Run a command line; without a server unless one is given."""
    for name in ("STABILIZE_REDIS_URL", "STABILIZE_BROKER_URL", "STABILIZE_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STABILIZE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        code = run(arguments)
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return call


@pytest.fixture
def served(program: Program, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Program:
    """The program with a real server."""
    monkeypatch.setenv("STABILIZE_REDIS_URL", redis_url)
    return program


@pytest.fixture
def client(redis_url: str):
    with Client(redis_url) as made:
        yield made
