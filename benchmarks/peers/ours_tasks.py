"""Tasks of the measured worker that write down when they run; the worker imports this module.

With `BENCH_LISTENS` somebody listens to Celery's publish signals: then every message is published by Celery.
"""

import os

from celery.signals import before_task_publish

from benchmarks.stamps import begun, ended
from stabilize_celery import StageExecution, Task, TaskResult
from stabilize_celery.tasks.call import current_call
from workers.app import stabilize

__all__ = ["Ask", "bench_stamp"]

if os.environ.get("BENCH_LISTENS"):
    before_task_publish.connect(lambda **_: None, weak=False)


@stabilize.task("bench_stamp")
def bench_stamp(stage: StageExecution) -> TaskResult:
    """Write down begin and end."""
    begun(stage.ref_id)
    ended(stage.ref_id)
    return TaskResult.success()


@stabilize.task("bench_ask")
class Ask(Task):
    """Waits for a signal, and writes down when it has come."""

    def execute(self, stage: StageExecution) -> TaskResult:
        """Suspend until the signal is there."""
        if current_call().signal is None:
            return TaskResult.suspend()
        begun(f"woken:{stage.ref_id}")
        ended(f"woken:{stage.ref_id}")
        return TaskResult.success()
