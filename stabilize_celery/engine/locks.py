"""Mutexes and semaphores: who holds, who waits, who is next (PROTOCOL 8).

An owner is `<workflow id>/<thread>#<request>` and used once; an empty thread is the workflow itself, which asks for a
concurrency slot of its pipeline at its start and at each restart. In the lock's slot: `h` owner -> token, `q` waiters
by time, `meta` limit, last token.

Each request brings its own limit, and is never let in beside more than that allows: neither its own limit nor that of
anybody who holds the lock is passed. The first in line waits until both hold, and nobody passes it. Limits are the
same as a rule: `meta.common` is that of whoever came to a free lock, `n` has those of others (owner -> limit).
"""

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.state import ENTRY, RUN, Run, WorkflowRecord
from stabilize_celery.engine.steps import (
    Commit,
    Decision,
    DeleteFields,
    Expire,
    Fields,
    Hash,
    Rank,
    Ranked,
    Read,
    SetFields,
    Slot,
    Snapshot,
    Unrank,
    lock_slot,
    readable,
    workflow_slot,
)

__all__ = ["Owner", "give_back", "has_let_go", "is_granted", "look_ms", "owner_of_workflow", "request"]

HOLDERS, WAITERS, META = Hash("h"), "q", Hash("meta")
IDLE_TTL_MS = 7 * 24 * 3600 * 1000

