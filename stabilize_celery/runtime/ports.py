"""What the runtime needs of the world around it: a publisher, and the shape of what it publishes."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import msgspec

from stabilize_celery.models.messages import CancelTask, Message, RunTask
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Post

__all__ = [
    "Body",
    "Claim",
    "Outcome",
    "Outgoing",
    "Publisher",
    "RidingPublisher",
    "TaskRunner",
    "outgoing",
    "queue_of",
]


class Outgoing(msgspec.Struct, frozen=True):
    """One broker message: Celery task `stabilize.<kind>`, Celery id `<workflow id>/<ledger name>`, ids-only kwargs.

    `queue` is the lane that it goes into (runtime/lanes.py).
    """

    kind: str
    task_id: str
    kwargs: Mapping[str, Any]
    queue: str


class Publisher(Protocol):
    """Puts messages on the broker. Never needed for correctness: what is lost is published again from the ledger."""

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Publish in order, as one batch where the broker can.

        Raises:
            QueueError: the broker did not take (all of) them; safe to ignore, the keeper comes round.

        """
        ...


@runtime_checkable
class RidingPublisher(Publisher, Protocol):
    """A publisher whose messages can be part of a commit: broker and state are one server."""

    def riding(self, batch: Sequence[Outgoing]) -> Sequence[Post] | None:
        """Return what a commit writes to send a batch; None: it has to be published after it."""
        ...


class Claim(msgspec.Struct, frozen=True):
    """A task attempt that this process holds: which ledger entry, and the owner text written into it."""

    workflow_id: str
    name: str
    owner: str


class Outcome(msgspec.Struct):
    """What became of a message, in a few words, as its result is shown."""

    note: str = ""


class Body(Protocol):
    """A task's body that this process executes, as seen by who watches its claim. Safe to call from any thread."""

    @property
    def limit_s(self) -> float | None:
        """How long this execution may take (s); None: there is no limit."""
        ...

    def stop(self) -> None:
        """Its claim is gone, or its time is over: learn why, ask it to stop, and tell it if it was cancelled.

        Raises:
            UnreachableError: Redis is away; the body was asked to stop.

        """
        ...

    def take_too_long(self) -> bool:
        """Its limit has passed: fence what it will return, and ask it to stop; False: others' commits won, try again.

        Raises:
            UnreachableError: Redis is away; nothing was done.

        """
        ...


class TaskRunner(Protocol):
    """Where claims are made known, so that somebody watches over them while bodies run."""

    @property
    def is_stopping(self) -> bool:
        """Whether this process is to end, and waits for nothing. Else its leases are extended until it is done."""
        ...

    def began(self, claim: Claim, body: Body) -> None:
        """Take note: the claim is committed, its body starts now."""
        ...

    def ended(self, claim: Claim) -> None:
        """Take note: the body has returned or raised."""
        ...

    def going_on(self, message: RunTask) -> AbstractContextManager[Outcome]:
        """Make a task known that no broker has delivered: it is gone on with inside, and its outcome is set inside."""
        ...


_OF_TASKS = (RunTask, CancelTask)


def queue_of(message: Message, settings: Settings) -> str:
    """Return the queue a message goes to: work for tasks' own code (by type), control for everything else."""
    if isinstance(message, _OF_TASKS):
        return settings.task_queues.get(message.task_type, settings.work_queue)
    return settings.control_queue


def outgoing(message: Message, queue: str) -> Outgoing:
    """Return the broker form of a message: only ids, named as people read them."""
    kwargs: dict[str, Any] = {
        name: value for name in message.__struct_fields__ if (value := getattr(message, name)) is not None
    }
    return Outgoing(type(message).__name__, f"{message.workflow_id}/{message.name}", kwargs, queue)
