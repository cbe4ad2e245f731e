"""What task code can know of the attempt it runs in: which one, since when, woken by what."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.errors import PreconditionError
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.binding import Binding

__all__ = ["SubWorkflowOutcome", "TaskCall", "bind_call", "bound_call", "current_call", "get_signal"]


@dataclass(frozen=True, slots=True)
class SubWorkflowOutcome:
    """How the inner workflow that a task waited for ended; `status` is the name of its final status."""

    workflow_id: str
    status: str
    outputs: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    """Why it did not succeed, if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCall:
    """One execution of a task's body. Times are epoch milliseconds of the state server's clock.

    Args:
        run_number: Which run of the stage this is (from 1).
        instance_index: Which instance inside a multi-instance run (from 0); None outside one.
        attempt: Which try of the body this is (from 1), polls not counted.
        polls: How often the task has answered RUNNING already.
        started_ms: When the task first started, whatever happened since.
        now_ms: When this execution started.
        idempotency_key: The same for every try of this task in this run and instance.
        fencing_token: Grows with each holder of the stage's mutex; None without one.
        deadline_ms: When the task runs out of time; None: never.
        signal: The name of the signal that woke the task, for this execution only.
        signal_payload: What came with it.
        sub_workflow: How the inner workflow ended that the task waited for.

    """

    workflow_id: str
    stage_ref_id: str
    run_number: int
    instance_index: int | None
    task_name: str
    attempt: int
    polls: int
    started_ms: int
    now_ms: int
    idempotency_key: str
    fencing_token: int | None = None
    deadline_ms: int | None = None
    signal: str | None = None
    signal_payload: Any = None
    sub_workflow: SubWorkflowOutcome | None = None


_CALL: ContextVar[TaskCall | None] = ContextVar("stabilize_celery_task_call", default=None)


def bind_call(call: TaskCall) -> Binding[TaskCall | None]:
    """Make `call` the current one inside the block; the runtime does so around the body and the hooks."""
    return Binding(_CALL, call)


def bound_call() -> TaskCall | None:
    """Return the current call, or None outside of one."""
    return _CALL.get()


def current_call() -> TaskCall:
    """Return the call that this code runs in.

    Raises:
        PreconditionError: no task is being executed here; a thread that a task started must be given the call.

    """
    call = _CALL.get()
    if call is None:
        raise PreconditionError(
            "no task is being executed here: current_call() works in a task's body and hooks, on the thread that "
            "runs them; in a test, bind one with stabilize_celery.tasks.call.bind_call"
        )
    return call


def get_signal(stage: StageExecution) -> tuple[str | None, Any]:  # noqa: ARG001 -- the name programs already use
    """Return name and payload of the signal that woke this execution; (None, {}) if none did."""
    call = _CALL.get()
    if call is None or call.signal is None:
        return None, {}
    return call.signal, {} if call.signal_payload is None else call.signal_payload
