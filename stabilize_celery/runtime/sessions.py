"""The sessions of one unit of work: one per slot, with what it watches."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Hash, Query, Slot, Snapshot
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.definitions import Definitions, KnowingSession
from stabilize_celery.runtime.next_message import HeadStart, current_next, head_start_on
from stabilize_celery.runtime.observing import ObservedSession, Observer, tell_of_commit
from stabilize_celery.runtime.prepared import Handled, Prepared
from stabilize_celery.store.contract import Session, Store, Transaction

__all__ = ["Sessions"]

_RECORD = Hash(places.WORKFLOW)


class Sessions:
    """The sessions of one unit of work: one per slot, with what it watches."""

    def __init__(
        self,
        store: Store,
        stack: ExitStack,
        observer: Observer | None = None,
        definitions: Definitions | None = None,
    ) -> None:
        self._store = store
        self._stack = stack
        self._observer = observer
        self._definitions = definitions
        self._open: dict[Slot, Session] = {}
        self._plain: dict[Slot, Session] = {}
        """The same sessions, without the observer."""
        self._entered: dict[Slot, AbstractContextManager[Session]] = {}
        """What they belong to; what went over to the next message is not here any more."""
        self._now_ms: dict[Slot, int] = {}
        self._openings: dict[Slot, Snapshot] = {}
        self._relays: Sessions | None = None

    @property
    def relays(self) -> "Sessions":
        """Sessions for commits on the way, also in the own slot: an EXEC there must not end what is WATCHed here."""
        if self._relays is None:
            self._relays = Sessions(self._store, self._stack, self._observer, self._definitions)
        return self._relays

    def read(self, slot: Slot, queries: Sequence[Query], watch: Sequence[str]) -> Snapshot:
        """Read on a slot's session, and remember the time of its server."""
        snapshot = self.of(slot).read(queries, watch)
        self.saw(slot, snapshot)
        return snapshot

    def saw(self, slot: Slot, snapshot: Snapshot) -> None:
        """Remember the time of a slot's server, and how urgent its workflow is."""
        self._now_ms[slot] = snapshot.now_ms
        if snapshot.get(_RECORD, None) is not None:
            self._openings[slot] = snapshot

    def now_ms(self, slot: Slot) -> int:
        """Return the time of the latest read of a slot."""
        return self._now_ms[slot]

    def handled(self, slot: Slot, own: str | None) -> Handled:
        """Return what was read of the message `own`; None: it is an outside event."""
        snapshot = self._openings.get(slot)
        if snapshot is None:
            return Handled()
        record = workflow_of(snapshot)
        key = None if own is None else places.ledger(own)
        if key is None or snapshot.get(Hash(key), None) is None:
            return Handled(record)
        return Handled(record, snapshot.record(key, ENTRY.decode))

    def of(self, slot: Slot) -> Session:
        """Return the session of a slot, opened when first asked for."""
        found = self._open.get(slot)
        if found is None:
            found = self._opened(slot)
            if self._observer is not None:
                found = ObservedSession(found, slot, self._observer)
            self._open[slot] = found
        return found

    def _opened(self, slot: Slot) -> Session:
        self._stack.callback(self._leave, slot)
        if (begun := head_start_on(slot)) is not None:
            self._entered[slot], self._plain[slot] = begun.opened, begun.session
            return begun
        opened = self._store.session(slot)
        found = opened.__enter__()
        if self._definitions is not None and slot.kind == "workflow":
            found = KnowingSession(found, slot.name, self._definitions)
        self._entered[slot], self._plain[slot] = opened, found
        return found

    def _leave(self, slot: Slot) -> None:
        opened = self._entered.pop(slot, None)
        if opened is not None:
            opened.__exit__(None, None, None)

    def commit(self, slot: Slot, prepared: Prepared, *, is_last: bool) -> list[int | None] | None:
        """Commit on a slot; `is_last`: as in `commit_last`."""
        if is_last:
            return self.commit_last(slot, prepared.transaction, prepared.riding)
        return self.of(slot).commit(prepared.transaction)

    def commit_last(self, slot: Slot, transaction: Transaction, sent: Sequence[Message]) -> list[int | None] | None:
        """Commit what ends a delivery: it takes the next message if this thread wants one (decision 015).

        If that is likely to be one of `sent`, what its handling begins with is read behind it, and the session goes
        over to that handling (decision 017).

        Args:
            slot: Where it is committed.
            transaction: What is written.
            sent: The messages that it sends, in order.

        """
        following = current_next()
        take = following.wanted() if following is not None else None
        if following is None or take is None:
            return self.of(slot).commit(transaction)
        transaction = msgspec.structs.replace(transaction, take=take)
        expected = following.expected(slot, sent)
        if expected is None:
            return self.of(slot).commit(transaction)
        message, read = expected
        self.of(slot)  # the one that was open may have gone over to a message that nobody took
        session = self._plain[slot]
        answer = session.commit_and_read(transaction, read.queries, read.watch)
        if self._observer is not None:
            # What was read is seen where it is used: as the next delivery's.
            tell_of_commit(self._observer, slot, transaction, is_written=answer is not None)
        if answer is None:
            return None
        del self._open[slot]
        following.begin(HeadStart(message, session, self._entered.pop(slot), read, answer[1]))
        return answer[0]
