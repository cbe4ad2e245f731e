"""`with store.transaction(queue) as txn`: what is said inside is done at the end of the block, or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.workflow import Workflow

if TYPE_CHECKING:
    from stabilize_celery.compat.store import RedisWorkflowStore

__all__ = ["StoreTransaction", "transaction"]


class StoreTransaction:
    """Changes of workflows that are not started, and messages; refused at once where they can't be made."""

    def __init__(self, store: "RedisWorkflowStore", queue: Any) -> None:
        self._store, self._queue = store, queue
        self._steps: list[Callable[[], Any]] = []

    def store_stage(self, stage: StageExecution, expected_phase: str | None = None) -> None:
        """Put a stage in the place of the one with its id. As `store.store_stage`, which see for what it raises."""
        self._store.drafts.check_stage(stage, expected_phase)
        self._steps.append(lambda: self._store.store_stage(stage, expected_phase))

    def update_workflow_status(self, workflow: Workflow) -> None:
        """Keep status and times of a workflow. Raises ValueError: it has been started."""
        self._store.drafts.check(workflow.id)
        self._steps.append(lambda: self._store.update_status(workflow))

    def push_message(self, message: Any, delay: float = 0) -> None:
        """Push a message. Raises TypeError: the transaction was given no queue."""
        if self._queue is None:
            raise TypeError("push_message: give the transaction its queue: store.transaction(queue)")
        self._steps.append(lambda: self._queue.push(message, delay))

    def mark_message_processed(self, message_id: str, handler_type: str | None = None, execution_id: str = "") -> None:
        """Do nothing: what was handled stands beside the workflow."""

    def apply(self) -> None:
        """Do what was said."""
        for step in self._steps:
            step()


@contextmanager
def transaction(store: "RedisWorkflowStore", queue: Any) -> Iterator[StoreTransaction]:
    """Do what is said inside at the end of the block; after an error nothing."""
    txn = StoreTransaction(store, queue)
    yield txn
    txn.apply()
