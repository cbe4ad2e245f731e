"""The claims of one process: its running bodies learn from here that they should stop."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from billiard.common import terminate_handler_fired

from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.steps import Fields, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.runtime.leases import is_owned_by
from stabilize_celery.runtime.ports import Claim
from stabilize_celery.store.contract import Store
from stabilize_celery.tasks.cancellation import CancellationToken, current_cancellation_token

__all__ = ["LOST", "LocalClaims"]

LOST = "its claim is gone: the stage was cancelled, or the task was given to another worker"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Body:
    token: CancellationToken | None
    since_s: float


class LocalClaims:
    """The `TaskRunner` of a process: knows which bodies run here, and raises the flag of those that lost their claim.

    Whatever the pool, the process that runs a body looks at its ledger entries itself, every `look_every_s`, at no
    cost for bodies that end sooner. What is committed after that is refused anyway; this saves the work, and lets
    code stop well that asks `is_cancellation_requested`.

    Args:
        on_claim_lost: Also told of each claim that is gone, once, on the watching thread.
        is_ending: Whether this process was told to end; default: whether a pool's child was.

    """

    def __init__(
        self,
        store: Store,
        look_every_s: float,
        on_claim_lost: Callable[[Claim], None] | None = None,
        is_ending: Callable[[], bool] = terminate_handler_fired,
    ) -> None:
        self._store = store
        self._look_every_s = look_every_s
        self._on_claim_lost = on_claim_lost
        self._is_ending = is_ending
        self._bodies: dict[Claim, _Body] = {}
        self._begun = threading.Event()
        self._watch: threading.Thread | None = None

    def began(self, claim: Claim) -> None:
        """Know the claim; called on the body's thread, with its cancellation token bound."""
        self._bodies[claim] = _Body(current_cancellation_token(), time.monotonic())
        if self._watch is None:
            self._watch = threading.Thread(target=self._run, name="stabilize-claims", daemon=True)
            self._watch.start()
        self._begun.set()

    def ended(self, claim: Claim) -> None:
        """Forget the claim; called before the result is recorded.

        Raises:
            SystemExit: this process was told to end. It was told so inside the body, which then ended early: that is
                no result, and the main process has handed the task back.

        """
        self._bodies.pop(claim, None)
        if self._is_ending():
            raise SystemExit

    def look(self, older_than_s: float = 0.0) -> list[Claim]:
        """Look at the entries of bodies that run for longer; raise the flags of those whose claim is gone, return them.

        Raises:
            UnreachableError: Redis is away.

        """
        before = time.monotonic() - older_than_s
        claims = [claim for claim, body in list(self._bodies.items()) if body.since_s <= before]
        lost = self._lost(claims)
        for claim in lost:
            body = self._bodies.pop(claim, None)
            if body is None:
                continue
            logger.warning("%s/%s: stop: %s", claim.workflow_id, claim.name, LOST)
            if body.token is not None:
                body.token.cancel(LOST)
            if self._on_claim_lost is not None:
                self._on_claim_lost(claim)
        return lost

    def _lost(self, claims: Sequence[Claim]) -> list[Claim]:
        if not claims:
            return []
        queries = [Fields(ledger(claim.name), ("own", "cx")) for claim in claims]
        answers = self._store.look_many(
            [(workflow_slot(c.workflow_id), (q,)) for c, q in zip(claims, queries, strict=True)]
        )
        entries = [answer[query] for answer, query in zip(answers, queries, strict=True)]
        # A cancelled run that holds a lock keeps its claim until the body returns (PROTOCOL 4.3): `cx` says so.
        return [
            claim
            for claim, entry in zip(claims, entries, strict=True)
            if entry.get("cx") == b"1" or not is_owned_by(entry.get("own", b"").decode(), claim.owner)
        ]

    def _run(self) -> None:
        while True:
            self._begun.wait()
            self._begun.clear()
            while self._bodies:
                time.sleep(self._look_every_s)
                try:
                    self.look(older_than_s=self._look_every_s)
                except UnreachableError:
                    continue
                except Exception:
                    logger.exception("the watch over this process' claims failed; it goes on")
