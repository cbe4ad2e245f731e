"""Recovery under the names of before. It is always on here: what is owed stands in a ledger that workers look after."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stabilize_celery.compat.celery_queue import CeleryQueue
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.errors import IdempotencyConflictError
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.transport.incoming import split_task_id

__all__ = ["RecoveryResult", "WorkflowRecovery", "recover_on_startup"]


_NOT_ENDED = (WorkflowStatus.NOT_STARTED, WorkflowStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class RecoveryResult:
    """What one look did for a workflow. `stages_requeued`: how many of its messages were sent (count)."""

    workflow_id: str
    status: str
    message: str
    stages_requeued: int = 0
    failed_pushes: int = 0


class WorkflowRecovery:
    """Starts what is only stored, and looks once after what is owed.

    Args:
        store: Where workflows are kept.
        queue: Where messages go.
        max_recovery_age_hours: What was stored as started before is not started here; nothing else is too old (h).
        batch_size: Accepted.

    """

    def __init__(
        self,
        store: RedisWorkflowStore,
        queue: CeleryQueue,
        max_recovery_age_hours: float = 24.0,
        batch_size: int = 100,
    ) -> None:
        del batch_size
        self.store, self.queue, self.max_recovery_age_hours = store, queue, max_recovery_age_hours

    def recover_pending_workflows(self, application: str | None = None) -> list[RecoveryResult]:
        """Start what is only stored, and send what is due, of all workflows or those of an application.

        Returns one result for each workflow. Where another worker looks after what is owed, that does it, and there is
        nothing to do and to return.

        Raises:
            UnreachableError: Redis is away.

        """
        client = self.queue.serve(self.store).client
        started = [self._start(draft) for draft in self._stored(application)]
        sent = _Sent(self.queue)
        keeper = Keeper(client.store, sent, client.settings, "recovery")
        keeper.renew()
        try:
            keeper.tick()
        finally:
            keeper.give_back()
        known = {result.workflow_id for result in started}
        return started + [
            RecoveryResult(workflow_id, "recovered", f"{count} messages sent", count)
            for workflow_id, count in sent.counts.items()
            if workflow_id not in known
            and (application is None or self.store.retrieve(workflow_id).application == application)
        ]

    def _stored(self, application: str | None) -> list[Workflow]:
        drafts = self.store.drafts.of(application)
        return [draft for draft in drafts if draft.status in _NOT_ENDED and self._is_young(draft)]

    def _is_young(self, draft: Workflow) -> bool:
        """Return whether a workflow, stored as if it had been started, was not started too long ago."""
        oldest_ms = (time.time() - self.max_recovery_age_hours * 3600) * 1000
        return draft.start_time is None or draft.start_time >= oldest_ms

    def _start(self, draft: Workflow) -> RecoveryResult:
        first = len(draft.initial_stages())
        if any(stage.status.is_complete for stage in draft.stages):
            return RecoveryResult(draft.id, "failed", "it was stored half run, and not by the engine")
        try:
            self.store.start(draft)
        except (InvalidWorkflowError, IdempotencyConflictError) as error:
            return RecoveryResult(draft.id, "failed", str(error))
        return RecoveryResult(draft.id, "recovered", "it was stored, and is started", first)


class _Sent:
    """Counts what goes to a queue, by workflow."""

    def __init__(self, queue: CeleryQueue) -> None:
        self._queue = queue
        self.counts: Counter[str] = Counter()

    def publish(self, batch: Sequence[Outgoing]) -> None:
        self._queue.publish(batch)
        self.counts.update(split_task_id(message.task_id)[0] for message in batch if message.kind != PROBE)


def recover_on_startup(
    store: RedisWorkflowStore, queue: CeleryQueue, application: str | None = None, max_age_hours: float = 24.0
) -> list[RecoveryResult]:
    """Start what is only stored, and look once after what is owed; workers do that by themselves, all the time."""
    return WorkflowRecovery(store, queue, max_age_hours).recover_pending_workflows(application)
