"""What peers start: a private Redis, and Celery workers that are alike in pool, prefetch and logging."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers import RedisServer

__all__ = ["POOL", "celery_worker", "durable_redis", "running"]

POOL = 2
"""Tasks that every peer runs at once: processes of a prefork pool, threads where a peer has no processes."""

_ROOT = Path(__file__).parents[2]
_ALIKE = (
    "--pool=prefork",
    f"--concurrency={POOL}",
    "--prefetch-multiplier=1",
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
    "--loglevel=WARNING",
)


def durable_redis() -> RedisServer:
    """Return a server with an append-only log, written once a second: what our deploy/redis.conf asks for."""
    return RedisServer("--appendonly", "yes", "--appendfsync", "everysec")


@contextmanager
def running(command: Sequence[str], environ: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of this peer's group; its output goes to `log`."""
    env = {**os.environ, "PYTHONPATH": str(_ROOT), **environ}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=_ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def celery_worker(app: str, *extra: str) -> list[str]:
    """Return the command of a worker as all Celery peers have it."""
    return [sys.executable, "-m", "celery", "-A", app, "worker", *_ALIKE, *extra]
