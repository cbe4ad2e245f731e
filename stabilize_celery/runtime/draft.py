"""What several decisions about one workflow will write, in one EXEC: each sees what those before it have decided."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from stabilize_celery.engine import places
from stabilize_celery.engine.steps import (
    Append,
    Change,
    Delete,
    DeleteFields,
    Fields,
    Hash,
    Increment,
    Index,
    Look,
    Position,
    Query,
    SetFields,
    Snapshot,
    Value,
)
from stabilize_celery.runtime.definitions import Definitions
from stabilize_celery.runtime.lanes import Urgency
from stabilize_celery.store.contract import Drop, Due, LedgerChange, Put, Session, Transaction
from stabilize_celery.store.values import value_of

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
        self._watched: set[str] = set()
        self._hashes: dict[str, dict[str, bytes]] = {}
        """Whole hashes, as they will be with the first `_laid` changes of their key.

        A change makes a new dict, once it is looked at: those given away stay as they were.
        """
        self._laid: dict[str, int] = {}
        self._answers: dict[Query, object] = {}
        """What was read of keys that this draft does not change."""
        self._read_of: dict[str, list[Query]] = defaultdict(list)
        """Which of those answers are of a key."""
        self._pending: dict[str, list[Change]] = defaultdict(list)
        """Changes per key, to be laid over what is read of it later."""
        self._changes: list[Change] = []
        self._ledger: dict[str, list[LedgerChange]] = {}
        """By name; nothing for an entry that came and went."""
        self._unwritten: set[str] = set()
        """Names of entries that this draft makes: there is none on the server, and nobody else makes one."""
        self._events: list[Mapping[str, Value]] = []

    @property
    def now_us(self) -> int:
        """The server's time, carried on from the last read by the own clock."""
        return self._seen_us + self._clock_us() - self._at_us

    @property
    def _digest(self) -> bytes:
        """The digest of the workflow's definition, once the workflow was read."""
        return self._hash(places.WORKFLOW).get("digest", b"")

    def urgency(self, own: str) -> Urgency:
        """Return how urgent is what follows from the message `own`."""
        return Urgency.told_by(self._hash(places.WORKFLOW), self._hash(places.ledger(own)))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self._changes or self._ledger or self._events)

    def seed(self, snapshot: Snapshot, watched: Sequence[str]) -> None:
        """Know what the session has read already under WATCH."""
        self._seen_us, self._at_us = snapshot.now_us, self._clock_us()
        self._watched.update(watched)
        for query, answer in snapshot.answers():
            self._learn(query, answer)

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        """Answer as if the draft were written; one round trip, or none if all is known.

        Where more is WATCHed, all that is asked for and not WATCHed is read anew: what was read before tells nothing of
        what has happened until then.

        Raises:
            UnfitError: the draft changes something that is no hash, and is asked about it.

        """
        answers: dict[Query, object] = {}
        unread = [key for key in watch if key not in self._watched]
        asked = {query.key for query in queries} if unread else frozenset[str]()
        stale = asked.difference(self._watched).union(unread)
        missing = [query for query in queries if not self._answer(query, stale, answers)]
        if missing or unread or not self._seen_us:
            found = self._session.read(missing, unread)
            for key in stale:
                self._forget(key)
            self.seed(found, unread)
            for query in missing:
                answers[query] = self._known(query)
        return Snapshot(answers, self.now_us)

    def add(self, transaction: Transaction) -> slice:
        """Take a decision's writes into the draft; return where its changes will have their results.

        Raises:
            UnfitError: it changes an entry that the draft forgets or moves; nothing was taken.

        """
        self._check(transaction)
        first = len(self._changes)
        self._changes.extend(map(self._noted, transaction.changes))
        for entry in transaction.ledger:
            self._owe(entry)
        self._events.extend(transaction.events)
        return slice(first, len(self._changes))

    def written(self) -> Transaction:
        """Return all of it as one transaction. The results of its changes are those of the decisions' in order."""
        ledger = [change for changes in self._ledger.values() for change in changes]
        ledger.sort(key=_kind_of)
        return Transaction(self._changes, ledger, self._events)

    def appended(self, query: Position) -> int | None:
        """Return which change of the draft appends the item asked for: its result is the position, from 1."""
        for change in self._pending.get(query.key, ()):
            if isinstance(change, Append) and change.item == query.item:
                return next(at for at, one in enumerate(self._changes) if one is change)
        return None

    # -- reading -------------------------------------------------------------------------------------------------------

    def _answer(self, query: Query, stale: AbstractSet[str], answers: dict[Query, object]) -> bool:
        """Answer a query from what is known; False: it has to be read."""
        is_hash = type(query) in _HASHES
        if is_hash and query.key not in stale and query.key in self._hashes:
            answers[query] = self._known(query)
            return True
        if not is_hash and isinstance(query, Look):
            if self._ledger:
                raise UnfitError(f"{query} while entries are drafted")
            return False
        pending = self._pending.get(query.key)
        if not is_hash and isinstance(query, Position) and self.appended(query) is not None:
            answers[query] = None  # EXEC tells: see `appended`
            return True
        if pending and not is_hash:
            raise UnfitError(f"{query} of a key that the draft changes")
        if not pending and isinstance(query, Fields) and (digest := self._digest):
            foreseen = self._definitions.answer(self._workflow_id, digest, query)
            if foreseen is not None:
                answers[query] = foreseen
                return True
        if query.key in stale or query not in self._answers:
            return False
        answers[query] = self._known(query)
        return True

    def _known(self, query: Query) -> object:
        if isinstance(query, _HASHES) and query.key in self._hashes:
            known = self._hash(query.key)
            if isinstance(query, Hash):
                return known
            return {name: known[name] for name in query.fields if name in known}
        return self._answers[query]

    def _hash(self, key: str) -> dict[str, bytes]:
        """Return a whole hash as it will be; empty if it is not known."""
        known, changes = self._hashes.get(key, _NOTHING), self._pending.get(key)
        laid = self._laid.get(key, 0)
        if changes is None or laid == len(changes) or known is _NOTHING:
            return known
        for change in changes[laid:]:
            known = _applied(change, known)
        self._know(key, known)
        return known

    def _know(self, key: str, known: dict[str, bytes]) -> None:
        """Take note of what a hash will be with all changes so far."""
        self._hashes[key] = known
        self._laid[key] = len(self._pending.get(key, ()))

    def _forget(self, key: str) -> None:
        """Take nothing for true that was read of a key before now."""
        self._hashes.pop(key, None)
        for query in self._read_of.pop(key, ()):
            self._answers.pop(query, None)

    def _learn(self, query: Query, answer: object) -> None:
        if isinstance(query, _HASHES) and isinstance(answer, dict):
            told = answer
            for change in self._pending.get(query.key, ()):
                told = _applied(change, told)
            if isinstance(query, Hash):
                self._know(query.key, told)
                return
            answer = {name: told[name] for name in query.fields if name in told}
        self._answers[query] = answer
        self._read_of[query.key].append(query)

    # -- drafting ------------------------------------------------------------------------------------------------------

    def _check(self, transaction: Transaction) -> None:
        for change in transaction.changes if self._ledger else ():
            key = getattr(change, "key", "")
            drafted = self._ledger.get(key[len(_ENTRY) :]) if key.startswith(_ENTRY) else None
            if drafted is not None and not (drafted and isinstance(drafted[-1], Put) and isinstance(change, SetFields)):
                raise UnfitError(f"{change} of an entry that the draft forgets or moves")

    def _noted(self, change: Change) -> Change:
        """Lay a change over what is known of its key; one of a drafted entry becomes part of that entry."""
        if isinstance(change, Delete):
            for key in change.keys:
                self._lay_over(key, change)
        elif not isinstance(change, Index):
            drafted = self._ledger.get(change.key[len(_ENTRY) :]) if change.key.startswith(_ENTRY) else None
            if drafted and isinstance(change, SetFields) and isinstance(put := drafted[-1], Put):
                drafted[-1] = Put(put.name, {**put.fields, **change.fields}, put.due_ms, put.keep_earlier)
                self._lay_over(change.key, change)
                return SetFields(change.key, {})
            self._lay_over(change.key, change)
        return change

    def _lay_over(self, key: str, change: Change) -> None:
        if isinstance(change, SetFields) and "created_us" in change.fields and key.startswith(_RUN):
            # A birth. Its name comes from what is WATCHed here, and is used once: nobody else has written it, or will.
            self._know(key, {})
            self._watched.add(key)
        self._pending[key].append(change)
        for query in self._read_of.pop(key, ()):
            self._answers.pop(query, None)

    def _owe(self, change: LedgerChange) -> None:
        name, key = change.name, places.ledger(change.name)
        drafted = self._ledger.setdefault(name, [])
        if isinstance(change, Put):
            self._note_put(key, change)
            drafted.append(change)
        elif isinstance(change, Drop):
            # What was drafted under this name is over; what may stand on the server goes too.
            drafted[:] = [] if name in self._unwritten else [change]
            self._lay_over(key, Delete((key,)))
            self._know(key, {})
            self._watched.add(key)
        elif isinstance(change, Due) and drafted and isinstance(put := drafted[-1], Put) and not put.keep_earlier:
            drafted[-1] = Put(put.name, put.fields, change.due_ms)
        else:
            drafted.append(change)

    def _note_put(self, key: str, put: Put) -> None:
        # Only a merge message is owed by several under one name, and only a timer by several decisions in turn.
        if not put.keep_earlier and key not in self._hashes:
            self._know(key, {})
            self._watched.add(key)
            if not put.fields.get("nb"):
                self._unwritten.add(put.name)
        self._lay_over(key, SetFields(key, put.fields))


