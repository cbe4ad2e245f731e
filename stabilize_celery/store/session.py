"""WATCH, reads and one EXEC, each step one packed send (PROTOCOL section 4)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

from stabilize_celery.engine.places import BLOBS
from stabilize_celery.engine.steps import Fields, Hash, Query, Snapshot
from stabilize_celery.errors import EngineError, PayloadError, UnreachableError, WritesRefusedError
from stabilize_celery.store.addresses import Address
from stabilize_celery.store.blobs import Shelf
from stabilize_celery.store.changes import Plan, plan
from stabilize_celery.store.contract import Transaction
from stabilize_celery.store.errors import StoreError, WrongKindError
from stabilize_celery.store.queries import Answer, list_of, question, time_us
from stabilize_celery.store.vault import PLAIN, Vault
from stabilize_celery.store.wire import (
    EXEC,
    Command,
    Link,
    LinkLostError,
    Refused,
    Reply,
    Wire,
    misrouting,
    nobody_serves,
)

__all__ = [
    "READ_TRIES",
    "PackedGroup",
    "PackedSession",
    "Reading",
    "lost_blob",
    "refusal",
    "refuses_writes",
    "unreachable",
]

READ_TRIES = 4
"""So often something is read that moves meanwhile (count)."""
_TIME: Command = ("TIME",)
_MULTI: Command = ("MULTI",)
_HASHES = (Hash, Fields)


class Reading:
    """Queries as commands that end with TIME, and their replies as a snapshot."""

    def __init__(
        self,
        address: Address,
        queries: Sequence[Query],
        vault: Vault = PLAIN,
        shelf: Shelf | None = None,
        *,
        without_payloads: bool = False,
    ) -> None:
        self._address = address
        self._vault = vault
        self._fetched = vault.fetching(shelf, without_payloads=without_payloads)
        self._answers: dict[Query, Any] = {}
        """What needs no asking: of nothing there is nothing."""
        self._asked: list[tuple[Query, Callable[[Reply], Answer]]] = []
        self.commands: list[Command] = []
        for query in queries:
            command, read = question(address, query)
            if command is None:
                self._answers[query] = read(None)
            else:
                self._asked.append((query, read))
                self.commands.append(command)
        self.commands.append(_TIME)

    @property
    def fetching(self) -> Sequence[Command]:
        """The command for what the last snapshot lacks of large values; none: it lacks nothing."""
        lacking = self._fetched.lacking
        return [("HMGET", self._address.key(BLOBS), *lacking)] if lacking else []

    def bring(self, replies: Sequence[Reply]) -> bool:
        """Take the replies of `fetching`; False: what was read is out of date, and has to be read again."""
        return self._fetched.bring(list_of(replies[0])) if replies else True

    @property
    def gone(self) -> str:
        """The place of a large value that was named and not there; empty: there was none."""
        return self._fetched.gone

    def snapshot(self, replies: Sequence[Reply]) -> Snapshot:
        """Return the answers; `replies` are those of `commands`, none of them refused."""
        self._fetched.begin()
        answers = dict(self._answers)
        for (query, read), reply in zip(self._asked, replies, strict=False):
            answer: Any = read(reply)
            if type(query) in _HASHES:
                answer = self._vault.opened(self._address.prefix + query.key, answer, self._fetched)
            answers[query] = answer
        return Snapshot(answers, time_us(replies[-1]))


class Conversation:
    """One connection from its first WATCH to its EXEC; what it watches is lost with it. Not shared between threads."""

    def __init__(self, wire: Wire, key: str) -> None:
        self._wire = wire
        self._key = key
        """Any key of the server that it is held with."""
        self._link: Link | None = None
        self._is_watching = False
        self._has_lost_watches = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hang_up()

    def _ask(self, commands: Sequence[Command]) -> Sequence[Reply]:
        failure = LinkLostError("nobody answers", was_stale=False)
        for _ in range(READ_TRIES):
            try:
                replies = self._open().exchange(commands)
            except LinkLostError as lost:
                self._forget_link()
                if self._has_lost_watches or not lost.was_stale:
                    raise unreachable(self._wire, lost) from None
                failure = lost
                continue
            refused = self._misrouted(replies)
            if refused is None:
                return _accepted(replies)
            failure = nobody_serves(refused)
            # The keys are elsewhere now, and what was watched here says nothing any more.
            self._has_lost_watches = self._has_lost_watches or self._is_watching
            self._hang_up()
        raise unreachable(self._wire, failure)

    def _execute(self, commands: Sequence[Command], behind: Sequence[Command]) -> list[Reply] | None:
        """Send commands as one transaction, and others behind it; None: what was watched is lost, or the answer is."""
        if self._has_lost_watches:
            self._hang_up()
            self._has_lost_watches = False
            return None
        try:
            replies = self._open().exchange([_MULTI, *commands, EXEC, *behind])
        except LinkLostError:
            self._forget_link()
            self._has_lost_watches = False
            return None
        self._is_watching = False
        return replies

    def _executed(self, replies: Sequence[Reply]) -> list[Reply] | None:
        """Return the replies of a transaction's commands; None: nothing was written. Raises as `commit` does."""
        if self._misrouted(replies) is not None:
            self._hang_up()
            return None
        _accepted(replies)
        executed = replies[-1]
        return None if executed is None else list_of(executed)

    def _misrouted(self, replies: Sequence[Reply]) -> Refused | None:
        """Learn who has the keys, if they are not there."""
        refused = misrouting(replies)
        if refused is not None:
            self._wire.redirected(refused)
        return refused

    def _open(self) -> Link:
        if self._link is None:
            self._link = self._wire.link(self._key)
        return self._link

    def _forget_link(self) -> None:
        self._has_lost_watches = self._has_lost_watches or self._is_watching
        self._is_watching = False
        self._hang_up()

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close(watching=self._is_watching)
            self._link = None
        self._is_watching = False


