"""The Celery tasks: one per message type, generated from the glossary, and two that are no ledger messages."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from celery import Celery, Task
from celery.exceptions import Reject
from celery.utils.saferepr import saferepr

from stabilize_celery.errors import CommitConflictError, IdempotencyConflictError, UnreachableError
from stabilize_celery.models.messages import MESSAGE_TYPES, Message
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.runtime.lanes import shown
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.store.contract import Store
from stabilize_celery.telemetry.carrying import is_traceparent
from stabilize_celery.transport.incoming import ForeignMessageError, message_of
from stabilize_celery.transport.publish import SUBMIT, task_name
from stabilize_celery.transport.reports import Reports
from stabilize_celery.transport.taking import Begun
from stabilize_celery.transport.turns import Delivered

__all__ = [
    "Bridge",
    "LedgerTask",
    "add_tasks",
]

_REQUEUE_PAUSE_S = 2.0
_RELIED_ON = (
    *("acks_late", "acks_on_failure_or_timeout", "acks_on_failure", "acks_on_timeout"),
    *("reject_on_worker_lost", "retry_on_worker_lost", "ignore_result", "store_errors_even_if_ignored", "max_retries"),
    *("rate_limit", "expires", "serializer", "compression", "queue", "exchange", "routing_key", "priority"),
)
"""What annotations don't change: how messages are acknowledged, tried again, written, and where they go."""
_REFUSALS = (InvalidWorkflowError, IdempotencyConflictError)

logger = logging.getLogger(__name__)


class Submits(Protocol):
    """What a submission is handed to."""

    def submit(self, definition: Mapping[str, Any], idempotency_key: str | None, *, trace: str = "") -> str:
        """Start a workflow, or find the one that the key stands for; return its id."""
        ...


class Bridge(Protocol):
    """What the Celery tasks need of the `Stabilize` that made them."""

    reports: Reports

    @property
    def runtime(self) -> Submits:
        """The runtime of this process."""
        ...

    @property
    def store(self) -> Store:
        """The store of this process."""
        ...

    def begin(self, message: Message) -> Begun:
        """Handle a delivery."""
        ...

    def go_on(self, begun: Begun, delivered: Delivered) -> None:
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
        if (turn := getattr(self.request, "stabilize_turn", None)) is not None:
            self.bridge.go_on(*turn)


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
            begun = self.bridge.begin(message)
        except UnreachableError as error:
            logger.warning("%s %s: %s It is owed and comes back.", self.name, self.request.id, error)
            return "state unreachable: comes back"
        delivered = Delivered(self.request.id, saferepr(begun.note), time.monotonic() - began_s, os.getpid())
        self.request.stabilize_turn = begun, delivered
        return begun.note

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
