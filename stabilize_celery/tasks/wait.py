"""The ready-made `wait`: lets time pass without holding a worker."""

from typing_extensions import override

from stabilize_celery.errors import ContextError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.task import Task

__all__ = ["WaitTask"]


class WaitTask(Task):
    """Succeeds `seconds` (or `waitTime`, also seconds; 0 or more) after it first started.

    Never sleeps: it answers RUNNING once, and is asked again when the time is over.

    Raises:
        ContextError: neither key is there, or it is no number of seconds.

    """

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.running() if _rest_ms(stage) > 0 else TaskResult.success()

    @override
    def poll_after_ms(self, stage: StageExecution) -> int | None:
        return max(0, _rest_ms(stage))


def _rest_ms(stage: StageExecution) -> int:
    inputs = InputReader(stage, "wait")
    wait_ms = inputs.seconds_as_ms("seconds")
    if wait_ms is None:
        wait_ms = inputs.seconds_as_ms("waitTime")
    if wait_ms is None:
        raise _missing(inputs)
    call = current_call()
    return call.started_ms + wait_ms - call.now_ms


def _missing(inputs: InputReader) -> ContextError:
    return inputs.wrong("seconds", "the number of seconds to wait")
