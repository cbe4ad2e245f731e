"""How a worker's main process sees one delivery of a RunTask: it is the first to know that a child has died."""

from collections.abc import Mapping, Sequence
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request

from stabilize_celery.transport.reports import Report

__all__ = ["AttemptRequest", "LedgerRequest", "SubmitRequest"]

_FORCED_ENDS = (WorkerLostError, Terminated, TimeLimitExceeded, SystemExit, KeyboardInterrupt)


class LedgerRequest(Request):
    """A delivery of any message: the ledger decides whether it is done, not Celery's list of revoked ids."""

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
        raised = exc_info.exception
        if isinstance(getattr(raised, "exc", raised), _FORCED_ENDS):
            self._report(is_lost=True)
        return super().on_failure(exc_info, *args, **kwargs)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """Report a task attempt that Celery's hard time limit ends."""
        if not soft:
            self._report(is_lost=True)
        return super().on_timeout(soft, timeout)

    def cancel(self, *args: Any, **kwargs: Any) -> Any:
        """Report a task attempt that a cold shutdown (or a lost connection, where so set) ends."""
        self._report(is_lost=False)
        return super().cancel(*args, **kwargs)

    def _report(self, *, is_lost: bool) -> None:
        self.task.bridge.reports.add(Report(self.id, self.worker_pid, is_lost))
