"""The unit of work: read, decide, commit, retry, publish (PROTOCOL 4)."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from random import Random
from typing import Any

import msgspec

from stabilize_celery.engine.steps import Commit, Decision, Handling, Plan, Read, Slot, Snapshot, always, drive
from stabilize_celery.errors import QueueError, UnreachableError
from stabilize_celery.runtime.definitions import Definitions
from stabilize_celery.runtime.next_message import current_next
from stabilize_celery.runtime.observing import Observer, tell_of_commit, tell_of_read
from stabilize_celery.runtime.ports import Outgoing, Publisher, RidingPublisher
from stabilize_celery.runtime.prepared import Handled, Prepared, Publishing, outgoing_of, prepare
from stabilize_celery.runtime.sessions import Sessions
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store, Transaction

__all__ = ["Conflict", "NotCommitted", "UnitOfWork", "WorkDone", "decided_on", "not_committed"]

logger = logging.getLogger("stabilize_celery")


class Conflict(Exception):  # noqa: N818 - a signal to whoever loops over the tries, never an error that is seen
    """A watched key moved, and nothing was written: decide again."""


class NotCommitted(msgspec.Struct, frozen=True):
    """Stands in `Decision.call` where nothing was written: others' commits came first, or the server answered none."""


def not_committed() -> Decision:
    """Return what stands for a decision past the last try: nothing was written, the message stays owed."""
    return Decision(keeps_entry=True, note="lost every commit to other workers", call=NotCommitted())


class WorkDone(msgspec.Struct, frozen=True):
    """What became of one unit of work."""

    decision: Decision
    tries: int = 1

    @property
    def is_applied(self) -> bool:
        """Whether it was written; False: other workers won every try."""
        return not isinstance(self.decision.call, NotCommitted)


