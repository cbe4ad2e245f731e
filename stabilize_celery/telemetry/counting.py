"""The observer that counts what a process does."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Hash, Slot, Snapshot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.observing import Observer
from stabilize_celery.store.contract import Transaction
from stabilize_celery.telemetry.tally import Count, Sink

__all__ = ["CountingObserver", "latency_s"]

_ENDED = frozenset({"completed", "failed_continue", "skipped", "stopped", "failed", "canceled"})
_WORKFLOW_ENDED = frozenset({"succeeded", "terminal", "canceled", "stopped", "failed_continue", "skipped"})


@dataclass(slots=True)
class _Delivery:
    """A delivery at work."""

    message: Message
    counts: list[Count] = field(default_factory=list)
    has_begun: bool = False
    commits: int = 0
    conflicts: int = 0
    has_failed: bool = False

    @property
    def outcome(self) -> str:
        """What became of it."""
        if self.has_failed:
            return "failed"
        if self.commits:
            return "applied"
        return "conflict" if self.conflicts else "nothing"


class CountingObserver(Observer):
    """Counts deliveries and what they lead to; tells them to a sink at the end of each."""

    def __init__(self, sink: Sink, clock: Callable[[], float] = time.perf_counter) -> None:
        self._sink = sink
        self._clock = clock
        self._local = threading.local()

    def around_delivery(self, message: Message, handle: Callable[[], str]) -> str:
        """Count a delivery by its outcome, with how long it took."""
        outer, delivery = self._delivery(), _Delivery(message)
        self._local.delivery = delivery
        kind, began = type(message).__name__, self._clock()
        outcome = ""
        try:
            return handle()
        except UnreachableError:
            outcome = "unreachable"
            raise
        finally:
            self._local.delivery = outer
            delivery.counts.append(("stabilize_messages", (kind, outcome or delivery.outcome), 1.0))
            delivery.counts.append(("stabilize_handling_seconds", (kind,), self._clock() - began))
            self._sink.add(delivery.counts)

    def around_body(self, claimed: ClaimedTask, execute: Callable[[], TaskReturned]) -> TaskReturned:
        """Count an execution by how it ended; told at once, as the delivery may go on for long."""
        began, task_type = self._clock(), claimed.message.task_type
        returned = execute()
        counts: list[Count] = [
            ("stabilize_tasks", (task_type, returned.status), 1.0),
            ("stabilize_task_seconds", (task_type,), self._clock() - began),
        ]
        if returned.status == "RETRY":
            counts.append(("stabilize_task_retries", (task_type,), 1.0))
        self._sink.add(counts)
        return returned

    def saw(self, slot: Slot, snapshot: Snapshot) -> None:
        """Take from a delivery's first look at its ledger entry how long it was due."""
        delivery = self._delivery()
        if delivery is None or delivery.has_begun or slot.name != delivery.message.workflow_id:
            return
        late_s = latency_s(delivery.message, snapshot)
        if late_s is not None:
            delivery.has_begun = True
            delivery.counts.append(("stabilize_start_latency_seconds", (type(delivery.message).__name__,), late_s))

    def committed(self, slot: Slot, transaction: Transaction) -> None:  # noqa: ARG002
        """Count what a commit tells."""
        delivery = self._delivery()
        counts = [count for event in transaction.events if (count := _count_of(str(event["kind"])))]
        if delivery is None:
            self._sink.add(counts)
            return
        delivery.commits += 1
        delivery.counts += counts

    def conflicted(self, slot: Slot) -> None:  # noqa: ARG002
        """Count a lost commit."""
        delivery = self._delivery()
        if delivery is not None:
            delivery.conflicts += 1
        self._sink.add([("stabilize_commit_conflicts", (), 1.0)])

    def failed(self, message: Message) -> None:  # noqa: ARG002
        """Remember that the handler raised."""
        delivery = self._delivery()
        if delivery is not None:
            delivery.has_failed = True

    def _delivery(self) -> _Delivery | None:
        return getattr(self._local, "delivery", None)


def latency_s(message: Message, snapshot: Snapshot) -> float | None:
    """Return how long a message had been due when this was read (s); None: its entry was not read, or is gone."""
    key = ledger(message.name)
    found = snapshot.get(Hash(key), None)
    if not found:
        return None
    entry = ENTRY.decode(found)
    due_ms = entry.nb or entry.pub
    return max(0.0, (snapshot.now_ms - due_ms) / 1000) if due_ms else None


def _count_of(event: str) -> Count | None:
    whole, _, what = event.partition(".")
    if whole == "stage" and what in _ENDED:
        return ("stabilize_stages_ended", (what,), 1.0)
    if whole == "workflow" and what in _WORKFLOW_ENDED:
        return ("stabilize_workflows_ended", (what.upper(),), 1.0)
    if event == "lock.granted":
        return ("stabilize_mutex_grants", (), 1.0)
    return None
