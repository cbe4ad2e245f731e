"""The Celery app of the transport's tests: tasks that write down what they did."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.cancellation import is_cancellation_requested
from stabilize_celery.transport.app import Stabilize

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
stabilize = Stabilize(app, redis_url=os.environ["SHOP_STATE"])
journal = Path(os.environ["SHOP_JOURNAL"])


def write_down(kind: str, stage: StageExecution) -> None:
    entry = {"kind": kind, "ref_id": stage.ref_id, "pid": os.getpid(), "at": time.time()}
    with journal.open("a") as file:
        file.write(json.dumps(entry) + "\n")


@stabilize.task("work")
def work(stage: StageExecution) -> TaskResult:
    """Sleep `sleep_s`, or until asked to stop."""
    write_down("start", stage)
    end = time.monotonic() + float(stage.context.get("sleep_s", 0))
    while time.monotonic() < end:
        if is_cancellation_requested():
            write_down("stopped", stage)
            return TaskResult.canceled()
        time.sleep(0.02)
    write_down("end", stage)
    return TaskResult.success({"done_by": os.getpid()})


@stabilize.task("stuck", timeout_s=1.0)
def stuck(stage: StageExecution) -> TaskResult:
    """Take longer than its registration allows, the first time."""
    tried = journal.with_name("stuck-once")
    write_down("start", stage)
    if not tried.exists():
        tried.touch()
        time.sleep(30)
    write_down("end", stage)
    return TaskResult.success()


@stabilize.task("die")
def die(stage: StageExecution) -> TaskResult:
    """Kill its own process, as the kernel does when memory runs out."""
    write_down("start", stage)
    os.kill(os.getpid(), 9)
    return TaskResult.success()


@app.task(name="shop.greet")
def greet(name: str) -> dict[str, Any]:
    """An ordinary task that knows nothing of workflows."""
    return {"greeting": f"hello {name}"}


@app.task(name="shop.ping")
def ping() -> None:
    """Leave a mark that an ordinary task has run."""
    journal.with_name("pinged").touch()