Steps = Generator[Read | Commit, Any, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who asks for a lock, once."""

    workflow_id: str
    thread: str
    request: int

    def __str__(self) -> str:
        return f"{self.workflow_id}/{self.thread}#{self.request}"

    @classmethod
    def parse(cls, text: str) -> "Owner":
        """Return the owner that `str` wrote."""
        workflow_id, _, rest = text.partition("/")
        thread, _, number = rest.rpartition("#")
        return cls(workflow_id, thread, int(number))

    @property
    def message_name(self) -> str:
        """Ledger name of the message that asks."""
        return f"Lock:{self.thread}#{self.request}" if self.thread else "Begin"


def owner_of_workflow(workflow_id: str, record: WorkflowRecord) -> Owner:
    """Return who a workflow is in the lock of its pipeline, since its start or newest restart."""
    return Owner(workflow_id, "", record.restarts)


@dataclass(frozen=True, slots=True)
class LockView:
    """A lock as one snapshot shows it; `first` are the waiters in front, `is_whole`: and there are no more."""

    holders: dict[str, int]
    first: Sequence[str]
    is_whole: bool
    common: int
    last: int
    now_us: int
    is_mixed: bool = False
    """Not all who hold it or wait have the limit `common`."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Of holders and the first waiters: those that are not `common`."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds it or waits."""
        return not self.holders and not self.first

    def limit_of(self, owner: str) -> int:
        """Return how many may hold the lock together with this owner (count)."""
        return self.limits.get(owner, self.common)

    def without(self, owners: Collection[str]) -> "LockView":
        """Return it as it is when these have left."""
        holders = {name: token for name, token in self.holders.items() if name not in owners}
        return replace(self, holders=holders, first=[waiter for waiter in self.first if waiter not in owners])


def request(lock: str, owner: Owner, limit: int) -> Generator[Read | Commit, Any, int | None]:
    """Get in line and move up who may hold; audit the holders while waiting. Returns the token, or None: waits."""
    token, holders = yield from _ask(lock, owner, limit)
    if token is None and (yield from _audit(lock, holders, owner)):
        token, _ = yield from _ask(lock, owner, limit)
    return token


def _ask(lock: str, owner: Owner, limit: int) -> Generator[Read | Commit, Any, tuple[int | None, Iterable[str]]]:
    """Get in line, unless this was done before. Returns the token, or None and who holds."""
    view, me = (yield from _look(lock, limit)), str(owner)
    if me in view.holders:
        return view.holders[me], view.holders
    decision = Decision()
    if view.is_idle:
        view = replace(view, common=limit)
        decision.change(SetFields("meta", {"common": limit, "mixed": 0}))
    elif limit != view.common:
        view = replace(view, limits={**view.limits, me: limit})
        decision.change(SetFields("n", {me: limit}))
        decision.change(SetFields("meta", {"mixed": 1}))
    line = [*view.first, me] if view.is_whole and me not in view.first else view.first
    granted = _pump(decision, view, line)
    if me not in granted:
        decision.change(Rank(WAITERS, me, view.now_us, if_absent=True))
    decision.change(Expire("meta", 0))
    yield Commit(decision, lock_slot(lock))
    yield from _nudge(lock, (other for other in granted if other != me))
    yield from _let_in_more(lock, view, granted)
    return granted.get(me), {**view.holders, **granted}


def give_back(lock: str, owner: Owner) -> Steps:
    """Release and hand over in one EXEC, then nudge the new holders (all of them if this was done before)."""
    view = yield from _look(lock, 1)
    granted = yield from _drop(lock, view, [str(owner)])
    yield from _nudge(lock, granted if str(owner) in view.holders else [*view.holders, *granted])
    yield from _let_in_more(lock, view, granted)


def is_granted(lock: str, owner: Owner) -> Generator[Read, Snapshot, bool]:
    """Return whether an owner holds a lock; not WATCHed: whoever grants it wakes the owner."""
    holder = Fields(HOLDERS.key, (str(owner),))
    return bool((yield Read((holder,), (), lock_slot(lock)))[holder])


def look_ms(owner: Owner, every_ms: int) -> int:
    """Return how long a waiter rests: `every_ms`, spread by its name so that not all look at once."""
    spread = sum(str(owner).encode()) % 100
    return every_ms * (900 + 2 * spread) // 1000


def _look(lock: str, room: int) -> Generator[Read, Snapshot, LockView]:
    """Read a lock, and as many of the line as `room` may let in, and one more. Without a limit yet it is `room`."""
    window = Ranked(WAITERS, room + 1)
    snapshot = yield Read((HOLDERS, window, META), ("h", WAITERS), lock_slot(lock))
    meta, holders = snapshot[META], {name: int(token) for name, token in snapshot[HOLDERS].items()}
    first = [member for member, _ in snapshot[window]]
    is_mixed = meta.get("mixed") == b"1"
    others = Fields("n", (*holders, *first) if is_mixed else ())
    limits = (yield Read((others,), (), lock_slot(lock)))[others] if others.fields else {}
    return LockView(
        holders,
        first,
        len(first) <= room,
        int(meta.get("common", meta.get("limit", room))),
        int(meta.get("last", b"0")),
        snapshot.now_us,
        is_mixed,
        {name: int(limit) for name, limit in limits.items()},
    )


def _pump(decision: Decision, view: LockView, line: Iterable[str]) -> dict[str, int]:
    """Let in who comes first in `line`, while there is room; returns their tokens, which only grow.

    Shown as the lock's limit is what bounds it now: the lowest of those who hold it and of who is next.
    """
    granted: dict[str, int] = {}
    lowest = min(map(view.limit_of, view.holders), default=None)
    for waiter in (one for one in line if one not in view.holders):
        own = view.limit_of(waiter)
        lowest = own if lowest is None else min(lowest, own)
        if len(view.holders) + len(granted) >= lowest:
            break
        granted[waiter] = max(view.last + 1, view.now_us) + len(granted)
        decision.change(SetFields("h", {waiter: granted[waiter]}))
        decision.change(Unrank(WAITERS, waiter))
    if lowest is not None:
        last = {"last": max(granted.values())} if granted else {}
        decision.change(SetFields("meta", {"limit": lowest, **last}))
    return granted


def _drop(lock: str, view: LockView, owners: Sequence[str]) -> Generator[Commit, Any, dict[str, int]]:
    """Take owners out and let in who may hold now: one EXEC. Returns the tokens of these."""
    rest, decision = view.without(owners), Decision()
    decision.change(DeleteFields("h", tuple(owners)))
    if view.is_mixed:
        decision.change(DeleteFields("n", tuple(owners)))
    for owner in owners:
        decision.change(Unrank(WAITERS, owner))
    granted = _pump(decision, rest, rest.first)
    if rest.is_idle:
        decision.change(Expire("meta", IDLE_TTL_MS))
    yield Commit(decision, lock_slot(lock))
    return granted


def _let_in_more(lock: str, view: LockView, granted: Collection[str]) -> Steps:
    """Go on with the line where all were let in that had been read of it: those behind may have higher limits."""
    while granted and not view.is_whole and all(one in granted for one in view.first):
        view = yield from _look(lock, 1)
        decision = Decision()
        granted = _pump(decision, view, view.first)
        if granted:
            yield Commit(decision, lock_slot(lock))
            yield from _nudge(lock, granted)


def _audit(lock: str, holders: Iterable[str], waiter: Owner) -> Generator[Read | Commit, Any, list[str]]:
    """Drop holders whose run has given the lock back or is gone: that never changes back. Returns them."""
    gone: list[str] = []
    for name in holders:
        if (yield from _is_done(Owner.parse(name))):
            gone.append(name)  # noqa: PERF401 - a comprehension cannot yield
    if gone:
        view = yield from _look(lock, len(gone))
        granted = yield from _drop(lock, view, gone)
        yield from _nudge(lock, (other for other in granted if other != str(waiter)))
        yield from _let_in_more(lock, view, granted)
    return gone


def _is_done(owner: Owner) -> Generator[Read, Snapshot, bool]:
    """Return whether an owner has given its lock back, or is gone: that never changes back."""
    record, run = Hash(places.WORKFLOW), Hash(places.run(owner.thread))
    snapshot = yield Read((record, run), (record.key, run.key), workflow_slot(owner.workflow_id))
    # Of locks all stands in plain: nobody needs the owner's key to see that it is gone.
    return has_let_go(owner, workflow_of(snapshot), RUN.decode(readable(snapshot[run])))


def has_let_go(owner: Owner, record: WorkflowRecord, run: Run) -> bool:
    """Return whether an owner is done with its lock, by its workflow and its run: that never changes back."""
    if not record.exists:
        return True
    state, newest = (run.lock, run.request) if owner.thread else (record.lock_state, record.restarts)
    return state in ("", "done") or newest != owner.request


def _nudge(lock: str, owners: Iterable[str]) -> Steps:
    """Wake the messages of new holders: durable in their slots before the release is forgotten.

    One that has nobody to wake may have got in line again after its end: then it is dropped, and the next moves up.
    """
    gone: list[str] = []
    for name in owners:
        owner = Owner.parse(name)
        slot: Slot = workflow_slot(owner.workflow_id)
        entry_key = Hash(places.ledger(owner.message_name))
        # The workflow tells how urgent it is.
        entry = ENTRY.decode((yield Read((entry_key, Hash(places.WORKFLOW)), (entry_key.key,), slot))[entry_key])
        if (message := message_of(entry, owner.workflow_id)) is not None:
            yield Commit(Decision(keeps_entry=True, nudges=[message]), slot)
        elif (yield from _is_done(owner)):
            gone.append(name)
    if gone:
        view = yield from _look(lock, len(gone))
        granted = yield from _drop(lock, view, gone)
        yield from _nudge(lock, granted)
        yield from _let_in_more(lock, view, granted)
