"""What upstream's tasks have in common that wait for work that is done elsewhere."""

from datetime import timedelta

from typing_extensions import override

from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.variants import RetryableTask

__all__ = ["WatchingTask"]


class WatchingTask(RetryableTask):
    """Has half an hour and looks every 5 seconds, unless a subclass says otherwise."""

    @override
    def get_timeout(self) -> timedelta:
        return timedelta(minutes=30)

    @override
    def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
        return timedelta(seconds=5)
