"""Fused mode: control messages that follow from a decision are decided in the same EXEC, not sent (decision 011).

The decisions, their events and the ledger are those of the messages one by one. What can't be told before the EXEC (a
counter that others change, another slot) is decided right after it. Whatever is left when a turn is over, or when the
process dies, is owed in the ledger like any message.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import msgspec

from stabilize_celery.engine.following import Claimed, claim, follow, sole_message
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers import run_task
from stabilize_celery.engine.handlers.run_task import ClaimedTask, ClaimTerms
from stabilize_celery.engine.registry import HANDLERS
from stabilize_celery.engine.results import TooLate, position_of
from stabilize_celery.engine.steps import (
    Commit,
    Decision,
    Handling,
    Plan,
    Query,
    Read,
    Slot,
    Snapshot,
    always,
    drive,
    workflow_slot,
)
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import CancelTask, FinalizeStage, Message, RunTask
from stabilize_celery.runtime.at_hand import AtHand
from stabilize_celery.runtime.draft import Draft, UnfitError
from stabilize_celery.runtime.lanes import Urgency
from stabilize_celery.runtime.next_message import has_next, with_peek
from stabilize_celery.runtime.ports import queue_of
from stabilize_celery.runtime.prepared import Prepared, Publishing, prepare
from stabilize_celery.runtime.sessions import Sessions
from stabilize_celery.runtime.unit import Conflict, UnitOfWork, not_committed
from stabilize_celery.settings import Settings

__all__ = ["Fusion", "GoingOn", "Kept", "Seed", "Taken", "Unsure"]

logger = logging.getLogger("stabilize_celery")

MOST_DECISIONS = 32
"""Decisions in one EXEC at most: what it WATCHes others may change, and then all are decided anew."""
TURN_US = 100_000
"""How long one delivery goes on with control messages; what is left then is sent, for others to share (us)."""

_USER_CODE = (RunTask, CancelTask, FinalizeStage)
First = Callable[[int], Handling]


class Taken(msgspec.Struct, frozen=True):
    """A claim, with what its result will be decided on, and what of that is WATCHed."""

    claimed: ClaimedTask
    snapshot: Snapshot
    watched: Sequence[str]


class Unsure(msgspec.Struct, frozen=True):
    """A task whose claim may be written: nobody knows whether its EXEC was carried out. The same terms tell (4.1)."""

    message: RunTask
    terms: ClaimTerms


Kept: TypeAlias = Publishing | Taken | Unsure
"""A task that this process goes on with: to be claimed yet, or claimed in the EXEC that made it due."""


class GoingOn(Protocol):
    """Says with which task a process goes on, and how it is claimed."""

    def wants(self, one: Publishing) -> bool:
        """Whether this process can execute a task."""
        ...

    def terms(self, message: RunTask) -> ClaimTerms:
        """Return the terms on which this process claims it."""
        ...

    def reads(self, claimed: ClaimedTask) -> tuple[list[Query], list[str]]:
        """Return what to read for the result of a claim, and what of that to WATCH."""
        ...


class Seed(msgspec.Struct, frozen=True):
    """Sessions that stay open after the commit, for a task that is claimed in it; and what was read on them before.

    `snapshot`: the answers at the time of now, and in `watched` what of them is WATCHed; None: nothing was read.
    """

    sessions: Sessions
    snapshot: Snapshot | None = None
    watched: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Fusion:
    """Decides messages and what follows from them.

    Args:
        clock_us: A clock that only grows.
        is_code: Whether users' code answers a step: it may read what was decided before, so that must be written.

    """

    unit: UnitOfWork
    rules: Rules
    settings: Settings
    clock_us: Callable[[], int]
    is_code: Callable[[Plan], bool]

    def handle(
        self, message: Message, seed: Seed | None = None, going_on: GoingOn | None = None
    ) -> tuple[str, Kept | None]:
        """Handle one delivery of a control message and what follows. Returns a note for the log; the rest as `run`."""
        decision, kept = self.run(message, self._first(message), seed, going_on)
        return decision.note or "applied", kept

    def run(
        self, message: Message, first: First, seed: Seed | None = None, going_on: GoingOn | None = None
    ) -> tuple[Decision, Kept | None]:
        """Decide what `first` does about a delivery, and what follows, and send the tasks.

        Args:
            message: What was delivered.
            first: Decides about it, given the number of the try.
            seed: What it will ask for may have been read already. Without one, no task is claimed in a commit.
            going_on: Which task is to be returned, not sent; at most one is.

        Raises:
            UnreachableError: the state server is away; what is not decided stays owed.

        """
        ends_us = self.clock_us() + TURN_US
        decision, waiting, kept = self._committed(message, first, (), seed, going_on)
        agenda = deque(waiting)
        while agenda:
            if self.clock_us() > ends_us:
                self.send(agenda)
                break
            head = agenda.popleft()
            # What was taken must not wait for a task's body.
            still = going_on if kept is None and not has_next() else None
            try:
                _, waiting, found = self._committed(head.message, self._first(head.message), agenda, None, still)
            except UnreachableError:
                raise
            except Exception:
                # Its delivery will fail likewise, and be counted.
                logger.debug("%s is left to a delivery of its own", head.message.name, exc_info=True)
                self.send([head])
                continue
            agenda = deque(waiting)
            kept = kept or found
        return decision, kept

    def send(self, publishings: Iterable[Publishing]) -> None:
        """Publish messages."""
        self.unit.send(publishings)

    def _first(self, message: Message) -> First:
        return lambda attempt: _handling(message, self.rules, attempt)

    def _committed(
        self, message: Message, first: First, beside: Iterable[Publishing], seed: Seed | None, going_on: GoingOn | None
    ) -> tuple[Decision, list[Publishing], Kept | None]:
        """Decide, commit and send; return the first decision, control messages that wait now, and the task kept."""
        beside = list(beside)
        claimer = going_on if seed is not None else None
        unsure: Unsure | None = None
        for attempt in range(self.settings.commit_tries):
            if attempt:
                self.unit.rest(attempt)
            with ExitStack() as stack:
                sessions = self.unit.sessions(stack) if seed is None else seed.sessions
                fused = _Fused(self, message.workflow_id, sessions, [] if attempt else beside)
                if seed is not None and seed.snapshot is not None:
                    fused.draft.seed(seed.snapshot, seed.watched)
                try:
                    # After a conflict alone: what it WATCHes is then as little as can be.
                    decision = fused.decide(message, first(attempt), 1 if attempt else MOST_DECISIONS, claimer)
                    # Behind what came too late an `on_cancel` may be called; what stands beside comes after this.
                    is_last = not (isinstance(decision.call, TooLate) or (attempt and beside))
                    waiting, kept = fused.commit(going_on, may_claim=seed is not None, is_last=is_last)
                except Conflict:
                    # An answer that is lost is a conflict, too, and then nobody else executes what was claimed.
                    seed, unsure = None, unsure or fused.claiming
                    continue
            return decision, [*waiting, *(beside if attempt else ())], kept or unsure
        return not_committed(), beside, unsure


class _Fused:
    """One EXEC in the making."""

    def __init__(self, fusion: Fusion, workflow_id: str, sessions: Sessions, beside: Iterable[Publishing]) -> None:
        self._unit, self._rules, self._is_code = fusion.unit, fusion.rules, fusion.is_code
        self._clock_us = fusion.clock_us
        self._slot: Slot = workflow_slot(workflow_id)
        self._sessions = sessions
        self._session = sessions.of(self._slot)
        self._agenda = deque(beside)
        self._tasks: list[Publishing] = []
        """Messages before which users' code runs: they are for the broker, or for who goes on."""
        self._maybe: list[tuple[Publishing, slice]] = []
        """What the results of changes tell whether to send, and where those will stand."""
        self._workflow_id = workflow_id
        self._claim: Claimed | None = None
        """A claim that is in the draft, and the position of the change that tells its run's number."""
        self.claiming: Unsure | None = None
        """The task whose claim is in the draft, and on which terms."""
        self.draft = Draft(workflow_id, self._session, fusion.clock_us, fusion.unit.definitions)

    def decide(self, message: Message, first: Handling, most: int, going_on: GoingOn | None) -> Decision:
        """Take the decision of `first`, and of what follows, up to `most`, into the draft.

        `going_on`: claims a task with which the thread goes on.
        """
        decision = self._drive(first)
        if most > 1:
            self._follow(decision, message, most, going_on)
        self._take(decision, message.name)
        for number in range(1, most):
            if not self._agenda:
                break
            if number % _LOOK_AHEAD == 1 and len(self._agenda) > 1:
                self._look_ahead()
            following = self._agenda[0].message
            try:
                self._take(self._drive(_handling(following, self._rules, 0)), following.name)
            except (UnreachableError, Conflict):
                raise
            except UnfitError:
                break
            except Exception:  # noqa: BLE001 - it is decided alone later, and fails there
                break
            self._agenda.popleft()
        return decision

    def commit(
        self, going_on: GoingOn | None, *, may_claim: bool, is_last: bool
    ) -> tuple[list[Publishing], Kept | None]:
        """Write the draft and send what it owes to others; return control messages that wait now, and the task kept.

        Args:
            going_on: Which task is kept.
            may_claim: Claim the task that is kept in the same EXEC.
            is_last: Nothing is known that comes after it for the same delivery, but what it decides itself.

        Raises:
            Conflict: a watched key moved; nothing was written.

        """
        if self.draft.is_empty:
            return [], None
        claimed = self._claim[0] if self._claim is not None else None
        kept = self._kept(going_on) if going_on is not None and claimed is None else None
        if claimed is None and going_on and kept and may_claim:
            claimed = self._claimed(going_on, kept)
        prepared = self._unit.riding(Prepared(self.draft.written(), [one for one in self._tasks if one is not kept]))
        is_end = is_last and kept is None and claimed is None and not self._agenda
        results, taken = self._written(prepared, going_on, claimed, is_end=is_end)
        publishes, waiting = list(prepared.publishes), {one.message.name: one for one in self._agenda}
        for one, where in self._maybe:
            if not one.wanted(results[where]):
                continue
            if isinstance(one.message, _USER_CODE):
                publishes.append(one)
            else:
                waiting[one.message.name] = one
        self._unit.send(publishes)
        return list(waiting.values()), taken or kept

    def _written(
        self, prepared: Prepared, going_on: GoingOn | None, claimed: ClaimedTask | None, *, is_end: bool
    ) -> tuple[Sequence[int | None], Taken | None]:
        if claimed is None or going_on is None:
            results = self._sessions.commit(self._slot, prepared, is_last=is_end)
            if results is None:
                raise Conflict
            return results, None
        queries, watch = going_on.reads(claimed)
        transaction = with_peek(prepared.transaction, self._clock_us())
        answer = self._session.commit_and_read(transaction, queries, watch)
        if answer is None:
            raise Conflict
        started = self._claim[1] if self._claim is not None else self.draft.appended(position_of(claimed.message))
        number = claimed.run_number if started is None else answer[0][started] or 0
        return answer[0], Taken(msgspec.structs.replace(claimed, run_number=number), answer[1], watch)

    def _kept(self, going_on: GoingOn) -> Publishing | None:
        return next(filter(going_on.wants, self._tasks), None)

    def _claimed(self, going_on: GoingOn, kept: Publishing) -> ClaimedTask | None:
        """Take the claim of a task into the draft; None: it has to be claimed on its own."""
        if not isinstance(kept.message, RunTask):
            return None
        try:
            terms = going_on.terms(kept.message)
            decision = self._drive(run_task.handle(kept.message, self._rules, 0, terms))
            if not isinstance(decision.call, ClaimedTask):
                return None
            self._take(decision, kept.message.name)
        except UnfitError:
            return None
        self.claiming = Unsure(kept.message, terms)
        return decision.call

    def _follow(self, decision: Decision, message: Message, most: int, going_on: GoingOn | None) -> None:
        """Take what follows from the first decision into it, and the claim of the task that it comes to (020)."""
        hand = AtHand(self.draft, self._is_code, self._unit.plan)
        follow(decision, self._workflow_id, hand, most)
        owed = sole_message(decision) if going_on is not None else None
        if owed is None or going_on is None or not isinstance(owed.message, RunTask):
            return
        queue = queue_of(owed.message, self._unit.settings)
        if not going_on.wants(Publishing(owed.message, queue, always)):
            return
        handled = self.draft.handled(message.name)
        lane = Urgency.of(handled.record, handled.entry).lane(queue, owed.message, 0)
        placed = msgspec.structs.replace(owed, queue=lane)
        decision.owes[decision.owes.index(owed)] = placed
        terms = going_on.terms(owed.message)
        self._claim = claim(decision, placed, hand, self._rules, terms)
        self.claiming = Unsure(owed.message, terms) if self._claim is not None else None

    def _take(self, decision: Decision, own: str) -> None:
        if decision.is_empty and decision.keeps_entry:
            return
        prepared = prepare(decision, self.draft.now_us // 1000, own, self.draft.handled(own), self._unit.settings)
        where = self.draft.add(prepared.transaction)
        for one in prepared.publishes:
            if one.wanted is not always:
                results = self.draft.told(where)
                if results is None:
                    self._maybe.append((one, where))
                    continue
                if not one.wanted(results):
                    continue
            if isinstance(one.message, _USER_CODE):
                self._tasks.append(one)
            else:
                self._agenda.append(one)

    def _drive(self, handling: Handling) -> Decision:
        return drive(handling, self._answer)

    def _answer(self, step: Read | Commit | Plan) -> Any:
        if isinstance(step, Read) and step.slot is None:
            return self.draft.read(step.queries, step.watch)
        if isinstance(step, Plan) and has_next() and self._is_code(step):
            raise UnfitError("users' code, for which the message that was taken would have to wait")
        if self.draft.is_empty or (isinstance(step, Plan) and not self._is_code(step)):
            return self._unit.answer(step, self._slot, self._sessions)
        raise UnfitError(f"{step} while something is drafted")

    def _look_ahead(self) -> None:
        """Read at once what the next handlers begin with."""
        queries: list[Query] = []
        watch: list[str] = []
        for one in list(self._agenda)[:_LOOK_AHEAD]:
            handling = _handling(one.message, self._rules, 0)
            step = next(handling)
            handling.close()
            if isinstance(step, Read) and step.slot is None:
                queries += step.queries
                watch += step.watch
        with suppress(UnfitError):
            self.draft.read(list(dict.fromkeys(queries)), list(dict.fromkeys(watch)))


_LOOK_AHEAD = 16


def _handling(message: Message, rules: Rules, attempt: int) -> Handling:
    return HANDLERS[type(message)](message, rules, attempt)
