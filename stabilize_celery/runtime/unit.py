"""The unit of work: read, decide, commit, retry, publish (PROTOCOL 4). The only place that loops over conflicts."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from random import Random
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.ledger import arguments_of
from stabilize_celery.engine.state import ENTRY, WORKFLOW_RECORD, Entry, WorkflowRecord
from stabilize_celery.engine.steps import (
    Change,
    Commit,
    Decision,
    Event,
    Handling,
    Hash,
    Owed,
    Plan,
    Query,
    Read,
    SetFields,
    Slot,
    Snapshot,
    Value,
    always,
    drive,
)
from stabilize_celery.errors import QueueError, UnreachableError
from stabilize_celery.models.messages import LEDGER_VERSION, CompleteStage, Message, RunTask, StartStage
from stabilize_celery.runtime.definitions import Definitions, KnowingSession
from stabilize_celery.runtime.lanes import Urgency
from stabilize_celery.runtime.next_message import HeadStart, current_next, head_start_on
from stabilize_celery.runtime.observing import ObservedSession, Observer, tell_of_commit
from stabilize_celery.runtime.ports import Outgoing, Publisher, RidingPublisher, outgoing, queue_of
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Drop, Due, LedgerChange, Put, Session, Store, Transaction, Undue

__all__ = [
    "Conflict",
    "Handled",
    "NotCommitted",
    "Prepared",
    "Publishing",
    "Sessions",
    "UnitOfWork",
    "WorkDone",
    "decided_on",
    "event_fields",
    "not_committed",
]

logger = logging.getLogger("stabilize_celery")

_RECORD = Hash(places.WORKFLOW)

Results = Sequence[int | None]

_OWED_ONCE = (StartStage, RunTask, CompleteStage)
"""What is owed under a name that nothing was owed under before, or nothing is any more: it is no dead letter."""


class Conflict(Exception):  # noqa: N818 - a signal between this module's own functions
    """A watched key moved: decide again."""


class NotCommitted(msgspec.Struct, frozen=True):
    """Said (as `Decision.call`) of what others' commits kept from being written, or a server that answers none."""


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


class Handled(msgspec.Struct, frozen=True):
    """The message that is decided about, as far as was read: its workflow's record and its entry."""

    record: WorkflowRecord = WorkflowRecord()
    entry: Entry = Entry()


class Publishing(msgspec.Struct, frozen=True):
    """A message that a decision owes now; `wanted` tells from the results of its changes whether to send it."""

    message: Message
    queue: str
    wanted: Callable[[Results], bool]


