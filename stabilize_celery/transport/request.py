"""How a worker's main process sees one delivery of a RunTask: it is the first to know that a child has died."""

from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request

from stabilize_celery.transport.reports import Report

__all__ = ["AttemptRequest", "LedgerRequest"]

_FORCED_ENDS = (WorkerLostError, Terminated, TimeLimitExceeded, SystemExit, KeyboardInterrupt)


class LedgerRequest(Request):
    """A delivery of any message: the ledger decides whether it is done, not Celery's list of revoked ids."""

    def revoked(self) -> bool:
        """Return False: a revoked message would be owed for ever. `stabilize-celery cancel` stops a workflow."""
        return False


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
