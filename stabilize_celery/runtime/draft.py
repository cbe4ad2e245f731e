"""What several decisions about one workflow will write, in one EXEC: each sees what those before it have decided."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import Encoded
from stabilize_celery.engine.handler import stage_fields
from stabilize_celery.engine.state import ENTRY, Entry, WorkflowRecord
from stabilize_celery.engine.steps import (
    Add,
    Append,
    Change,
    Delete,
    Fields,
    Hash,
    Increment,
    Index,
    Look,
    Members,
    Position,
    Query,
    Remove,
    SetFields,
    Snapshot,
    Value,
)
from stabilize_celery.runtime.definitions import Definitions, Parts
from stabilize_celery.runtime.drafted_hash import DraftedHash
from stabilize_celery.runtime.prepared import Handled
from stabilize_celery.store.contract import Drop, Due, LedgerChange, Put, Session, Transaction

__all__ = ["Draft", "UnfitError"]


class UnfitError(Exception):
    """What is asked can't be told before the draft is written: commit it, and decide this on its own."""


class Draft:
    """One slot as it will be when the draft is written. A `Session` for reads; not shared between threads.

    What was read under WATCH stays WATCHed, so all decisions hold when the EXEC is applied.

    Args:
        workflow_id: Whose slot it is.
        session: Reads, on the workflow's slot.
        clock_us: A clock that only grows, to tell how old the server's time is by now.
        definitions: What need not be read.

    """

    def __init__(
        self, workflow_id: str, session: Session, clock_us: Callable[[], int], definitions: Definitions
    ) -> None:
        self._workflow_id = workflow_id
        self._session = session
        self._clock_us = clock_us
        self._definitions = definitions
        self._seen_us = self._at_us = 0
        self.now_us = 0
        """The server's time, carried on from the last reply to the last read by the own clock."""
        self._watched: set[str] = set()
        self._hashes: dict[str, Mapping[str, bytes]] = {}
        """Whole hashes, as they will be. A change makes a new one: those given away stay as they were."""
        self._records: dict[str, Any] = {}
        """What is decoded of them, by key, for those who read: a change of fields of a record changes it, too."""
        self._answers: dict[Query, object] = {}
        """What else was read, without what this draft changes."""
        self._parts: Parts = {}
        """What is known of the workflow's definition, once the workflow was read."""
        self._lone: Transaction | None = None
        """The first decision's writes: nothing is laid over anything until somebody asks."""
        self._pending: dict[str, list[Change]] = defaultdict(list)
        """Changes per key, to be laid over what is read of it."""
        self._changes: list[Change] = []
        self._results: list[int | None] = []
        """Of each change, as far as it can be told before the EXEC."""
        self._untold: set[int] = set()
        """Which of them have a result that only the EXEC tells."""
        self._ledger: dict[str, list[LedgerChange]] = {}
        """By name; nothing for an entry that came and went."""
        self._unwritten: set[str] = set()
        """Names of entries that this draft makes: there is none on the server, and nobody else makes one."""
        self._events: list[Mapping[str, Value]] = []

    def handled(self, own: str) -> Handled:
        """Return what was read of the message `own`."""
        record, entry = self._records.get(places.WORKFLOW), self._records.get(places.ledger(own))
        return Handled(WorkflowRecord() if record is None else record, Entry() if entry is None else entry)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self._lone is None and not (self._changes or self._ledger or self._events)

    def seed(self, snapshot: Snapshot, watched: Sequence[str]) -> None:
        """Know what the session has read already under WATCH."""
        self._seen_us, self._at_us = snapshot.now_us, self._clock_us()
        self._watched.update(watched)
        for query, answer in snapshot.answers():
            if type(query) is Hash:
                self._hashes[query.key] = self._laid_over(query.key, answer)
                self._records.pop(query.key, None)
            else:
                self._answers[query] = answer
        if not self._parts and (digest := self._hashes.get(places.WORKFLOW, _NOTHING).get("digest")):
            self._parts = self._definitions.of(self._workflow_id, digest)

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        """Answer as if the draft were written; one round trip, or none if all is known.

        Where more is WATCHed, all that is asked for and not WATCHed is read anew: what was read before tells nothing of
        what has happened until then.

        Raises:
            UnfitError: the draft changes something that is no hash, and is asked about it.

        """
        self._lay_lone_over()
        unread = [key for key in watch if key not in self._watched]
        stale = {query.key for query in queries}.difference(self._watched).union(unread) if unread else _NONE
        answers = {query: self._answer(query, stale) for query in queries}
        missing = [query for query, answer in answers.items() if answer is _UNREAD]
        if missing or unread or not self._seen_us:
            found = self._session.read(missing, unread)
            self._forget(stale)
            self.seed(found, unread)
            for query in missing:
                answers[query] = self._answer(query, frozenset())
        self.now_us = self._seen_us + self._clock_us() - self._at_us
        return Snapshot(answers, self.now_us, self._records)

    def add(self, transaction: Transaction) -> slice:
        """Take a decision's writes into the draft; return where its changes will have their results.

        Raises:
            UnfitError: it changes an entry that the draft forgets or moves; nothing was taken.

        """
        if self.is_empty:
            self._lone = transaction
            return slice(0, len(transaction.changes))
        self._lay_lone_over()
        return self._added(transaction)

    def _lay_lone_over(self) -> None:
        if self._lone is not None:
            lone, self._lone = self._lone, None
            self._added(lone)

    def _added(self, transaction: Transaction) -> slice:
        joining = self._joining(transaction.changes) if self._ledger else {}
        first = len(self._changes)
        for at, change in enumerate(transaction.changes):
            self._changes.append(self._joined(change, joining[at]) if at in joining else change)
            self._results.append(None)
            if isinstance(change, SetFields):
                self._lay_over(change.key, change)
            elif isinstance(change, Delete):
                for key in change.keys:
                    self._lay_over(key, change)
            elif not isinstance(change, Index):
                self._lay_over(change.key, change)
                if isinstance(change, Increment):
                    self._results[-1] = self._counted(change.key, change.field)
                elif isinstance(change, Append):
                    self._untold.add(len(self._results) - 1)
        for entry in transaction.ledger:
            self._owe(entry)
        self._events += transaction.events
        return slice(first, len(self._changes))

    def told(self, where: slice) -> Sequence[int | None] | None:
        """Return the results of changes that were taken; None: only the EXEC tells them all."""
        if self._lone is not None and any(map(self._is_untold, self._lone.changes)):
            return None
        self._lay_lone_over()
        return None if self._untold.intersection(range(where.start, where.stop)) else self._results[where]

    def _is_untold(self, change: Change) -> bool:
        """Whether the result of a change that is not laid over anything yet may be the server's to tell."""
        return type(change) is Append or (type(change) is Increment and change.key not in self._watched)

    def written(self) -> Transaction:
        """Return all of it as one transaction. The results of its changes are those of the decisions' in order."""
        if self._lone is not None:
            return self._lone
        ledger = [change for changes in self._ledger.values() for change in changes]
        ledger.sort(key=_kind_of)
        return Transaction(self._changes, ledger, self._events)

    def appended(self, query: Position) -> int | None:
        """Return which change of the draft appends the item asked for: its result is the position, from 1."""
        self._lay_lone_over()
        for change in self._pending.get(query.key, ()):
            if type(change) is Append and change.item == query.item:
                return next(at for at, one in enumerate(self._changes) if one is change)
        return None

    # -- at hand (engine/following.py) ---------------------------------------------------------------------------------

    def record(self, key: str) -> Any:
        """Return what a WATCHed hash was read as, if it was, as it will be."""
        self._lay_lone_over()
        return self._records.get(key) if key in self._watched else None

    def stage(self, ref_id: str) -> Mapping[str, bytes] | None:
        """Return the fields with a stage's plan and context, if they are known."""
        self._lay_lone_over()
        answer = self._answer(stage_fields(ref_id), _NONE)
        return None if answer is _UNREAD or not answer else answer

    # -- reading -------------------------------------------------------------------------------------------------------

    def _answer(self, query: Query, stale: AbstractSet[str]) -> Any:
        """Return what is known to answer a query as if the draft were written; `_UNREAD`: it has to be read."""
        key = query.key
        whole = self._hashes.get(key) if key not in stale else None
        if type(query) is Hash:
            return _UNREAD if whole is None else whole
        if type(query) is not Fields:
            return self._other(query, stale)
        if whole is not None:
            return _of(whole, query.fields)
        told = self._parts[query] if query in self._parts else self._known(query, stale)
        return _of(self._laid_over(key, told), query.fields) if key in self._pending and told is not _UNREAD else told

    def _other(self, query: Query, stale: AbstractSet[str]) -> Any:
        """Answer a query for what is no hash."""
        if type(query) is Look:
            if self._ledger:
                raise UnfitError(f"{query} while entries are drafted")
            return _UNREAD
        if type(query) is Position and self.appended(query) is not None:
            return None  # EXEC tells: see `appended`
        told = self._known(query, stale)
        if query.key not in self._pending:
            return told
        if type(query) is not Members:
            raise UnfitError(f"{query} of a key that the draft changes")
        return told if told is _UNREAD else _gathered(told, self._pending[query.key])

    def _known(self, query: Query, stale: AbstractSet[str]) -> Any:
        return _UNREAD if query.key in stale else self._answers.get(query, _UNREAD)

    def _laid_over(self, key: str, told: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return what was read of a hash as it will be."""
        for change in self._pending.get(key, ()):
            told = _applied(change, told)
        return told

    def _forget(self, stale: AbstractSet[str]) -> None:
        """Take nothing for true that was read of these keys before now."""
        for key in stale:
            self._hashes.pop(key, None)
            self._records.pop(key, None)
        self._answers = {query: answer for query, answer in self._answers.items() if query.key not in stale}

    # -- drafting ------------------------------------------------------------------------------------------------------

    def _joining(self, changes: Sequence[Change]) -> Mapping[int, list[LedgerChange]]:
        """Return by position which changes become part of an entry that was drafted, and what was drafted of it."""
        found: dict[int, list[LedgerChange]] = {}
        for at, change in enumerate(changes):
            key = getattr(change, "key", "")
            drafted = self._ledger.get(key[len(_ENTRY) :]) if key.startswith(_ENTRY) else None
            if drafted is None:
                continue
            if not (drafted and type(drafted[-1]) is Put and type(change) is SetFields):
                raise UnfitError(f"{change} of an entry that the draft forgets or moves")
            found[at] = drafted
        return found

    def _joined(self, change: Any, drafted: list[LedgerChange]) -> Change:
        """Make a change part of the entry that was drafted last; return what is left of it: its place."""
        put: Any = drafted[-1]
        drafted[-1] = Put(put.name, {**put.fields, **change.fields}, put.due_ms, put.keep_earlier, put.is_well)
        return SetFields(change.key, {})

    def _lay_over(self, key: str, change: Change) -> None:
        known = self._hashes.get(key)
        if known is None and type(change) is SetFields and "created_us" in change.fields and key.startswith(_RUN):
            # A birth. Its name comes from what is WATCHed here, and is used once: nobody else has written it, or will.
            known = _NOTHING
            self._watched.add(key)
        if known is not None:
            self._hashes[key] = _applied(change, known)
            self._note(key, known, change)
        self._pending[key].append(change)

    def _note(self, key: str, known: Mapping[str, bytes], change: Change) -> None:
        """Keep the record of a hash, if there is one, as the change makes it."""
        record = self._records.pop(key, None)
        if type(change) is not SetFields or type(fields := change.fields) is not Encoded:
            return
        if record is not None or known is _NOTHING:
            self._records[key] = fields.codec.applied(fields, record)

    def _counted(self, key: str, field: str) -> int | None:
        """Return what a counter that was changed last will be, if nobody else can have changed it."""
        if key in self._watched and key in self._hashes:
            return int(self._hashes[key][field])
        self._untold.add(len(self._results) - 1)
        return None

    def _owe(self, change: LedgerChange) -> None:
        name, key = change.name, places.ledger(change.name)
        drafted = self._ledger.setdefault(name, [])
        match change:
            case Put():
                if not drafted and key in self._watched and not self._hashes.get(key, _UNKNOWN):
                    self._unwritten.add(name)
                self._note_put(key, change)
                drafted.append(change)
            case Drop():
                # What was drafted under this name is over; what may stand on the server goes too.
                drafted[:] = [] if name in self._unwritten else [change]
                self._hashes[key] = _NOTHING
                self._records.pop(key, None)
                self._watched.add(key)
            case Due(_, due_ms) if drafted and type(put := drafted[-1]) is Put and not put.keep_earlier:
                drafted[-1] = Put(put.name, put.fields, due_ms, is_well=put.is_well)
            case _:
                drafted.append(change)

    def _note_put(self, key: str, put: Put) -> None:
        # Only a merge message is owed by several under one name, and only a timer by several decisions in turn.
        if not put.keep_earlier and key not in self._hashes:
            self._hashes[key] = _NOTHING
            self._watched.add(key)
            if not put.fields.get("nb"):
                self._unwritten.add(put.name)
        is_new = self._hashes.get(key) is _NOTHING
        self._lay_over(key, SetFields(key, put.fields))
        if is_new and (record := ENTRY.of_plain(put.fields)) is not None:
            self._records[key] = record


_NOTHING: Mapping[str, bytes] = {}
_UNREAD = object()
_UNKNOWN: Mapping[str, bytes] = {"": b""}
"""Stands for a hash that was not read: it may hold something."""
_ENTRY = places.ledger("")
_RUN = places.run("")
_KINDS: Mapping[type, int] = {Drop: 0, Put: 1}


def _kind_of(change: LedgerChange) -> int:
    """Return where a change of the ledger stands among those of other names: neighbours share a command."""
    return _KINDS.get(type(change), len(_KINDS))


_NONE: AbstractSet[str] = frozenset()


def _applied(change: Change, to: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return a hash as it is after a change."""
    if type(change) is Append:
        raise UnfitError(f"{change} of what is read as a hash")
    return DraftedHash(to, change)


def _of(whole: Mapping[str, bytes], fields: Sequence[str]) -> dict[str, bytes]:
    return {name: whole[name] for name in fields if name in whole}


def _gathered(told: AbstractSet[str], changes: Sequence[Change]) -> AbstractSet[str]:
    """Return a set as it will be after changes."""
    for change in changes:
        match change:
            case Add(_, members):
                told = told | frozenset(members)
            case Remove(_, members):
                told = told - frozenset(members)
            case Delete():
                told = frozenset()
            case _:
                raise UnfitError(f"{change} of what is read as a set")
    return told
