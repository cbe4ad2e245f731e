"""The Celery app of `canvas`: a task that does nothing, and one that writes down when it ran."""

import os

from celery import Celery

from benchmarks.stamps import begun, ended

__all__ = ["app", "noop", "stamped"]

_URL = os.environ["BENCH_BROKER"]

app = Celery("canvas", broker=_URL, backend=_URL)
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_transport_options={"ack_emulation": os.environ["BENCH_ACKS"] == "acks"},
)


@app.task  # type: ignore[untyped-decorator, unused-ignore]
def noop() -> None:
    """Do nothing."""


@app.task  # type: ignore[untyped-decorator, unused-ignore]
def stamped(name: str) -> None:
    """Write down begin and end."""
    begun(name)
    ended(name)