_NOTHING: dict[str, bytes] = {}
_HASHES = (Hash, Fields)
_ENTRY = places.ledger("")
_RUN = places.run("")
_KINDS = (Drop, Put)


def _kind_of(change: LedgerChange) -> int:
    """Return where a change of the ledger stands among those of other names: neighbours share a command."""
    return _KINDS.index(type(change)) if isinstance(change, _KINDS) else len(_KINDS)


def _stored(fields: Mapping[str, Value]) -> dict[str, bytes]:
    # Nearly all are plain: no function is called for those.
    return {
        name: value
        if type(value) is bytes
        else value.encode()
        if type(value) is str
        else b"%d" % value
        if type(value) is int
        else value_of(value, name)
        for name, value in fields.items()
    }


def _applied(change: Change, to: dict[str, bytes]) -> dict[str, bytes]:
    """Return a hash as it is after a change."""
    match change:
        case SetFields(_, fields):
            return {**to, **_stored(fields)}
        case DeleteFields(_, fields):
            return {name: value for name, value in to.items() if name not in fields}
        case Increment(_, name, by):
            return {**to, name: b"%d" % (int(to.get(name, b"0")) + by)}
        case Delete():
            return {}
        case Append():
            raise UnfitError(f"{change} of what is read as a hash")
        case _:
            return to
