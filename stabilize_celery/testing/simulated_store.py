"""The store of a simulation. Who waits for an event waits in virtual time: the fleet goes on meanwhile."""

from collections.abc import Sequence
from typing import Protocol

from typing_extensions import override

from stabilize_celery.engine import places
from stabilize_celery.engine.state import WORKFLOW_RECORD
from stabilize_celery.engine.steps import Hash, workflow_slot
from stabilize_celery.store.contract import StoredEvent
from stabilize_celery.testing.interruptions import InterruptedStore, Interrupting

__all__ = ["Running", "SimulatedStore"]

_CLEARING_MS = 1_000
"""How long an ended workflow gets to clear its stages away before somebody looks again (ms)."""


class Running(Interrupting, Protocol):
    """What the store asks of the simulation, besides."""

    def run(self, *workflow_ids: str) -> None:
        """Go on until these workflows have ended or need something from outside."""
        ...

    def pass_time(self, ms: int) -> None:
        """Let time go by."""
        ...

    def stuck(self, what: str, workflow_ids: Sequence[str]) -> Exception:
        """Return the error that says what a workflow waits for."""
        ...


class SimulatedStore(InterruptedStore):
    """A memory store for which `handle.wait()` and `handle.events(follow=True)` run the fleet: nobody else would."""

    def __init__(self, simulation: Running, partitions: int) -> None:
        super().__init__(simulation, partitions)
        self._running = simulation

    @override
    def events(self, workflow_id: str, after: str, block_ms: int | None, limit: int) -> list[StoredEvent]:
        """Return events after the stream id `after`; with `block_ms`, the fleet goes on until there is one.

        Raises:
            SimulationStuckError: the workflow lives, and no event will come.

        """
        found = super().events(workflow_id, after, None, limit)
        if found or not block_ms:
            return found
        if not self._lives(workflow_id):
            self._running.pass_time(_CLEARING_MS)
            return super().events(workflow_id, after, None, limit)
        self._running.run(workflow_id)
        found = super().events(workflow_id, after, None, limit)
        if not found:
            raise self._running.stuck("is waited for, and does not go on by itself", (workflow_id,))
        return found

    def _lives(self, workflow_id: str) -> bool:
        record = Hash(places.WORKFLOW)
        found = self.calmly(lambda: self.look(workflow_slot(workflow_id), (record,)))
        return WORKFLOW_RECORD.decode(found[record]).is_live
