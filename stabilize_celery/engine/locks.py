"""Mutexes and semaphores: who holds, who waits, who is next (PROTOCOL 8).

An owner is `<workflow id>/<thread>#<request>` and used once; an empty thread is the workflow itself, which waits for a
concurrency slot of its pipeline. In the lock's slot: `h` owner -> token, `q` waiters by time, `meta` limit, last token.

Where stages of one key have different limits, that of the newest request counts for all, until the next one: a higher
one lets more of the line in at once; a lower one takes the lock from nobody, but gives it to nobody before enough have
given it back. A request that is repeated, or looks again, changes nothing about that.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD
from stabilize_celery.engine.steps import (
    Commit,
    Decision,
    DeleteFields,
    Expire,
    Hash,
    Members,
    Rank,
    Ranked,
    Read,
    SetFields,
    Slot,
    Snapshot,
    Unrank,
    lock_slot,
    workflow_slot,
)

__all__ = ["Owner", "give_back", "look_ms", "request"]

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


@dataclass(frozen=True, slots=True)
class LockView:
    """A lock as one snapshot shows it; `first` are the waiters in front, `is_whole`: and there are no more."""

    holders: dict[str, int]
    first: Sequence[str]
    is_whole: bool
    limit: int
    last: int
    now_us: int


def request(lock: str, owner: Owner, limit: int) -> Generator[Read | Commit, Any, int | None]:
    """Get in line and move up who may hold; audit the holders while waiting. Returns the token, or None: waits."""
    token, holders = yield from _ask(lock, owner, limit)
    if token is None and (yield from _audit(lock, holders, owner)):
        token, _ = yield from _ask(lock, owner, limit)
    return token


def _ask(lock: str, owner: Owner, limit: int) -> Generator[Read | Commit, Any, tuple[int | None, Iterable[str]]]:
    """Get in line, unless this was done before. Returns the token, or None and who holds."""
    view = yield from _look(lock, limit)
    moved: list[str] = []
    if str(owner) not in view.holders:
        if view.limit != limit and not (yield from _is_in_line(lock, str(owner), view)):
            view = replace(view, limit=limit)
        decision = Decision()
        moved = _pump(decision, view, extra=str(owner))
        if str(owner) not in moved:
            decision.change(Rank(WAITERS, str(owner), view.now_us, if_absent=True))
        decision.change(SetFields("meta", {"limit": view.limit, "last": max(view.last, *_tokens(decision), 0)}))
        decision.change(Expire("meta", 0))
        yield Commit(decision, lock_slot(lock))
        yield from _nudge(lock, (other for other in moved if other != str(owner)))
    return view.holders.get(str(owner)) or _token_of(moved, view, str(owner)), view.holders


def _is_in_line(lock: str, owner: str, view: LockView) -> Generator[Read, Snapshot, bool]:
    """Return whether this is no new request. Reads the whole line only where limits differ and it is long."""
    if owner in view.first or view.is_whole:
        return owner in view.first
    line = Ranked(WAITERS)
    return owner in {member for member, _ in (yield Read((line,), (WAITERS,), lock_slot(lock)))[line]}


def give_back(lock: str, owner: Owner) -> Steps:
    """Release and hand over in one EXEC, then nudge the new holders (all of them if this was done before)."""
    view = yield from _look(lock, 1)
    moved = yield from _drop(lock, view, [str(owner)])
    yield from _nudge(lock, moved if str(owner) in view.holders else [*view.holders, *moved])


def look_ms(owner: Owner, every_ms: int) -> int:
    """Return how long a waiter rests: `every_ms`, spread by its name so that not all look at once."""
    spread = sum(str(owner).encode()) % 100
    return every_ms * (900 + 2 * spread) // 1000


def _look(lock: str, room: int) -> Generator[Read, Snapshot, LockView]:
    """Read a lock, and as many of the line as `room` may let in, and one more. Without a limit yet it is `room`."""
    window = Ranked(WAITERS, room + 1)
    snapshot = yield Read((HOLDERS, window, META), ("h", WAITERS), lock_slot(lock))
    meta = snapshot[META]
    first = [member for member, _ in snapshot[window]]
    return LockView(
        {name: int(token) for name, token in snapshot[HOLDERS].items()},
        first,
        len(first) <= room,
        int(meta.get("limit", room)),
        int(meta.get("last", b"0")),
        snapshot.now_us,
    )


def _pump(decision: Decision, view: LockView, extra: str = "") -> list[str]:
    """Move waiters up while there is room; returns who holds now and did not before. Tokens only grow."""
    line = [waiter for waiter in view.first if waiter not in view.holders]
    if extra and extra not in line and view.is_whole:
        line.append(extra)
    moved = line[: max(0, view.limit - len(view.holders))]
    for position, waiter in enumerate(moved):
        decision.change(SetFields("h", {waiter: _token(view, position)}))
        decision.change(Unrank(WAITERS, waiter))
    return moved


def _token(view: LockView, position: int) -> int:
    return max(view.last + 1, view.now_us) + position


def _token_of(moved: Sequence[str], view: LockView, owner: str) -> int | None:
    return _token(view, moved.index(owner)) if owner in moved else None


def _tokens(decision: Decision) -> list[int]:
    granted = [change for change in decision.changes if isinstance(change, SetFields) and change.key == "h"]
    return [int(token) for change in granted for token in change.fields.values()]


def _drop(lock: str, view: LockView, owners: Sequence[str]) -> Generator[Commit, Any, list[str]]:
    rest = replace(
        view,
        holders={name: token for name, token in view.holders.items() if name not in owners},
        first=[waiter for waiter in view.first if waiter not in owners],
    )
    decision = Decision()
    decision.change(DeleteFields("h", tuple(owners)))
    for owner in owners:
        decision.change(Unrank(WAITERS, owner))
    moved = _pump(decision, rest)
    if moved:
        decision.change(SetFields("meta", {"last": max(_tokens(decision))}))
    elif not rest.holders and not rest.first:
        decision.change(Expire("meta", IDLE_TTL_MS))
    yield Commit(decision, lock_slot(lock))
    return moved


def _audit(lock: str, holders: Iterable[str], waiter: Owner) -> Generator[Read | Commit, Any, list[str]]:
    """Drop holders whose run has given the lock back or is gone: that never changes back. Returns them."""
    gone: list[str] = []
    for name in holders:
        if (yield from _is_done(Owner.parse(name))):
            gone.append(name)  # noqa: PERF401 - a comprehension cannot yield
    if gone:
        view = yield from _look(lock, len(gone))
        moved = yield from _drop(lock, view, gone)
        yield from _nudge(lock, (other for other in moved if other != str(waiter)))
    return gone


def _is_done(owner: Owner) -> Generator[Read | Commit, Any, bool]:
    slot = workflow_slot(owner.workflow_id)
    record, run = Hash(places.WORKFLOW), Hash(places.run(owner.thread))
    snapshot = yield Read((record, run), (record.key, run.key), slot)
    workflow, state = WORKFLOW_RECORD.decode(snapshot[record]), RUN.decode(snapshot[run])
    if not owner.thread:
        return workflow.lock_state in ("", "done")
    if state.lock in ("", "done") or state.request != owner.request:
        return True
    if workflow.is_live or state.code_runs:
        return False
    return (yield from _is_left_behind(slot, run))


def _is_left_behind(slot: Slot, run: Hash) -> Generator[Read | Commit, Any, bool]:
    """Return whether a mutex section outlived its workflow, and say so in its record.

    It does where the workflow ends while a join in the section waits for a branch: nobody leaves the section then.
    """
    live = Members(places.LIVE)
    if (yield Read((live,), (live.key,), slot))[live]:
        return False
    decision = Decision(keeps_entry=True, changes=[SetFields(run.key, RUN.encode(lock="done"))])
    yield Commit(decision, slot)
    return True


def _nudge(lock: str, owners: Iterable[str]) -> Steps:
    """Wake the messages of new holders: durable in their slots before the release is forgotten.

    One that has nobody to wake may have got in line again after its end: then it is dropped, and the next moves up.
    """
    gone: list[str] = []
    for name in owners:
        owner = Owner.parse(name)
        slot: Slot = workflow_slot(owner.workflow_id)
        entry_key = Hash(places.ledger(owner.message_name))
        entry = ENTRY.decode((yield Read((entry_key,), (entry_key.key,), slot))[entry_key])
        if (message := message_of(entry, owner.workflow_id)) is not None:
            yield Commit(Decision(keeps_entry=True, nudges=[message]), slot)
        elif (yield from _is_done(owner)):
            gone.append(name)
    if gone:
        moved = yield from _drop(lock, (yield from _look(lock, len(gone))), gone)
        yield from _nudge(lock, moved)
