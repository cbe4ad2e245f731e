"""The interface of tasks in one place, under the module name that programs already import."""

from stabilize_celery.models.result import TaskResult
from stabilize_celery.tasks.task import SubWorkflowCall, Task, Wait, wait_of
from stabilize_celery.tasks.variants import (
    CallableTask,
    NoOpTask,
    OverridableTimeoutRetryableTask,
    RetryableTask,
    SkippableTask,
    TaskFunction,
)
from stabilize_celery.tasks.wait import WaitTask

__all__ = [
    "CallableTask",
    "NoOpTask",
    "OverridableTimeoutRetryableTask",
    "RetryableTask",
    "SkippableTask",
    "SubWorkflowCall",
    "Task",
    "TaskFunction",
    "TaskResult",
    "Wait",
    "WaitTask",
    "wait_of",
]
