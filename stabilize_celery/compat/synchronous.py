"""SynchronousQueueProcessor: a processor that only works when it is told to; upstream's test-suites use it."""

from typing import Any

from typing_extensions import override

from stabilize_celery.compat.celery_queue import CeleryQueue
from stabilize_celery.compat.control import ControlMessage
from stabilize_celery.compat.handler_config import HandlerConfig
from stabilize_celery.compat.processor import QueueProcessor, QueueProcessorConfig
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["SynchronousQueueProcessor"]

_PUSHED_S = 5.0
"""So long `push_and_process` goes on at most (s), as upstream's."""


class SynchronousQueueProcessor(QueueProcessor):
    """A `QueueProcessor` without a thread of its own; it takes the same, in upstream's other order."""

    def __init__(
        self,
        queue: CeleryQueue,
        store: RedisWorkflowStore | None = None,
        task_registry: TaskRegistry | None = None,
        config: QueueProcessorConfig | None = None,
        handler_config: HandlerConfig | None = None,
        bulkhead_manager: Any = None,
        circuit_factory: Any = None,
    ) -> None:
        super().__init__(queue, config, store, handler_config, task_registry, bulkhead_manager, circuit_factory)

    @override
    def start(self) -> None:
        """Do nothing: `process_all` and `process_one` do the work."""

    @override
    def stop(self, wait: bool = True, timeout: float | None = None) -> int:
        """Do nothing: nothing runs in the background."""
        return 0

    def push_and_process(self, message: ControlMessage) -> None:
        """Push a message, and handle what comes of it. Raises as `queue.push` and `process_all`."""
        self.queue.push(message)
        self.process_all(_PUSHED_S)
