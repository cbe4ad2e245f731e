"""The claims of one process: its running bodies learn from here that they should stop."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from billiard.common import terminate_handler_fired

from stabilize_celery.engine.places import WORKFLOW, ledger
from stabilize_celery.engine.state import WORKFLOW_RECORD
from stabilize_celery.engine.steps import Fields, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.apart import for_each
from stabilize_celery.runtime.leases import is_owned_by
from stabilize_celery.runtime.ports import Body, Claim, Outcome
from stabilize_celery.store.contract import Store
from stabilize_celery.transport.surroundings import Surroundings
from stabilize_celery.transport.turns import Turns

__all__ = ["LONGEST_LOOK_S", "LocalClaims"]

LONGEST_LOOK_S = 3.0
"""How long a process may take at most between two looks at its claims, however long their leases are (s)."""
_STATUS = Fields(WORKFLOW, ("status",))

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    body: Body
    since_s: float
    ends_s: float | None
    """When it has taken too long (monotonic s); None: never."""


class LocalClaims:
    """The `TaskRunner` of a process: watches over the bodies that run here, on one thread.

    Whatever the pool, the process that runs a body looks at its ledger entries itself, every `look_every_s`, at no
    cost for bodies that end sooner: a body whose claim is gone is asked to stop, and told if it was cancelled. What it
    commits after that is refused anyway. A body that takes longer than it may is fenced from here, too. In a gevent
    pool the thread is a greenlet: it gets its turn when bodies wait, as their own heartbeats do.

    Args:
        is_ending: Whether this process was told to end; default: whether a pool's child was.
        is_stopping: Whether its worker was told to stop.
        turns: Where the main process learns what this one goes on with.
        surroundings: What Celery would have around it.

    """

    def __init__(
        self,
        store: Store,
        look_every_s: float,
        *,
        is_ending: Callable[[], bool] = terminate_handler_fired,
        is_stopping: Callable[[], bool] = lambda: True,
        turns: Turns | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._store = store
        self._look_every_s = min(look_every_s, LONGEST_LOOK_S)
        self._is_ending = is_ending
        self._is_stopping = is_stopping
        self._turns = turns
        self._surroundings = surroundings
        self._bodies: dict[Claim, _Watched] = {}
        self._wake = threading.Event()
        self._is_idle = False
        self._watch: threading.Thread | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether its worker was told to stop: what can't be recorded is not waited with."""
        return self._is_stopping()

    def began(self, claim: Claim, body: Body) -> None:
        """Know the claim."""
        now, limit_s = time.monotonic(), body.limit_s
        self._bodies[claim] = _Watched(body, now, None if limit_s is None else now + limit_s)
        if self._watch is None:
            self._watch = threading.Thread(target=self._run, name="stabilize-claims", daemon=True)
            self._watch.start()
        if self._is_idle or limit_s is not None:
            self._wake.set()

    def ended(self, claim: Claim) -> None:
        """Forget the claim; called before the result is recorded.

        Raises:
            SystemExit: this process was told to end. It was told so inside the body, which then ended early: that is
                no result, and the main process has handed the task back.

        """
        self._bodies.pop(claim, None)
        if self._is_ending():
            raise SystemExit

    def going_on(self, message: Message) -> AbstractContextManager[Outcome]:
        """Make a message known that Celery has not delivered: to the main process, and to whom Celery would tell."""
        task_id = f"{message.workflow_id}/{message.name}"
        bare = nullcontext(Outcome())
        around = bare if self._surroundings is None else self._surroundings.around(message, task_id)
        if self._turns is None:
            return around
        known = self._turns.going_on(task_id, getattr(message, "task_type", ""), type(message).__name__)
        return _inside(known, around)

    def look(self, older_than_s: float = 0.0) -> list[Claim]:
        """Look at the bodies that run for longer; ask those to stop whose claim is gone or time is over, return them.

        Raises:
            UnreachableError: Redis is away, or a node of it; what was not reached is looked at again.

        """
        now, stopped = time.monotonic(), list[Claim]()
        looks: list[Callable[[], object]] = []
        by_partition: dict[int, list[Claim]] = defaultdict(list)
        for claim, watched in list(self._bodies.items()):
            if watched.ends_s is not None and watched.ends_s <= now:
                looks.append(partial(self._end_too_long, watched, now))
            if watched.since_s <= now - older_than_s:
                by_partition[self._store.partition_of(claim.workflow_id)].append(claim)
        looks += (partial(self._look_at, claims, stopped) for claims in by_partition.values())
        for_each(lambda look: look(), looks)
        return stopped

    def _look_at(self, claims: Sequence[Claim], stopped: list[Claim]) -> None:
        """Look at claims of one partition; add those to `stopped` whose bodies were asked to stop."""

        def act(found: tuple[Claim, tuple[Mapping[str, bytes], bool]]) -> None:
            claim, (entry, has_ended) = found
            # A cancelled run that holds a lock keeps its claim until the body returns (PROTOCOL 4.3): `cx` says so.
            # Where a whole workflow was cancelled, claims stand until it is cleared: its body need not wait for that.
            is_own = is_owned_by(entry.get("own", b"").decode(), claim.owner)
            is_gone = has_ended or not is_own or entry.get("cx") == b"1"
            # One whose time is over, and that holds a lock, keeps it too, and may be cancelled yet: it is looked after.
            watched = self._bodies.pop(claim, None) if is_gone else self._bodies.get(claim)
            if watched is not None and (is_gone or entry.get("to")):
                stopped.append(claim)
                watched.body.stop()

        for_each(act, zip(claims, self._entries(claims), strict=True))

    def _end_too_long(self, watched: _Watched, now: float) -> None:
        watched.ends_s = now + self._look_every_s
        if watched.body.take_too_long():
            watched.ends_s = None

    def _entries(self, claims: Sequence[Claim]) -> list[tuple[Mapping[str, bytes], bool]]:
        """Return the entry of each claim, and whether its workflow has ended."""
        queries = [Fields(ledger(claim.name), ("own", "cx", "to")) for claim in claims]
        answers = self._store.look_many(
            [(workflow_slot(c.workflow_id), (q, _STATUS)) for c, q in zip(claims, queries, strict=True)]
        )
        return [(answer[query], _has_ended(answer[_STATUS])) for answer, query in zip(answers, queries, strict=True)]

    def _run(self) -> None:
        while True:
            self._rest()
            try:
                self.look(older_than_s=self._look_every_s)
            except UnreachableError:
                continue
            except Exception:
                logger.exception("the watch over this process' claims failed; it goes on")

    def _rest(self) -> None:
        """Wait until a look is worth it: for ever as long as nothing runs here."""
        self._is_idle = True
        self._wake.clear()
        if not self._bodies:
            self._wake.wait()
        self._is_idle = False
        look_at = time.monotonic() + self._look_every_s
        while (pause_s := min(look_at, self._first_end()) - time.monotonic()) > 0:
            self._wake.wait(pause_s)
            self._wake.clear()

    def _first_end(self) -> float:
        ends = (watched.ends_s for watched in list(self._bodies.values()))
        return min((end for end in ends if end is not None), default=float("inf"))


@contextmanager
def _inside(outer: AbstractContextManager[None], inner: AbstractContextManager[Outcome]) -> Iterator[Outcome]:
    with outer, inner as outcome:
        yield outcome


def _has_ended(fields: Mapping[str, bytes]) -> bool:
    record = WORKFLOW_RECORD.decode(fields)
    return record.exists and not record.is_live
