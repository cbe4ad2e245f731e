"""Orchestrator, and the functions that send signals: a client under other names."""

from typing import Any, ClassVar, Optional

from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.client.outcomes import Outcome
from stabilize_celery.compat.celery_queue import CeleryQueue
from stabilize_celery.compat.control import SignalStage
from stabilize_celery.compat.store import RedisWorkflowStore, stage_of
from stabilize_celery.models.workflow import Workflow

__all__ = ["Orchestrator", "approve", "reject", "send_signal"]


class Orchestrator:
    """Starts workflows and acts on them.

    Args:
        queue: Where their messages go.
        store: Where they are kept; default: the store that the queue serves.

    """

    _newest: ClassVar[Optional["Orchestrator"]] = None

    def __init__(self, queue: CeleryQueue, store: RedisWorkflowStore | None = None) -> None:
        self.queue = queue
        if store is not None:
            queue.serve(store)
        Orchestrator._newest = self

    @classmethod
    def get_instance(cls) -> Optional["Orchestrator"]:
        """Return the one that was made last in this process."""
        return cls._newest

    @property
    def store(self) -> RedisWorkflowStore:
        """Where workflows are kept."""
        return self.queue.store

    def start(self, workflow: Workflow) -> WorkflowHandle:
        """Start a workflow, stored before or not. Raises InvalidWorkflowError.

        Where nobody said which store that is, it is the one of this process in which the workflow was stored.
        """
        if not self.queue.is_bound:
            self.queue.serve(RedisWorkflowStore.holding(workflow.id))
        return self.store.start(workflow)

    def cancel(self, workflow: Workflow | str, user: str = "", reason: str = "") -> Outcome:
        """End a workflow CANCELED."""
        return self.store.cancel(workflow if isinstance(workflow, str) else workflow.id, user, reason)

    def restart(self, workflow: Workflow | str, stage_id: str) -> Outcome:
        """Run a stage (its id or `ref_id`) of an ended workflow, and what follows it, again."""
        handle = self.store.handle(workflow)
        return handle.restart(stage_of(handle.get(), stage_id).ref_id)

    def unpause(self, workflow: Workflow | str) -> Outcome:
        """Let a paused workflow go on."""
        return self.store.handle(workflow).resume()

    def get_execution(self, workflow_id: str) -> Workflow:
        """Return a workflow as it is now. Raises WorkflowNotFoundError."""
        return self.store.retrieve(workflow_id)


def send_signal(
    queue: CeleryQueue,
    execution_id: str,
    stage_id: str,
    name: str,
    data: dict[str, Any] | None = None,
    *,
    persistent: bool = True,
    store: RedisWorkflowStore | None = None,
    user: str = "",
) -> Outcome:
    """Wake a task of a stage (its id or `ref_id`) that waits for the signal `name`; kept if none does yet.

    Raises:
        WorkflowNotFoundError: there is no such workflow.
        KeyError: there is no such stage.

    """
    message = SignalStage(
        execution_id=execution_id,
        stage_id=stage_id,
        signal_name=name,
        signal_data=data or {},
        persistent=persistent,
        user=user,
    )
    return message.apply(queue.serve(store))


def approve(
    queue: CeleryQueue, execution_id: str, stage_id: str, data: dict[str, Any] | None = None, **more: Any
) -> Outcome:
    """Wake an `ApprovalTask` with `approve`; `more` as for `send_signal`."""
    return send_signal(queue, execution_id, stage_id, more.pop("name", "approve"), data, **more)


def reject(
    queue: CeleryQueue, execution_id: str, stage_id: str, data: dict[str, Any] | None = None, **more: Any
) -> Outcome:
    """Wake an `ApprovalTask` with `reject`, which fails it; `more` as for `send_signal`."""
    return send_signal(queue, execution_id, stage_id, more.pop("name", "reject"), data, **more)
