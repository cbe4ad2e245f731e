"""The Celery tasks: one per message type, generated from the glossary, and two that are no ledger messages."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Protocol

import msgspec
from celery import Celery, Task
from celery.exceptions import Reject
from celery.utils.saferepr import saferepr

from stabilize_celery.errors import CommitConflictError, IdempotencyConflictError, UnreachableError
from stabilize_celery.models.messages import MESSAGE_TYPES, Message
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.runtime.lanes import shown
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.store.contract import Store
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.keys import check_workflow_id
from stabilize_celery.telemetry.carrying import is_traceparent
from stabilize_celery.transport.publish import task_name
from stabilize_celery.transport.reports import Reports
from stabilize_celery.transport.turns import Delivered

__all__ = [
    "SUBMIT",
    "Bridge",
    "ForeignMessageError",
    "Handles",
    "LedgerTask",
    "add_tasks",
    "message_of",
    "split_task_id",
]

SUBMIT = "SubmitWorkflow"
_REQUEUE_PAUSE_S = 2.0
_RELIED_ON = (
    *("acks_late", "acks_on_failure_or_timeout", "acks_on_failure", "acks_on_timeout"),
    *("reject_on_worker_lost", "retry_on_worker_lost", "ignore_result", "store_errors_even_if_ignored", "max_retries"),
    *("rate_limit", "expires", "serializer", "compression", "queue", "exchange", "routing_key", "priority"),
)
"""What annotations don't change: how messages are acknowledged, tried again, written, and where they go."""
_REFUSALS = (InvalidWorkflowError, IdempotencyConflictError)

logger = logging.getLogger(__name__)


class ForeignMessageError(ValueError):
    """A delivery that is no message of a ledger: somebody else sent it, and nothing is owed for it."""


class Handles(Protocol):
    """What a delivery is handed to."""

    def handle(self, message: Message) -> str:
        """Handle one delivery; return a short note."""
        ...

    def submit(self, definition: Mapping[str, Any], idempotency_key: str | None, *, trace: str = "") -> str:
        """Start a workflow, or find the one that the key stands for; return its id."""
        ...


class Bridge(Protocol):
    """What the Celery tasks need of the `Stabilize` that made them."""

    reports: Reports

    @property
    def runtime(self) -> Handles:
        """The runtime of this process."""
        ...

    @property
    def store(self) -> Store:
        """The store of this process."""
        ...

    def go_on(self, delivered: Delivered) -> None:
        """Take what waits on the broker, after this, if this worker's processes do that."""
        ...


class LedgerTask(Task):
    """What our Celery tasks have in common; set per task, so that the app's other tasks keep their settings."""

    abstract = True
    acks_late = True
    acks_on_failure_or_timeout = True
    acks_on_failure = True
    acks_on_timeout = True
    # The ledger brings lost work back and counts how often; Celery would do so for ever.
    reject_on_worker_lost = False
    retry_on_worker_lost = False
    ignore_result = True
    store_errors_even_if_ignored = False
    max_retries = None
    rate_limit = 0
    bridge: Bridge
    Request: ClassVar[str] = "stabilize_celery.transport.request:LedgerRequest"
    Strategy: ClassVar[str] = "stabilize_celery.transport.strategy:readable_only"

    @classmethod
    def annotate(cls) -> None:
        """Take what the app's `task_annotations` say of all tasks, but for what the ledger relies on.

        A rate limit, say, would let messages lie in the worker, and the ledger sends anew what has no effect.
        """
        relied_on = {name: getattr(cls, name, None) for name in _RELIED_ON}
        super().annotate()
        for name, value in relied_on.items():
            setattr(cls, name, value)

    def after_return(self, *_: Any) -> None:
        """Go on with what waits on the broker: all that Celery tells of this delivery is told, or told at once."""
        if (delivered := getattr(self.request, "delivered", None)) is not None:
            self.bridge.go_on(delivered)


def message_of(kind: type[Message], task_id: str, kwargs: Mapping[str, Any]) -> Message:
    """Return the message that a delivery carries; fields that this version does not know are left out.

    Raises:
        ForeignMessageError: it lacks ids, or its Celery task id is not the one of its ledger entry.

    """
    # Ids that are empty are not sent (see `runtime.ports.outgoing`).
    try:
        message = msgspec.convert({**_empty(kind), **kwargs}, kind)
    except msgspec.ValidationError as error:
        raise ForeignMessageError(
            f"{task_name(kind.__name__)} {task_id}: not a message that this version knows: {error}"
        ) from None
    if split_task_id(task_id) != (message.workflow_id, message.name):
        raise ForeignMessageError(
            f"{task_name(kind.__name__)} {task_id}: its Celery task id must be {message.workflow_id}/{message.name}"
        )
    try:
        check_workflow_id(message.workflow_id)
        msgspec.msgpack.encode(message)
    except (StoreError, ValueError, OverflowError) as error:
        raise ForeignMessageError(f"{task_name(kind.__name__)} {task_id!r}: {error}") from None
    return message