class Prepared(msgspec.Struct, frozen=True):
    """A decision as a transaction, what to publish after it, and what the transaction itself sends, in order."""

    transaction: Transaction
    publishes: Sequence[Publishing]
    riding: Sequence[Message] = ()

    def due(self, results: Results) -> list[Publishing]:
        """Return the messages that the results ask for."""
        return [one for one in self.publishes if one.wanted(results)]

    def to_publish(self, results: Results) -> list[Outgoing]:
        """Return the same as they are published."""
        return _outgoing(self.due(results))


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
                self.riding(self.prepare(decision, snapshot.now_ms, None, Handled()))
                for decision, snapshot in zip(decisions, snapshots, strict=True)
            ]
            results = session.commit([one.transaction for one in prepared])
        for slot, snapshot, one in zip(slots, snapshots, prepared, strict=True):
            if self.observer is not None:
                self.observer.saw(slot, snapshot)
                tell_of_commit(self.observer, slot, one.transaction, is_written=results is not None)
        if results is None:
            return None
        for one, own in zip(prepared, results, strict=True):
            self.publish(one.to_publish(own))
        return [WorkDone(decision) for decision in decisions]

    def sessions(self, stack: ExitStack) -> "Sessions":
        """Return the sessions of one unit of work, to be closed with `stack`."""
        return Sessions(self._store, stack, self.observer, self.definitions)

    def pause(self, ms: float) -> None:
        """Wait for so long."""
        self._pause_ms(ms)

    def rest(self, attempt: int) -> None:
        """Wait before try number `attempt`: longer each time, and not as long as others do."""
        self._pause_ms(self._random.uniform(2, 10 * 2 ** min(attempt, 3)))

    def drive(self, handling: Handling, slot: Slot, sessions: "Sessions") -> Decision:
        """Run a handler to its decision. Raises Conflict if a commit on its way is lost."""
        return drive(handling, lambda step: self.answer(step, slot, sessions))

    def answer(self, step: Read | Commit | Plan, slot: Slot, sessions: "Sessions") -> Any:
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
        self, decision: Decision, slot: Slot, sessions: "Sessions", own: str | None, *, is_last: bool = False
    ) -> None:
        """Write a decision and publish what it owes; `is_last` as in `run`. Raises Conflict if a watched key moved."""
        if decision.is_empty and (decision.keeps_entry or own is None):
            return
        handled = sessions.handled(slot, own)
        prepared = self.riding(self.prepare(decision, sessions.now_ms(slot), own, handled))
        results = sessions.commit(slot, prepared, is_last=is_last)
        if results is None:
            raise Conflict
        due = prepared.due(results)
        if not (due and is_last and self._send_and_take(due, slot, sessions)):
            self.send(due)

    def _send_and_take(self, due: Sequence[Publishing], slot: Slot, sessions: "Sessions") -> bool:
        """Send what a commit's results ask for in an EXEC that takes the next message; False: it is to be published."""
        following = current_next()
        if self._rider is None or following is None or following.taken is not None:
            return False
        posts = self._rider.riding(_outgoing(due))
        if posts is None:
            return False
        try:
            sessions.commit_last(slot, Transaction(posts=posts), [one.message for one in due])
        except UnreachableError as error:
            # It is owed: the commit before was written.
            logger.warning("%s", error)
        return True

    def riding(self, prepared: Prepared) -> Prepared:
        """Let the commit itself send what it sends in any case, where that can be."""
        if self._rider is None:
            return prepared
        sure = [one for one in prepared.publishes if one.wanted is always]
        posts = self._rider.riding(_outgoing(sure)) if sure else None
        if posts is None:
            return prepared
        rest = [one for one in prepared.publishes if one.wanted is not always]
        riding = [one.message for one in sure]
        return Prepared(msgspec.structs.replace(prepared.transaction, posts=posts), rest, riding)

    def prepare(self, decision: Decision, now_ms: int, own: str | None, handled: Handled) -> Prepared:
        """Return the transaction that a decision means; `own` is forgotten unless it keeps its entry."""
        urgency = Urgency.of(handled.record, handled.entry)
        if decision.priority is not None:
            urgency = Urgency(decision.priority)
        # What has failed so often that it was set aside says so.
        is_well = handled.entry.exists and not handled.entry.error
        ledger: list[LedgerChange] = [Drop(name) for name in decision.forgets if name != own]
        if own is not None and (own in decision.forgets or not decision.keeps_entry):
            ledger.append(Drop(own, is_well))
        changes: list[Change] = list(decision.changes)
        publishes: list[Publishing] = []
        defers = decision.defers
        for owed in decision.owes:
            queue = owed.queue or urgency.lane(queue_of(owed.message, self.settings), owed.message, len(publishes))
            looked_at_ms = defers.get(owed.message.name)
            ledger.append(self._entry(owed, queue, now_ms, looked_at_ms))
            if owed.not_before_ms <= now_ms and looked_at_ms is None:
                publishes.append(Publishing(owed.message, queue, owed.publish))
        for message in decision.nudges:
            queue = urgency.lane(queue_of(message, self.settings), message, len(publishes))
            changes.append(SetFields(places.ledger(message.name), ENTRY.encode(pub=now_ms, nb=0, q=queue)))
            ledger.append(Due(message.name, now_ms + self.settings.republish_ms))
            publishes.append(Publishing(message, queue, always))
        if defers:
            placed = {message.name for message in (*decision.nudges, *(owed.message for owed in decision.owes))}
            ledger += [
                Due(name, at_ms, is_well=is_well and name == own)
                for name, at_ms in defers.items()
                if name not in placed
            ]
        ledger += [Undue(name) for name in decision.parks]
        events = [event_fields(event, now_ms) for event in decision.events]
        return Prepared(Transaction(changes, ledger, events), publishes)

    def _entry(self, owed: Owed, queue: str, now_ms: int, looked_at_ms: int | None) -> Put:
        """Return the entry of an owed message; `looked_at_ms`: its lease, if who owes it has claimed it at once."""
        is_later = owed.not_before_ms > now_ms
        fields: dict[str, Value] = {
            "t": type(owed.message).__name__,
            "v": LEDGER_VERSION,
            "a": arguments_of(owed.message),
            "nb": owed.not_before_ms if is_later else 0,
            "pub": now_ms if owed.publish is always and not is_later else 0,
            "q": queue,
            **owed.fields,
        }
        due_ms = looked_at_ms or (owed.not_before_ms if is_later else now_ms + self.settings.republish_ms)
        message = owed.message
        return Put(message.name, fields, due_ms, keep_earlier=message.is_merge, is_well=isinstance(message, _OWED_ONCE))

    def send(self, publishings: Iterable[Publishing]) -> None:
        """Publish messages that are owed."""
        self.publish(_outgoing(publishings))

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Publish what a commit owes; a broker that is away is the keeper's business."""
        if not batch:
            return
        try:
            self._publisher.publish(batch)
        except QueueError as error:
            logger.warning("%s", error)


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
        record = snapshot.record(places.WORKFLOW, WORKFLOW_RECORD.decode)
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


def _outgoing(publishings: Iterable[Publishing]) -> list[Outgoing]:
    return [outgoing(one.message, one.queue) for one in publishings]


def decided_on(handling: Handling, snapshot: Snapshot) -> Decision | None:
    """Return what a handler, which has asked for its first read, decides on the answer; None: it wants more."""
    try:
        handling.send(snapshot)
    except StopIteration as stop:
        decision: Decision = stop.value
        return decision
    handling.close()
    return None


def event_fields(event: Event, now_ms: int) -> dict[str, Value]:
    """Return the stream fields of an event: kind, stage, time, data (msgpack)."""
    return {"kind": event.kind, "ref": event.ref_id, "at": now_ms, "data": pack(event.data)}
