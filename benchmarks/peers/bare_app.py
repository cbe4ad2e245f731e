"""The Celery app of `bare`."""

import os
from functools import cache

import redis
from celery import Celery

from benchmarks.stamps import begun, ended

__all__ = ["app", "link", "noop", "stamped"]

_URL = os.environ["BENCH_BROKER"]

app = Celery("bare", broker=_URL)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_transport_options={"ack_emulation": os.environ["BENCH_ACKS"] == "acks"},
)


@cache
def _redis() -> "redis.Redis":
    return redis.Redis.from_url(_URL)


@app.task  # type: ignore[untyped-decorator, unused-ignore]
def noop() -> None:
    """Do nothing."""


@app.task  # type: ignore[untyped-decorator, unused-ignore]
def link(length: int) -> None:
    """Send the next task of the chain; the last one counts the chain as done."""
    if length > 1:
        link.apply_async((length - 1,))
    else:
        _redis().rpush("chains", 1)


@app.task  # type: ignore[untyped-decorator, unused-ignore]
def stamped(left: int) -> None:
    """Write down begin and end, and send the next one."""
    begun(f"s{left}")
    ended(f"s{left}")
    if left > 1:
        stamped.apply_async((left - 1,))