@cache
def _empty(kind: type[Message]) -> dict[str, str]:
    return {item.name: "" for item in msgspec.structs.fields(kind) if item.required}


def split_task_id(task_id: str) -> tuple[str, str]:
    """Return workflow id and ledger name of a Celery task id `<workflow id>/<name>`; the name may contain slashes.

    Raises:
        ForeignMessageError: it is no such id.

    """
    workflow_id, slash, name = task_id.partition("/")
    if not (workflow_id and slash and name):
        raise ForeignMessageError(
            f"{task_id!r} is not a ledger message: its Celery task id must be <workflow id>/<name>. Messages of "
            "workflows are sent by this package only; to start a workflow send stabilize.SubmitWorkflow."
        )
    return workflow_id, name


def add_tasks(app: Celery, bridge: Bridge) -> None:
    """Add our Celery tasks to the app, made when the app is finalized, so that its configuration stays open."""
    for kind, message in MESSAGE_TYPES.items():
        # Any of them may go on with a task: see `Settings.mode`.
        request = "stabilize_celery.transport.request:AttemptRequest"
        _add(app, bridge, kind, _handler(message), throws=(ForeignMessageError,), Request=request)
    _add(app, bridge, PROBE, _come_back)
    submission = "stabilize_celery.transport.request:SubmitRequest"
    _add(app, bridge, SUBMIT, _submit, throws=_REFUSALS, Request=submission)


def _add(app: Celery, bridge: Bridge, kind: str, run: Callable[..., Any], **attributes: Any) -> None:
    # shared=False: a shared task would be added to every other Celery app of this Python process too.
    app.task(run, name=task_name(kind), base=LedgerTask, bind=True, shared=False, bridge=bridge, **attributes)


def _handler(kind: type[Message]) -> Callable[..., str]:
    def deliver(self: LedgerTask, *_: Any, **kwargs: Any) -> str:
        began_s = time.monotonic()
        try:
            message = message_of(kind, self.request.id, kwargs)
        except ForeignMessageError as error:
            logger.error("refused, nothing was done: %.1000s", error)  # noqa: TRY400 -- the sender's mistake: its text, not our traceback
            raise
        try:
            note = self.bridge.runtime.handle(message)
        except UnreachableError as error:
            logger.warning("%s %s: %s It is owed and comes back.", self.name, self.request.id, error)
            return "state unreachable: comes back"
        self.request.delivered = Delivered(self.request.id, saferepr(note), time.monotonic() - began_s)
        return note

    deliver.__name__ = deliver.__qualname__ = kind.__name__
    deliver.__doc__ = kind.__doc__
    return deliver


def _come_back(self: LedgerTask, queue: str, sent_ms: int, **_: Any) -> str:
    """Remember that everything published to the queue before this probe has been taken out of it."""
    try:
        self.bridge.store.probe_came_back(queue, sent_ms)
    except UnreachableError as error:
        logger.warning("probe of queue %s: %s Another one will be sent.", shown(queue), error)
        return "state unreachable"
    return f"{shown(queue)} is drained up to {sent_ms}"


def _trace(task: Task) -> str:
    """Return the span that the sender was in, if its headers tell one (as OpenTelemetry's Celery support does)."""
    sent = (task.request.headers or {}).get("traceparent", "")
    return sent if is_traceparent(sent) else ""


def _submit(
    self: LedgerTask, definition: Mapping[str, Any] | None = None, idempotency_key: str | None = None, **_: Any
) -> str:
    """Start a workflow for a producer that has only Celery; without a key, the Celery task id is the key."""
    key = idempotency_key or self.request.id
    try:
        return self.bridge.runtime.submit(definition if definition is not None else {}, key, trace=_trace(self))
    except _REFUSALS as error:
        logger.error("%s %s was refused, nothing was started: %s", self.name, self.request.id, error)  # noqa: TRY400 -- the sender's mistake: its text, not our traceback
        raise
    except (UnreachableError, CommitConflictError) as error:
        logger.warning("%s %s: %s It goes back to its queue.", self.name, self.request.id, error)
        # Nothing stands in the ledger yet: the message is all there is. The pause keeps it from spinning.
        time.sleep(_REQUEUE_PAUSE_S)
        raise Reject(error, requeue=True) from error
