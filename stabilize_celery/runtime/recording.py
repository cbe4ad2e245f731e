"""Records what bodies returned: at once, on what was read with the claim; or when Redis is back (PROTOCOL 4.2)."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from stabilize_celery.engine.results import TaskReturned, TooLate, record
from stabilize_celery.engine.steps import Decision, workflow_slot
from stabilize_celery.errors import PayloadError, UnreachableError, WritesRefusedError
from stabilize_celery.models.messages import RunTask
from stabilize_celery.runtime.fusion import Fusion, GoingOn, Kept, Seed
from stabilize_celery.runtime.ports import TaskRunner
from stabilize_celery.runtime.running import RunningBody
from stabilize_celery.runtime.unit import Conflict, NotCommitted, UnitOfWork, decided_on

__all__ = ["Recorder"]

logger = logging.getLogger("stabilize_celery")

_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 100, 1_000
"""How long a result waits until it is tried to record it again, while Redis is away. Leases that ran out meanwhile are
spared for longer, once it is back."""
_PATIENCE_MS = 60_000
"""How long a process waits with a result while a node of a cluster is away, and others answer."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records results of task bodies. `runner`: returns who watches over bodies while they run."""

    unit: UnitOfWork
    runner: Callable[[], TaskRunner]
    fusion: Fusion | None = None

    def record(
        self,
        message: RunTask,
        returned: TaskReturned,
        seed: Seed,
        going_on: GoingOn | None,
        overdue: RunningBody | None,
    ) -> tuple[Decision, Kept | None]:
        """Record a result, if need be when Redis is back; return what was decided, and what this process goes on with.

        Args:
            message: The task.
            returned: What its body answered.
            seed: What was read with its claim: while nothing has changed since, no more is.
            going_on: With which task to go on; None: with none. Only in fused modes.
            overdue: The body, if it has taken longer than it may: nothing that it leaves is to show.

        Raises:
            UnreachableError: it can't be recorded; see `_at_last`.

        """
        try:
            _fence(overdue)
            return self._at_once(message, returned, seed, going_on)
        except PayloadError:
            # Redis is there: another worker may be able to do what this one can't.
            raise
        except UnreachableError as away:
            return self._at_last(message, returned, away, overdue), None

    def _at_once(
        self, message: RunTask, returned: TaskReturned, seed: Seed, going_on: GoingOn | None
    ) -> tuple[Decision, Kept | None]:
        if self.fusion is None:
            return self._on_the_claim(message, returned, seed), None
        decision, kept = self.fusion.run(message, lambda _: record(message, returned), seed, going_on)
        return _committed(decision), kept

    def _on_the_claim(self, message: RunTask, returned: TaskReturned, seed: Seed) -> Decision:
        slot, sessions, snapshot = workflow_slot(message.workflow_id), seed.sessions, seed.snapshot
        assert snapshot is not None  # noqa: S101 - narrows for the type checker
        try:
            sessions.saw(slot, snapshot)
            handling = record(message, returned)
            next(handling)
            decision = decided_on(handling, snapshot)
            if decision is not None:
                # Behind what came too late an `on_cancel` may be called.
                is_last = not isinstance(decision.call, TooLate)
                self.unit.commit(decision, slot, sessions, message.name, is_last=is_last)
                return decision
        except Conflict:
            logger.debug("%s: something changed while it ran; reading again", message.name)
        return self._anew(message, returned)

    def _anew(self, message: RunTask, returned: TaskReturned) -> Decision:
        """Record a result on what is read now: whoever has claimed the task meanwhile is seen, and wins."""
        if self.fusion is not None:
            decision, _ = self.fusion.run(message, lambda _: record(message, returned))
        else:
            slot = workflow_slot(message.workflow_id)
            decision = self.unit.run(slot, lambda _: record(message, returned), message.name).decision
        return _committed(decision)

    def _at_last(
        self, message: RunTask, returned: TaskReturned, away: UnreachableError, overdue: RunningBody | None
    ) -> Decision:
        """Record a result once Redis is back: its leases are extended as soon as then, so it is likely to be the first.

        Raises:
            UnreachableError: this process is to end, or a node of a cluster alone is away for long, and what lies on
                others needs this process. The task is executed again.

        """
        logger.warning("%s/%s: %s Its result is kept, and recorded then.", message.workflow_id, message.name, away)
        pause_ms, waited_ms = _FIRST_PAUSE_MS, 0
        while not self.runner().is_stopping:
            self.unit.pause(pause_ms)
            waited_ms += pause_ms
            pause_ms = min(2 * pause_ms, _LONGEST_PAUSE_MS)
            is_needed = waited_ms > _PATIENCE_MS and self._answers_elsewhere()
            try:
                _fence(overdue)
                decision = self._anew(message, returned)
            except PayloadError:
                raise
            except UnreachableError as error:
                away = error
                if is_needed and not isinstance(error, WritesRefusedError):
                    break
                continue
            told = decision.note or returned.status
            logger.warning("%s/%s: the state server is back: %s", message.workflow_id, message.name, told)
            return decision
        raise away

    def _answers_elsewhere(self) -> bool:
        """Whether any server of the state answers."""
        try:
            self.unit.store.first_due(range(self.unit.store.partitions()), 1, partly=True)
        except UnreachableError:
            return False
        return True


def _fence(overdue: RunningBody | None) -> None:
    """Fence off what has taken longer than it may: while Redis was away nobody could."""
    if overdue is not None:
        overdue.take_too_long()


def _committed(decision: Decision) -> Decision:
    """Return a decision that was committed: no result is dropped with its last try.

    Raises:
        WritesRefusedError: nothing was written. Others never win for long, but a server may take no writes.

    """
    if isinstance(decision.call, NotCommitted):
        raise WritesRefusedError("the state server answers, but no commit came through: nothing was written.")
    return decision