class PackedSession(Conversation):
    """A unit of work on one slot."""

    def __init__(self, wire: Wire, address: Address, vault: Vault = PLAIN) -> None:
        super().__init__(wire, address.prefix)
        self._address = address
        self._vault = vault
        self._shelf = Shelf()

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        """WATCH the keys, answer the queries, take TIME: one round trip. Watches add up.

        Raises:
            StoreError: a key is empty or holds something else.
            UnreachableError: no server answered; nothing is watched any more.

        """
        reading, opening = self._reading(queries, watch, self._shelf)
        replies = self._ask([*opening, *reading.commands])
        self._is_watching = self._is_watching or bool(watch)
        return self._whole(reading, opening, replies[len(opening) :])

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        """EXEC: one result per change; None: a watched key moved, or the answer was lost.

        Raises:
            StoreError: a value can't be stored, or the server refuses to write; nothing was written.

        """
        sealed, shelf = self._vault.sealed(self._address, transaction, self._shelf)
        planned = plan(self._address, sealed)
        replies = self._execute(planned.commands, [])
        results = None if replies is None else self._outcome(planned, replies)
        return None if results is None else self._written(transaction, results, shelf)

    def commit_and_read(
        self, transaction: Transaction, queries: Sequence[Query], watch: Sequence[str] = ()
    ) -> tuple[list[int | None], Snapshot] | None:
        """`commit`, then `read`, in one round trip. None as in `commit`: then nothing is watched.

        Raises:
            StoreError: as in `commit` and `read`.

        """
        sealed, shelf = self._vault.sealed(self._address, transaction, self._shelf)
        planned = plan(self._address, sealed)
        reading, opening = self._reading(queries, watch, shelf)
        replies = self._execute(planned.commands, [*opening, *reading.commands])
        if replies is None:
            return None
        # Whatever became of EXEC, the WATCH behind it stands.
        self._is_watching = bool(watch)
        executed = len(planned.commands) + 2
        results = self._outcome(planned, replies[:executed])
        if results is None or self._misrouted(replies[executed:]) is not None:
            self._hang_up()
            return None
        results = self._written(transaction, results, shelf)
        return results, self._whole(reading, opening, _accepted(replies[executed + len(opening) :]))

    def _written(self, transaction: Transaction, results: list[int | None], shelf: Shelf) -> list[int | None]:
        self._shelf = shelf
        self._vault.written(self._address, transaction)
        # What concerns blobs stands behind the changes that were asked for.
        return results[: len(transaction.changes)]

    def _whole(self, reading: Reading, opening: Sequence[Command], replies: Sequence[Reply]) -> Snapshot:
        """Return the answers, with the large values that are kept beside what was read."""
        for _ in range(READ_TRIES):
            snapshot = reading.snapshot(replies)
            if not reading.fetching:
                return snapshot
            if not reading.bring(self._ask(reading.fetching)):
                # Somebody overwrote it meanwhile. If it is watched, this unit of work won't be committed.
                replies = self._ask([*opening, *reading.commands])[len(opening) :]
        raise lost_blob(reading)

    def _reading(self, queries: Sequence[Query], watch: Sequence[str], shelf: Shelf) -> tuple[Reading, list[Command]]:
        keys = [self._address.key(key) for key in watch]
        return Reading(self._address, queries, self._vault, shelf), [("WATCH", *keys)] if keys else []

    def _outcome(self, planned: Plan, replies: Sequence[Reply]) -> list[int | None] | None:
        executed = self._executed(replies)
        return None if executed is None else planned.results(executed)


