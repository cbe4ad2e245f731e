"""The Redis configuration that we ship, read by a real server."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

CONF = Path(__file__).parents[2] / "deploy/redis.conf"
SERVER = shutil.which("redis-server") or shutil.which("valkey-server")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(SERVER is None, reason="redis-server or valkey-server is not on PATH"),
]


@pytest.fixture
def server() -> Iterator["redis.Redis"]:
    # A socket's path may have about 100 characters: too few for pytest's own folders on macOS.
    with tempfile.TemporaryDirectory(prefix="redis", dir="/tmp") as folder:
        socket = f"{folder}/s"
        command = [str(SERVER), str(CONF), "--dir", folder, "--port", "0", "--unixsocket", socket]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(unix_socket_path=socket, decode_responses=True) as client:
                wait_for(client, process)
                yield client
        finally:
            process.kill()
            process.wait()


def wait_for(client: "redis.Redis", process: "subprocess.Popen[bytes]") -> None:
    """Wait until the server answers; fail at once when it gave up."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server refused {CONF}"
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("the server did not answer within 20 s")


def test_a_real_server_takes_the_settings(server: "redis.Redis") -> None:
    """Every line is understood, and what the promises rest on is in force."""
    names = ("appendonly", "appendfsync", "maxmemory-policy", "save", "timeout")

    found = {name: server.config_get(name)[name] for name in names}

    assert found == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "timeout": "0",
    }
