"""The repair sweep of a keeper: walks over the running workflows of its partitions (PROTOCOL 11). No threads, no clock.

Zero repairs are normal; more are a bug, or writes that Redis has lost.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.inspection import Scope
from stabilize_celery.runtime.mender import Mender
from stabilize_celery.runtime.ports import Publisher
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store

__all__ = ["ROUND_MS", "SWEEP_EVERY_MS", "Sweep", "SweepStats"]

SWEEP_EVERY_MS = 5_000
"""One workflow per second and partition: five of them every 5 s, which costs a fifth of the round trips."""
ROUND_MS = 10_000
"""A partition's walk begins anew at the earliest so long after it began: few are not looked at all the time."""
_PER_STEP = 5
_MOST_RUNS, _MOST_CHILDREN = 200, 20
"""Of a workflow with more, each look takes in another part."""

logger = logging.getLogger("stabilize_celery")


@dataclass(slots=True)
class SweepStats:
    """What a sweep has done since it was made."""

    inspected: int = 0
    """Looks at workflows."""
    repaired: int = 0
    """Repairs made."""
    unmended: int = 0
    """Findings that no repair exists for; each look counts."""


@dataclass(slots=True)
class _Walk:
    """How far the walk over one partition has come; `rank` None: at its end."""

    rank: int | None = 0
    began_ms: int = 0
    rounds: int = 0


class Sweep:
    """Looks at one running workflow per second and partition, and mends it."""

    def __init__(self, store: Store, publisher: Publisher, settings: Settings) -> None:
        self._store = store
        self._mender = Mender(store, publisher, settings, mends=True)
        self._walks: dict[int, _Walk] = {}
        self.stats = SweepStats()

    def step(self, partitions: Iterable[int], now_ms: int) -> list[Finding]:
        """Look at the next workflows of each partition and at the locks that they wait for; return what was found.

        Args:
            partitions: Those that this keeper holds now.
            now_ms: Of a clock that only goes on (ms).

        Raises:
            UnreachableError: the state server is away.

        """
        first = self._places(partitions, now_ms)
        if not first:
            return []
        chosen = self._store.indexed("running", first, _PER_STEP)
        self._went(chosen)
        workflow_ids = [workflow_id for ids in chosen.values() for workflow_id in ids]
        if not workflow_ids:
            return []
        turn = max(self._walks[number].rounds for number in chosen)
        findings, locks = self._mender.workflows(workflow_ids, Scope(_MOST_RUNS, _MOST_CHILDREN, turn))
        findings += self._mender.waited_for(locks)
        self.stats.inspected += len(workflow_ids)
        self._tell(findings)
        return findings

    def _places(self, partitions: Iterable[int], now_ms: int) -> dict[int, int]:
        """Return where to go on in each partition that it is time for."""
        places = {}
        for number in partitions:
            walk = self._walks.setdefault(number, _Walk(None, now_ms - ROUND_MS))
            if walk.rank is None and now_ms - walk.began_ms >= ROUND_MS:
                walk.rank, walk.began_ms, walk.rounds = 0, now_ms, walk.rounds + 1
            if walk.rank is not None:
                places[number] = walk.rank
        return places

    def _went(self, chosen: Mapping[int, Sequence[str]]) -> None:
        # Workflows that end meanwhile make later ones move up: some are left out, until the next round.
        for number, ids in chosen.items():
            walk = self._walks[number]
            walk.rank = (walk.rank or 0) + len(ids) if len(ids) == _PER_STEP else None

    def _tell(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.stats.repaired += finding.is_mended
            self.stats.unmended += not finding.is_mended
            done = finding.mends if finding.is_mended else "no repair is known; see `stabilize-celery why`"
            logger.warning("workflow %s: %s. Done: %s", finding.workflow_id, finding.told, done)