class PackedGroup(Conversation):
    """A unit of work on several slots of one server."""

    def __init__(self, wire: Wire, addresses: Sequence[Address], vault: Vault = PLAIN) -> None:
        super().__init__(wire, addresses[0].prefix)
        self._addresses = addresses
        self._vault = vault

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> list[Snapshot] | None:
        """WATCH and read the same of each slot: one round trip. None: there are large values, to be read one by one.

        Raises:
            StoreError: a key holds something else.
            UnreachableError: no server answered; nothing is watched any more.

        """
        readings = [Reading(address, queries, self._vault) for address in self._addresses]
        keys = [address.key(key) for address in self._addresses for key in watch]
        opening: list[Command] = [("WATCH", *keys)] if keys else []
        replies = self._ask([*opening, *(command for reading in readings for command in reading.commands)])
        self._is_watching = self._is_watching or bool(watch)
        rest = iter(replies[len(opening) :])
        snapshots = [reading.snapshot(list(islice(rest, len(reading.commands)))) for reading in readings]
        return None if any(reading.fetching for reading in readings) else snapshots

    def commit(self, transactions: Sequence[Transaction]) -> list[list[int | None]] | None:
        """One EXEC with a transaction for each slot; None: a watched key moved, or the answer was lost.

        Raises:
            StoreError: a value can't be stored, or the server refuses to write; nothing was written.

        """
        pairs = list(zip(self._addresses, transactions, strict=True))
        plans = [plan(address, self._vault.sealed(address, one, Shelf())[0]) for address, one in pairs]
        replies = self._execute([command for planned in plans for command in planned.commands], [])
        executed = None if replies is None else self._executed(replies)
        if executed is None:
            return None
        for address, transaction in pairs:
            self._vault.written(address, transaction)
        rest = iter(executed)
        results = [planned.results(list(islice(rest, len(planned.commands)))) for planned in plans]
        return [found[: len(one.changes)] for found, one in zip(results, transactions, strict=True)]


def _accepted(replies: Sequence[Reply]) -> Sequence[Reply]:
    if Refused in map(type, replies):
        raise refusal(next(reply for reply in replies if isinstance(reply, Refused)))
    return replies


_NO_WRITES_NOW: Mapping[str, str] = {
    "OOM": "Redis is out of memory (maxmemory is reached): nothing was written. Give it more memory, or remove old "
    "workflows; the maxmemory-policy must be noeviction.",
    "READONLY": "this Redis is a read-only replica: nothing was written. Give the URL of the master.",
    "MISCONF": "Redis can't write to its disk: nothing was written. Its log says why; is the disk full?",
    "NOREPLICAS": "too few replicas of this Redis answer (min-replicas-to-write): nothing was written. Start them.",
}
"""By code of the refusal: what ends without anything being changed here, and what to do."""


def refuses_writes(reply: Reply) -> bool:
    """Whether a server takes no writes at all for now."""
    return isinstance(reply, Refused) and reply.code in _NO_WRITES_NOW


def refusal(refused: Refused) -> EngineError:
    """Return the error for a refusal of the server, with what to do about it."""
    if refused.code in _NO_WRITES_NOW:
        return WritesRefusedError(_NO_WRITES_NOW[refused.code])
    if refused.code == "WRONGTYPE":
        return WrongKindError(
            "a key holds another type than this version expects; is the namespace used by others too?"
        )
    if refused.code == "NOPERM":
        return StoreError(
            f"Redis refused (NOPERM): {refused.text.rstrip('.')}. Nothing was written. deploy/users.conf has what each "
            "kind of user needs"
        )
    return StoreError(f"Redis refused ({refused.code}): {refused.text}. Nothing was written")


def lost_blob(*readings: Reading) -> PayloadError:
    """Return the error for a large value that is named again and again, and is not there."""
    place = next(reading.gone for reading in readings if reading.gone)
    return PayloadError(
        f"{place} is a large value that its workflow's key {BLOBS!r} lacks; was that removed by hand, or left out of a "
        "backup?"
    )


def unreachable(wire: Wire, lost: LinkLostError) -> UnreachableError:
    """Return the error for a server that does not answer."""
    return UnreachableError(
        "the state server (Redis)", wire.url, f"{lost.reason}. Check that it runs and that the URL is right."
    )
