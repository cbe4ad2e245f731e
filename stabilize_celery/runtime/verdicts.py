"""What the keeper does about one ledger entry that has come due: PROTOCOL section 5 as a table. Pure.

Times are epoch ms of the entry's own server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.handler import rest_ms, unknown_in
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY, Entry
from stabilize_celery.engine.steps import Change, DeleteFields, Increment, SetFields
from stabilize_celery.models.messages import MESSAGE_TYPES
from stabilize_celery.runtime.flaws import Flawed
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.probes import LONGEST_PAUSE_MS
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Bury, Drop, Due, LedgerChange

__all__ = [
    "CLOCK_COVER_MS",
    "Doing",
    "Found",
    "Verdict",
    "entry_key",
    "judge",
    "needs_probe_answers",
    "published_again",
]

CLOCK_COVER_MS = 2_000
"""How much later than a message a probe must have been sent to count: clocks of cluster nodes differ."""


class Doing(Enum):
    """What is done about an entry."""

    NOTHING = "nothing"
    """It is not due any more: somebody was faster."""
    REPAIR = "repair"
    """It is due, but there is no entry."""
    SET_ASIDE = "set aside"
    """What is stored can't be read: a dead letter."""
    FORGET = "forget"
    """Only a newer version would know it, and its workflow is gone."""
    WAIT = "wait"
    """Its message may not be handled before a later time."""
    REAP = "reap"
    """The lease of its claim ran out."""
    SPARE = "spare"
    """The lease of its claim ran out, but its worker may have been cut off like the keeper: it gets a little longer."""
    PUBLISH = "publish"
    """It was never published since it became due."""
    AGAIN = "again"
    """It was published, and what was published after it has come back: its message is lost."""
    LOOK_LATER = "look later"
    """It waits in its queue, as far as anybody knows."""


@dataclass(frozen=True, slots=True)
class Found:
    """An entry as it was read: `due_ms` None means it is not in `due`."""

    workflow_id: str
    name: str
    entry: Entry
    due_ms: int | None
    flawed: Flawed | None = None
    is_orphan: bool = False
    """Its workflow is gone, and no worker of this version would forget it."""

    @property
    def key(self) -> str:
        """The entry's key in its partition's slot."""
        return entry_key(self.workflow_id, self.name)

    @property
    def member(self) -> str:
        """The entry's name in its partition's `due`."""
        return f"{self.workflow_id}/{self.name}"


def entry_key(workflow_id: str, name: str) -> str:
    """Return the key of a ledger entry in its partition's slot."""
    return f"{workflow_id}:{ledger(name)}"


def published_again(found: Found, queue: str) -> Outgoing:
    """Return the broker message of an entry, built from what is written.

    Not through this version's message types: a newer worker, whose entry it is, may know more of them.
    """
    kwargs = {"workflow_id": found.workflow_id, **_arguments(found.entry.a)}
    shown = {name: value for name, value in kwargs.items() if value is not None}
    return Outgoing(found.entry.t, found.member, shown, queue)