class UnitOfWork:
    """Runs handlers against a store."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        settings: Settings,
        planner: Callable[[Plan], dict[str, Any]],
        pause_ms: Callable[[float], None],
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self.observer = observer
        self.definitions = Definitions()
        self._publisher = publisher
        self._rider = publisher if isinstance(publisher, RidingPublisher) else None
        self.settings = settings
        self.plan = planner
        """Answers what stage builders are asked, and how long tasks may take."""
        self._pause_ms = pause_ms
        self._random = Random()  # noqa: S311 - jitter

    @property
    def store(self) -> Store:
        """Where it reads and commits."""
        return self._store

    def run(
        self, slot: Slot, handler: Callable[[int], Handling], own: str | None = None, *, is_last: bool = False
    ) -> WorkDone:
        """Run a handler to its commit. `own`: the ledger name it handles; None for an outside event.

        `is_last`: nothing is done after it for the same delivery (see `Sessions.commit_last`).
        """
        for attempt in range(self.settings.commit_tries):
            if attempt:
                self.rest(attempt)
            with ExitStack() as stack:
                sessions = self.sessions(stack)
                try:
                    decision = self.drive(handler(attempt), slot, sessions)
                    self.commit(decision, slot, sessions, own, is_last=is_last)
                except Conflict:
                    continue
                return WorkDone(decision, tries=attempt + 1)
        return WorkDone(not_committed(), tries=self.settings.commit_tries)

    def run_together(self, slots: Sequence[Slot], handlers: Sequence[Callable[[], Handling]]) -> list[WorkDone]:
        """Run handlers that read the same, and once, each on its slot: what one EXEC can span is one unit of work.

        Where others have been faster, or more has to be read, each is run by itself.
        """
        own = dict(zip(slots, handlers, strict=True))
        done: dict[Slot, WorkDone] = {}
        for group in self._store.groups(slots):
            found = self._together(group, [own[slot] for slot in group]) if len(group) > 1 else None
            if found is None:
                found = [self.run(slot, lambda _, handler=own[slot]: handler()) for slot in group]  # type: ignore[misc]
            done |= zip(group, found, strict=True)
        return [done[slot] for slot in slots]

    def _together(self, slots: Sequence[Slot], handlers: Sequence[Callable[[], Handling]]) -> list[WorkDone] | None:
        handlings = [handler() for handler in handlers]
        first, *_ = [next(handling) for handling in handlings]
        assert isinstance(first, Read)  # noqa: S101 - narrows for the type checker
        with self._store.group(slots) as session:
            snapshots = session.read(first.queries, first.watch)
            if snapshots is None:
                return None
            found = [decided_on(*pair) for pair in zip(handlings, snapshots, strict=True)]
            decisions = [decision for decision in found if decision is not None]
            if len(decisions) < len(slots):
                return None
            prepared = [
                self.riding(prepare(decision, snapshot.now_ms, None, Handled(), self.settings))
                for decision, snapshot in zip(decisions, snapshots, strict=True)
            ]
            results = session.commit([one.transaction for one in prepared])
        for slot, snapshot, one in zip(slots, snapshots, prepared, strict=True):
            if self.observer is not None:
                tell_of_read(self.observer, slot, snapshot)
                tell_of_commit(self.observer, slot, one.transaction, is_written=results is not None)
        if results is None:
            return None
        for one, own in zip(prepared, results, strict=True):
            self.publish(one.to_publish(own))
        return [WorkDone(decision) for decision in decisions]

    def sessions(self, stack: ExitStack) -> Sessions:
        """Return the sessions of one unit of work, to be closed with `stack`."""
        return Sessions(self._store, stack, self.observer, self.definitions)

    def pause(self, ms: float) -> None:
        """Wait for so long."""
        self._pause_ms(ms)

    def rest(self, attempt: int) -> None:
        """Wait before try number `attempt`: longer each time, and not as long as others do."""
        self._pause_ms(self._random.uniform(2, 10 * 2 ** min(attempt, 3)))

    def drive(self, handling: Handling, slot: Slot, sessions: Sessions) -> Decision:
        """Run a handler to its decision. Raises Conflict if a commit on its way is lost."""
        return drive(handling, lambda step: self.answer(step, slot, sessions))

    def answer(self, step: Read | Commit | Plan, slot: Slot, sessions: Sessions) -> Any:
        """Answer one step of a handler. Raises Conflict if a commit on its way is lost."""
        if isinstance(step, Read):
            if step.slot is None:
                return sessions.read(slot, step.queries, step.watch)
            return sessions.relays.read(step.slot, step.queries, step.watch)
        if isinstance(step, Plan):
            return self.plan(step)
        self.commit(step.decision, step.slot, sessions.relays, None)
        return None

    def commit(
        self, decision: Decision, slot: Slot, sessions: Sessions, own: str | None, *, is_last: bool = False
    ) -> None:
        """Write a decision and publish what it owes; `is_last` as in `run`. Raises Conflict if a watched key moved."""
        if decision.is_empty and (decision.keeps_entry or own is None):
            return
        handled = sessions.handled(slot, own)
        prepared = self.riding(prepare(decision, sessions.now_ms(slot), own, handled, self.settings))
        results = sessions.commit(slot, prepared, is_last=is_last)
        if results is None:
            raise Conflict
        due = prepared.due(results)
        if not (due and is_last and self._send_and_take(due, slot, sessions)):
            self.send(due)

    def _send_and_take(self, due: Sequence[Publishing], slot: Slot, sessions: Sessions) -> bool:
        """Send what a commit's results ask for in an EXEC that takes the next message; False: it is to be published."""
        following = current_next()
        if self._rider is None or following is None or following.taken is not None:
            return False
        posts = self._rider.riding(outgoing_of(due))
        if posts is None:
            return False
        try:
            return sessions.commit_last(slot, Transaction(posts=posts), [one.message for one in due]) is not None
        except UnreachableError as error:
            # It is owed: the commit before was written.
            logger.warning("%s", error)
        return True

    def riding(self, prepared: Prepared) -> Prepared:
        """Let the commit itself send what it sends in any case, where that can be."""
        if self._rider is None:
            return prepared
        sure = [one for one in prepared.publishes if one.wanted is always]
        posts = self._rider.riding(outgoing_of(sure)) if sure else None
        if posts is None:
            return prepared
        rest = [one for one in prepared.publishes if one.wanted is not always]
        riding = [one.message for one in sure]
        return Prepared(msgspec.structs.replace(prepared.transaction, posts=posts), rest, riding)

    def send(self, publishings: Iterable[Publishing]) -> None:
        """Publish messages that are owed."""
        self.publish(outgoing_of(publishings))

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Publish what a commit owes; a broker that is away is the keeper's business."""
        if not batch:
            return
        try:
            self._publisher.publish(batch)
        except QueueError as error:
            logger.warning("%s", error)


def decided_on(handling: Handling, snapshot: Snapshot) -> Decision | None:
    """Return what a handler, which has asked for its first read, decides on the answer; None: it wants more."""
    try:
        handling.send(snapshot)
    except StopIteration as stop:
        decision: Decision = stop.value
        return decision
    handling.close()
    return None
