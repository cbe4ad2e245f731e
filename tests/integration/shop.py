"""The Celery app of the transport's tests: tasks that write down what they did."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import WorkerShutdown

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.cancellation import is_cancellation_requested
from stabilize_celery.tasks.task import Task
from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.broker import broker_settings

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
if "?master=" in os.environ["SHOP_BROKER"]:
    app.conf.update(broker_settings(os.environ["SHOP_BROKER"], 5.0))
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


@stabilize.task("shut down")
def shut_down(stage: StageExecution) -> TaskResult:
    """Raise what Celery ends a worker by."""
    write_down("start", stage)
    raise WorkerShutdown(0)


@stabilize.task("stuck", timeout_s=1.0)
def stuck(stage: StageExecution) -> TaskResult:
    """Freeze its whole process, the first time: so it can't even tell that it takes longer than it may."""
    tried = journal.with_name("stuck-once")
    write_down("start", stage)
    if not tried.exists():
        tried.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    write_down("end", stage)
    return TaskResult.success()


@stabilize.task("too long", timeout_s=1.0)
def too_long(stage: StageExecution) -> TaskResult:
    """Take longer than its registration allows, and return a success all the same."""
    return work(stage)


@stabilize.task("deaf", timeout_s=1.0)
def deaf(stage: StageExecution) -> TaskResult:
    """Take longer than its registration allows, whoever asks it to stop."""
    write_down("start", stage)
    time.sleep(60)
    return TaskResult.success()


@stabilize.task("long job", timeout_s=1.0)
class LongJob(Task):
    """Takes longer than its registration allows, and says what that means."""

    def execute(self, stage: StageExecution) -> TaskResult:
        write_down("start", stage)
        while not is_cancellation_requested():
            time.sleep(0.02)
        write_down("stopped", stage)
        return TaskResult.success({"by": "body"})

    def on_timeout(self, stage: StageExecution) -> TaskResult:
        write_down("asked", stage)
        return TaskResult.success({"by": "on_timeout"})


@stabilize.task("job")
class Job(Task):
    """As its `mode` says: loop until asked to stop, block until told, or poll a job elsewhere."""

    def __init__(self) -> None:
        self.connection = threading.Event()

    def execute(self, stage: StageExecution) -> TaskResult:
        write_down("start", stage)
        if stage.context["mode"] == "poll":
            return TaskResult.running({"job": "job 4"})
        if stage.context["mode"] == "block":
            self.connection.wait(60)
        while stage.context["mode"] == "loop" and not is_cancellation_requested():
            time.sleep(0.02)
        write_down("stopped", stage)
        return TaskResult.success({"late": True})

    def on_cancel(self, stage: StageExecution) -> None:
        write_down("told", stage)
        self.connection.set()


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