def _arguments(packed: bytes) -> dict[str, Any]:
    try:
        arguments = unpack(packed) if packed else {}
    except msgspec.DecodeError:
        arguments = {}
    return arguments if isinstance(arguments, dict) else {}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is done, and what that writes."""

    doing: Doing
    changes: tuple[Change, ...] = ()
    ledger: tuple[LedgerChange, ...] = ()

    @property
    def publishes(self) -> bool:
        """Whether the message goes out again once this is committed."""
        return self.doing in (Doing.REAP, Doing.PUBLISH, Doing.AGAIN)


def needs_probe_answers(found: Found) -> bool:
    """Return whether a verdict on this entry depends on which probes came back."""
    entry = found.entry
    return found.flawed is None and entry.exists and not entry.own and bool(entry.pub) and entry.pub >= entry.nb


def judge(
    found: Found,
    now_ms: int,
    came_back: Mapping[str, int],
    settings: Settings,
    reaps_from_ms: int,
    counts_from_ms: int = 0,
) -> Verdict:
    """Return the verdict on one entry; the first row that fits, in the order of PROTOCOL section 5.

    `now_ms` was read with the entry; `came_back` says, per queue, when the newest probe was sent that came back;
    before `reaps_from_ms` a worker that lives may not have had the time to extend its leases; no message in its queue
    is older than since `counts_from_ms`.
    """
    doing = _row(found, now_ms, came_back, reaps_from_ms)
    entry, soon = found.entry, now_ms + settings.republish_ms
    if doing is Doing.NOTHING:
        return Verdict(doing)
    if doing is Doing.SET_ASIDE:
        return _set_aside(found, now_ms)
    if doing in (Doing.REPAIR, Doing.FORGET):
        return Verdict(doing, ledger=(Drop(found.member),))
    if doing in (Doing.WAIT, Doing.SPARE):
        until_ms = entry.nb if doing is Doing.WAIT else reaps_from_ms
        marks = () if doing is Doing.WAIT else (SetFields(found.key, {"spared": until_ms}),)
        return Verdict(doing, marks, (_look(found, until_ms),))
    if entry.t not in MESSAGE_TYPES and doing is not Doing.REAP:
        return _rest(found, now_ms)
    if doing is Doing.LOOK_LATER:
        age_ms = min(now_ms - max(entry.sent, counts_from_ms), LONGEST_PAUSE_MS)
        return Verdict(doing, ledger=(_look(found, now_ms + max(settings.republish_ms, age_ms)),))
    sent = "resent" if doing is Doing.AGAIN else "pub"
    return Verdict(doing, (*_marks(doing, found.key), SetFields(found.key, {sent: now_ms})), (_look(found, soon),))


def _set_aside(found: Found, now_ms: int) -> Verdict:
    """Take out what can't be read, so that everybody can read the rest, and say so in the entry's error."""
    flawed = found.flawed or Flawed("")
    gone = tuple(name for name in flawed.fields if name not in flawed.instead)
    fields = {**flawed.instead, **ENTRY.encode(error=flawed.told)}
    changes = (DeleteFields(found.key, gone), SetFields(found.key, fields))
    return Verdict(Doing.SET_ASIDE, changes, (Bury(found.member, now_ms),))


def _rest(found: Found, now_ms: int) -> Verdict:
    """Publish what only a newer worker knows, and seldom: older ones drop it, and say so at length."""
    entry = found.entry
    fields = ENTRY.encode(pub=now_ms, rests=entry.rests + 1, parked=unknown_in(entry))
    return Verdict(Doing.PUBLISH, (SetFields(found.key, fields),), (_look(found, now_ms + rest_ms(entry)),))


def _row(found: Found, now_ms: int, came_back: Mapping[str, int], reaps_from_ms: int) -> Doing:
    entry = found.entry
    rows = (
        (found.due_ms is None or found.due_ms > now_ms, Doing.NOTHING),
        (found.flawed is not None, Doing.SET_ASIDE),
        (not entry.exists, Doing.REPAIR),
        (found.is_orphan, Doing.FORGET),
        # Once: who was spared until now, and has not extended its lease since, is lost, whoever looks.
        (bool(entry.own) and now_ms < reaps_from_ms and found.due_ms != entry.spared, Doing.SPARE),
        (bool(entry.own), Doing.REAP),
        # Dead letters that are replayed keep their not-before time: an early delivery would only be dropped.
        (entry.nb > now_ms, Doing.WAIT),
        (entry.pub == 0 or entry.pub < entry.nb, Doing.PUBLISH),
        (came_back.get(entry.q, 0) > entry.sent + CLOCK_COVER_MS, Doing.AGAIN),
    )
    return next((doing for fits, doing in rows if fits), Doing.LOOK_LATER)


def _marks(doing: Doing, key: str) -> tuple[Change, ...]:
    if doing is Doing.REAP:
        return (DeleteFields(key, ("own", "died")), Increment(key, "lost", 1))
    if doing is Doing.AGAIN:
        return (Increment(key, "again", 1),)
    return ()


def _look(found: Found, at_ms: int) -> Due:
    # An entry that was parked since it was read has left `due` without its hash being touched: it must not come back.
    return Due(found.member, at_ms, only_if_due=True)
