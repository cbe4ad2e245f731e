"""Every example and the README's pipeline, as a reader runs them: a worker in one terminal, a program in another one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.fleet import ROOT, Fleet
from tests.servers import RedisServer

pytestmark = pytest.mark.real

SAYS = {
    "approval": ["waits for signal 'approve'", "SUCCEEDED", "by leave of Ann"],
    "existing_celery_task": ["SUCCEEDED", "'invoice': 'invoice-7.pdf'", "'sent': 'Your order 7 to ann@example.org'"],
    "fan_out": ["SUCCEEDED", " words; the longest is "],
    "patterns": ["SUCCEEDED", "[[7, 6, 8], 'contract at 4 %', 'seal at 4 %', None]"],
    "retries": ["SUCCEEDED", "['ann', 'bob', 'cy', 'dee']"],
    "shop": ["SUCCEEDED", "'label': 'parcel with receipt of order 7'"],
}
"""What each example's program prints at its end."""

SERVERS = {"django_shop", "fastapi_shop"}
"""Run by test_web_frameworks.py."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A server, and a folder to run programs in, as a project of its own has it."""
    with RedisServer() as server:
        fleet = Fleet(server, tmp_path)
        fleet.env |= {"STABILIZE_REDIS_URL": server.url, "PYTHONPATH": str(tmp_path)}
        try:
            yield fleet
        finally:
            fleet.stop()


@pytest.fixture
def run(fleet: Fleet) -> Callable[..., str]:
    """Run a Python program beside a worker of the app, and return what it printed."""

    def run(app: str, *arguments: str, pool: str) -> str:
        worker = [sys.executable, "-m", "celery", "-A", app, "worker", "-P", pool, "-c", "2", "-l", "INFO"]
        fleet.run_worker(worker)
        return _printed(fleet, *arguments)

    return run


def _printed(fleet: Fleet, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, check=False, cwd=fleet.folder, env=fleet.env, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    """A new one needs its line here."""
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == SAYS.keys() | SERVERS


@pytest.mark.parametrize(
    ("example", "pool"), [*((name, "prefork") for name in sorted(SAYS)), ("shop", "threads"), ("fan_out", "threads")]
)
def test_an_example_does_what_it_shows(fleet: Fleet, run: Callable[..., str], example: str, pool: str) -> None:
    """Its worker and its program, each started with the command that the file names."""
    source = (ROOT / "examples" / f"{example}.py").read_text()
    (fleet.folder / f"{example}.py").write_text(source)
    assert f"celery -A {example} worker" in source

    told = run(example, f"{example}.py", pool=pool)

    assert [words for words in SAYS[example] if words not in told] == []


def test_an_example_may_be_run_twice(fleet: Fleet, run: Callable[..., str]) -> None:
    """The shop's order has a key: the second program finds the first one's workflow."""
    (fleet.folder / "shop.py").write_text((ROOT / "examples" / "shop.py").read_text())

    first = run("shop", "shop.py", pool="prefork")

    assert _printed(fleet, "shop.py") == first


def test_the_pipeline_of_the_readme_runs_as_it_stands(fleet: Fleet, run: Callable[..., str]) -> None:
    """Its code, its worker command and its line of Python."""
    text = (ROOT / "README.md").read_text()
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def order(" in block]
    (line,) = re.findall(r"^python -c '(.*)'$", text, re.MULTILINE)
    (fleet.folder / "shop.py").write_text(program)
    assert "celery -A shop worker" in text

    told = run("shop", "-c", line, pool="prefork")

    assert "parcel with receipt of order 7" in told
