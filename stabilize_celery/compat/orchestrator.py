"""Orchestrator, and the functions that send signals: a client under other names."""

from typing import Any, ClassVar, Optional

from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.client.outcomes import Outcome
from stabilize_celery.compat.celery_queue import CeleryQueue
from stabilize_celery.compat.control import SignalStage
from stabilize_celery.compat.former_tasks import APPROVE_SIGNAL, REJECT_SIGNAL
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

    def start(self, execution: Workflow, handler_config: Any = None) -> WorkflowHandle:
        """Start a workflow, stored before or not. `handler_config`: as upstream's. Raises InvalidWorkflowError.

        Where nobody said which store that is, it is the one of this process in which the workflow was stored.
        """
        del handler_config
        if not self.queue.is_bound:
            self.queue.serve(RedisWorkflowStore.holding(execution.id))
        return self.store.start(execution)

    def cancel(self, execution: Workflow | str, user: str = "", reason: str = "") -> Outcome:
        """End a workflow CANCELED."""
        return self.store.cancel(execution if isinstance(execution, str) else execution.id, user, reason)

    def restart(self, execution: Workflow | str, stage_id: str) -> Outcome:
        """Run a stage (its id or `ref_id`) of an ended workflow, and what follows it, again."""
        handle = self.store.handle(execution)
        return handle.restart(stage_of(handle.get(), stage_id).ref_id)

    def unpause(self, execution: Workflow | str) -> Outcome:
        """Let a paused workflow go on."""
        return self.store.handle(execution).resume()

    def get_execution(self, execution_id: str) -> Workflow:
        """Return a workflow as it is now. Raises WorkflowNotFoundError."""
        return self.store.retrieve(execution_id)


def send_signal(  # noqa: PLR0913 - as upstream's
    queue: CeleryQueue,
    execution_id: str,
    stage_id: str,
    signal_name: str,
    signal_data: dict[str, Any] | None = None,
    *,
    execution_type: str = "PIPELINE",
    persistent: bool = True,
    store: RedisWorkflowStore | None = None,
    user: str = "",
) -> Outcome:
    """Wake a task of a stage (its id or `ref_id`) that waits for the signal of that name; kept if none does yet.

    Raises:
        WorkflowNotFoundError: there is no such workflow.
        KeyError: there is no such stage.

    """
    message = SignalStage(
        execution_type=execution_type,
        execution_id=execution_id,
        stage_id=stage_id,
        signal_name=signal_name,
        signal_data=signal_data or {},
        persistent=persistent,
        user=user,
    )
    return message.apply(queue.serve(store))


def approve(
    queue: CeleryQueue, execution_id: str, stage_id: str, data: dict[str, Any] | None = None, **more: Any
) -> Outcome:
    """Wake an `ApprovalTask` with `approve`; `more` as for `send_signal`."""
    return send_signal(queue, execution_id, stage_id, more.pop("name", APPROVE_SIGNAL), data, **more)


def reject(
    queue: CeleryQueue, execution_id: str, stage_id: str, data: dict[str, Any] | None = None, **more: Any
) -> Outcome:
    """Wake an `ApprovalTask` with `reject`, which fails it; `more` as for `send_signal`."""
    return send_signal(queue, execution_id, stage_id, more.pop("name", REJECT_SIGNAL), data, **more)
