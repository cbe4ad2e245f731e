"""The examples for FastAPI and Django: a server, a worker, and requests from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from stabilize_celery import Client
from tests.integration.fleet import ROOT, Fleet, eventually
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.real


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with RedisServer() as server:
        fleet = Fleet(server, tmp_path)
        fleet.env |= {"STABILIZE_REDIS_URL": server.url, "PYTHONPATH": str(tmp_path), "SHOP_DB": f"{tmp_path}/shop.db"}
        try:
            yield fleet
        finally:
            fleet.stop()


@contextmanager
def serving(fleet: Fleet, example: str, *command: str) -> Iterator[httpx.Client]:
    """A worker of the example, and its server by a command in which PORT stands for a free port."""
    (fleet.folder / f"{example}.py").write_text((ROOT / "examples" / f"{example}.py").read_text())
    fleet.run_worker([sys.executable, "-m", "celery", "-A", example, "worker", "-c", "1", "-l", "INFO"])
    port = str(free_port())
    words = [word.replace("PORT", port) for word in command]
    with (fleet.folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, *words], cwd=fleet.folder, env=fleet.env, stdout=log, stderr=log, start_new_session=True
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=40, trust_env=False) as http:

        def answers() -> bool:
            assert server.poll() is None, (fleet.folder / "server.log").read_text()
            with contextlib.suppress(httpx.TransportError):
                return bool(http.get("/").status_code)
            return False

        try:
            eventually(answers)
            yield http
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


def test_fastapi_starts_orders_and_answers_from_them(fleet: Fleet) -> None:
    """The same request twice is one workflow; who asks waits for its end without blocking others."""
    with serving(fleet, "fastapi_shop", "-m", "uvicorn", "fastapi_shop:api", "--port", "PORT") as http:
        first, second = (http.post("/orders/7").json()["workflow"] for _ in range(2))
        told = http.get(f"/workflows/{first}").json()
        missing = http.get("/workflows/nobody")

    assert first == second
    assert told == {"status": "SUCCEEDED", "receipt": "receipt of order 7"}
    assert missing.status_code == 404


def test_django_starts_an_order_when_its_row_is_there(fleet: Fleet) -> None:
    """The task of another process finds the row; a request that is sent again is the same order."""
    with serving(fleet, "django_shop", "django_shop.py", "runserver", "--noreload", "127.0.0.1:PORT") as http:
        placed = http.get("/orders/7/place")
        eventually(lambda: http.get("/orders/7").json()["is_paid"])
        again = http.get("/orders/7/place")
        missing = http.get("/orders/8")
    with Client(fleet.env["STABILIZE_REDIS_URL"]) as client:
        started = client.list().items

    assert (placed.status_code, again.status_code, missing.status_code) == (202, 202, 404)
    assert len(started) == 1
