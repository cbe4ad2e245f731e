"""`stabilize-celery web`: says where it is, ends when asked, and opens itself to nobody by accident."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from stabilize_celery.client import Client
from stabilize_celery.models.workflow import Workflow
from tests.integration.site import stage
from tests.servers import free_port

pytestmark = pytest.mark.real
TOKEN = "a token that is long enough"


def command(url: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "stabilize_celery", "web", "--redis-url", url, *options]


@contextmanager
def running(url: str, *options: str, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """The command, once it listens, and a client of it."""
    line = command(url, "--port", "0", "--json", *options)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STABILIZE_")}
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=clean | environ) as process:
        try:
            assert process.stdout is not None
            told = b""
            while b"}" not in told:
                told += process.stdout.readline()
                assert process.poll() is None
            with httpx.Client(base_url=json.loads(told)["url"], trust_env=False, timeout=30) as http:
                yield process, http
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_ends_in_order_with_streams_open(redis_url: str, number: signal.Signals) -> None:
    """Whoever watches does not keep it from ending, and being asked to end is no failure."""
    with Client(redis_url, redis_url) as client:
        run = client.start(Workflow.create("shop", "one", [stage("a")])).id
    with running(redis_url) as (process, http):
        assert http.get("/").is_success
        assert http.get("/api/v1/workflows").json()["items"][0]["id"] == run
        with http.stream("GET", f"/api/v1/streams/workflows/{run}") as stream:
            assert stream.status_code == 200
            process.send_signal(number)
            assert process.wait(20) == 0


def test_token_and_read_only_come_from_options_and_environment(redis_url: str) -> None:
    """A token in the environment does not show in the list of processes."""
    with running(redis_url, "--read-only", STABILIZE_WEB_TOKEN=TOKEN) as (_, http):
        assert http.get("/api/v1/workflows").status_code == 401
        told = http.get("/api/v1/service", headers={"authorization": f"Bearer {TOKEN}"}).json()
        assert (told["read_only"], told["user"]) == (True, "token")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--host", "0.0.0.0"), 2, "--token"),
        (("--token", "short"), 2, "at least 16"),
        (("--port", "70000"), 2, "65535"),
        (("--host", "no.such.host.invalid", "--token", TOKEN), 2, "listen on no.such.host"),
    ],
)
def test_mistakes_get_a_sentence(redis_url: str, options: tuple[str, ...], code: int, words: str) -> None:
    """And nothing is opened."""
    done = subprocess.run(command(redis_url, *options), check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_away_is_told_at_once(redis_url: str) -> None:
    """Not by the page, later."""
    away = f"redis://127.0.0.1:{free_port()}/0"
    done = subprocess.run(command(away, "--port", "0"), check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 3
    assert "Traceback" not in done.stderr
