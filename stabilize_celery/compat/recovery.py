"""Recovery under the names of before. It is always on here: what is owed stands in a ledger that workers look after."""

from dataclasses import dataclass

from stabilize_celery.compat.queue import CeleryQueue
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.runtime.keeper import Keeper

__all__ = ["RecoveryResult", "WorkflowRecovery", "recover_on_startup"]


@dataclass(frozen=True, slots=True)
class RecoveryResult:
    """What one look found: messages published because they were due, or again because they were lost (counts)."""

    published: int
    again: int


class WorkflowRecovery:
    """Looks once after what is owed.

    Args:
        store: Where workflows are kept.
        queue: Where messages go.
        max_recovery_age_hours: Accepted; nothing is too old.

    """

    def __init__(self, store: RedisWorkflowStore, queue: CeleryQueue, max_recovery_age_hours: float = 0) -> None:
        del max_recovery_age_hours
        self.store, self.queue = store, queue

    def recover_pending_workflows(self, application: str | None = None) -> RecoveryResult:
        """Publish what is due, of all applications (`application` is accepted). Raises UnreachableError."""
        del application
        store = self.queue.serve(self.store).client
        keeper = Keeper(store.store, self.queue, store.settings, "recovery")
        keeper.renew()
        try:
            keeper.tick()
        finally:
            keeper.give_back()
        return RecoveryResult(keeper.stats.published, keeper.stats.again)


def recover_on_startup(store: RedisWorkflowStore, queue: CeleryQueue) -> RecoveryResult:
    """Look once after what is owed. Workers do so by themselves, all the time."""
    return WorkflowRecovery(store, queue).recover_pending_workflows()
