"""HighwayTask by its name alone: the client of that engine is not part of this."""

from typing_extensions import override

from stabilize_celery.compat.watching import WatchingTask
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution

__all__ = ["HighwayTask"]


class HighwayTask(WatchingTask):
    """Ends TERMINAL, and says what to use instead: a program that only registers it runs."""

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.terminal(
            f"stage {stage.ref_id!r}: Highway has no client here. Start its workflow by an `http` task, and ask for "
            "its end by a task of yours that answers TaskResult.running() until then"
        )
