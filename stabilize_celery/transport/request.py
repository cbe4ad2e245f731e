"""How a worker's main process sees one delivery of a message: it is the first to know that a child has died."""

from collections.abc import Mapping, Sequence
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request
from celery.worker.state import task_ready

from stabilize_celery.transport.publish import task_name
from stabilize_celery.transport.reports import Report
from stabilize_celery.transport.turns import Delivered

__all__ = ["AttemptRequest", "LedgerRequest", "SubmitRequest"]

_FORCED_ENDS = (WorkerLostError, Terminated, TimeLimitExceeded, SystemExit, KeyboardInterrupt)


class LedgerRequest(Request):
    """A delivery of any message: the ledger decides whether it is done, not Celery's list of revoked ids.

    It may be done though its process goes on with other messages. Until that ends it is active and unacknowledged:
    Celery fetches none for that process, and a cold shutdown ends it.
    """

    is_done = False

    def is_of(self, delivered: Delivered) -> bool:
        """Whether this is the delivery that a process has told of, and not another one of the same message."""
        return (self.id, self.worker_pid, self.is_done) == (delivered.task_id, delivered.pid, False)

    def delivery_is_done(self, delivered: Delivered) -> None:
        """Tell Flower, as it is told of any task that has succeeded."""
        self.send_event("task-succeeded", result=delivered.result, runtime=delivered.took_s)
        self.is_done = True

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Know the process; what it has told may have been faster."""
        super().on_accepted(pid, time_accepted)
        waiting = self.task.bridge.waiting
        if waiting is not None and (delivered := waiting.told_early(self.id, pid)) is not None:
            self.delivery_is_done(delivered)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's signature
        """Send an event, unless its end was told."""
        if not self.is_done:
            super().send_event(type, **fields)

    def terminate(self, *args: Any, **options: Any) -> None:
        """End its process, as somebody asked who revokes it; not if that is busy with something else by now."""
        if not self.is_done:
            super().terminate(*args, **options)

    def info(self, safe: bool = False) -> Any:
        """Return what `inspect` tells: what its process is at now."""
        told = super().info(safe=safe)
        going = self.task.bridge.turns.of(self.worker_pid) if self.is_done else None
        if going is None:
            return told
        ours = {"id": going.task_id, "name": task_name(going.kind), "args": [], "kwargs": {}, "type": going.kind}
        return {**told, **ours, "time_start": going.since_s}

    def revoked(self) -> bool:
        """Return False: a revoked message would be owed for ever. `stabilize-celery cancel` stops a workflow."""
        return False


class SubmitRequest(LedgerRequest):
    """A delivery of a submission, whose definition may hold secrets: Flower and `inspect` see what it is about."""

    def __init__(self, message: Any, *args: Any, **options: Any) -> None:
        super().__init__(message, *args, **options)
        self._argsrepr, self._kwargsrepr = "()", _about(self.kwargs)

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002 - Celery's signature
        """Return what `inspect` tells: never the definition."""
        return super().info(safe=True)


def _about(kwargs: Mapping[str, Any]) -> str:
    """Return a submission in a few words, whatever was sent."""
    definition = kwargs.get("definition")
    found = definition if isinstance(definition, Mapping) else {}
    told = {name: found[name] for name in ("application", "name") if isinstance(found.get(name), str)}
    if isinstance(stages := found.get("stages"), Sequence):
        told["stages"] = str(len(stages))
    if isinstance(key := kwargs.get("idempotency_key"), str):
        told["idempotency_key"] = key
    return " ".join(f"{name}={value[:_LONGEST]}" for name, value in told.items())


_LONGEST = 200


class AttemptRequest(LedgerRequest):
    """A delivery of a RunTask. What happens to its process is reported; the message itself is always acknowledged."""

    def on_failure(self, exc_info: ExceptionInfo, *args: Any, **kwargs: Any) -> Any:
        """Report a task attempt whose process was killed or has died."""
        raised = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(raised, _FORCED_ENDS):
            self._report(is_lost=True, died=_told(raised))
        if self.is_done:
            # What is lost is what its process went on with; that is looked for where it was told.
            task_ready(self)
            return self.acknowledge()
        return super().on_failure(exc_info, *args, **kwargs)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """Report a task attempt that Celery's hard time limit ends."""
        if not soft:
            self._report(is_lost=True, died=_told(TimeLimitExceeded(timeout)))
        return super().on_timeout(soft, timeout)

    def cancel(self, *args: Any, **kwargs: Any) -> Any:
        """Report a task attempt that a cold shutdown (or a lost connection, where so set) ends."""
        self._report(is_lost=False)
        return super().cancel(*args, **kwargs)

    def _report(self, *, is_lost: bool, died: str = "") -> None:
        turns = self.task.bridge.turns
        going = turns.lost(self.worker_pid) if turns is not None else ()
        report = Report(self.id, self.worker_pid, is_lost, tuple(one.task_id for one in going), died)
        self.task.bridge.reports.add(report)


def _told(end: BaseException) -> str:
    """Return of what a process has died. Of a time limit Celery tells twice, first as of a failure."""
    match end:
        case TimeLimitExceeded(args=(limit_s,)):
            return f"Celery's time limit of {limit_s:g} s ended it"
        case _:
            # Celery's number of the job tells nobody anything.
            return str(end).partition(" Job:")[0]
