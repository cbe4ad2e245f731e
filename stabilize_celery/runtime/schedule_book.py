"""Where schedules are kept: a record each, and in every partition a sorted set of when the next ones are due."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from stabilize_celery.engine.codec import RecordCodec
from stabilize_celery.engine.steps import Change, Delete, Fields, Hash, Rank, Ranked, SetFields, Unrank, readable
from stabilize_celery.errors import ConcurrencyError, PayloadError
from stabilize_celery.models.schedule import Schedule, check_schedule
from stabilize_celery.store.contract import Store, Transaction, partition_slot
from stabilize_celery.store.keys import SCHEDULES, SCHEDULES_DUE, schedule_record

__all__ = ["RECORD", "KeptSchedule", "ScheduleBook", "ScheduleRecord", "SealingBook", "due_change", "schedule_from"]

_TRIES = 20


class ScheduleRecord(msgspec.Struct, frozen=True):
    """What stands in Redis about a schedule. Times in epoch ms.

    `spec` is all that was given, and `sealed_by` the name of the key that it is encrypted with.
    """

    spec: dict[str, Any] = {}
    sealed_by: str = ""
    next_ms: int = 0
    last_ms: int = 0
    last_id: str = ""
    started: int = 0
    skipped: int = 0
    is_paused: bool = False
    error: str = ""


RECORD = RecordCodec(ScheduleRecord)


@dataclass(frozen=True, slots=True)
class KeptSchedule:
    """A schedule as it is kept.

    Attributes:
        next_ms: When the next start is due (epoch ms); None: it is paused.
        last_ms: The time that the last start was for; None: there was none yet.
        last_id: The workflow that was started then.
        started: Workflows started so far (count).
        skipped: Times without a start because the workflow before still ran (count).
        error: Why the last start failed; empty: it did not.
        unreadable: Why it can't be read here: then `schedule` is only its name. It can be paused, removed and replaced.

    """

    schedule: Schedule
    next_ms: int | None
    last_ms: int | None
    last_id: str
    started: int
    skipped: int
    is_paused: bool
    error: str
    unreadable: str = ""

    @classmethod
    def of(cls, name: str, fields: Mapping[str, bytes]) -> "KeptSchedule":
        """Return what the record of a schedule says."""
        record, unreadable = RECORD.decode(readable(fields)), _why_closed(fields)
        schedule = Schedule(name=name, definition={}) if unreadable else schedule_from(record)
        next_ms = None if record.is_paused else record.next_ms or None
        history = (record.last_ms or None, record.last_id, record.started, record.skipped)
        return cls(schedule, next_ms, *history, record.is_paused, record.error or unreadable, unreadable)


def _why_closed(fields: Mapping[str, bytes]) -> str:
    try:
        fields.get("spec")
    except PayloadError as error:
        return str(error)
    return ""


def schedule_from(record: ScheduleRecord) -> Schedule:
    """Return the schedule of a record; fields that this version does not know are left out."""
    names = Schedule.__dataclass_fields__
    return Schedule(**{name: value for name, value in record.spec.items() if name in names})


def due_change(name: str, next_ms: int) -> Change:
    """Return the change that makes a schedule due then; 0: never."""
    return Rank(SCHEDULES_DUE, name, next_ms) if next_ms else Unrank(SCHEDULES_DUE, name)


class ScheduleBook:
    """Adds, changes and finds the schedules of a namespace. Every method may raise `UnreachableError`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, schedule: Schedule) -> KeptSchedule:
        """Add a schedule; one of the same name is replaced, and keeps its history.

        Raises:
            InvalidWorkflowError: the text lists every problem with its path.

        """
        check_schedule(schedule)

        def added(_: Mapping[str, bytes], now_ms: int) -> list[Change]:
            begun = replace(schedule, start_ms=schedule.start_ms or now_ms)
            next_ms = begun.next_after(now_ms)
            sealed_by = self._store.newest_key
            fields = RECORD.encode(
                spec=begun.to_dict(), sealed_by=sealed_by, next_ms=next_ms, is_paused=False, error=""
            )
            return [
                SetFields(schedule_record(schedule.name), fields),
                Rank(SCHEDULES, schedule.name, now_ms, if_absent=True),
                due_change(schedule.name, next_ms),
            ]

        self._change(schedule.name, added)
        kept = self.get(schedule.name)
        if kept is None:
            raise ConcurrencyError(f"schedule {schedule.name!r} was removed while it was added")
        return kept

    def get(self, name: str) -> KeptSchedule | None:
        """Return a schedule; None: there is none of that name."""
        key = schedule_record(name)
        fields = self._store.look(partition_slot(self._store.partition_of(name)), [Hash(key)]).hash(key)
        return KeptSchedule.of(name, fields) if fields else None

    def all(self) -> list[KeptSchedule]:
        """Return all schedules by name, those that can't be read here as such; in two round trips."""
        found = self._records(range(self._store.partitions()), Hash)
        return sorted((KeptSchedule.of(name, fields) for name, fields in found), key=lambda kept: kept.schedule.name)

    def _records(
        self, partitions: Sequence[int], query: Callable[[str], Hash | Fields]
    ) -> Iterable[tuple[str, Mapping[str, bytes]]]:
        """Yield what a query of its record says of each schedule in these partitions, in two round trips."""
        names = Ranked(SCHEDULES)
        slots = [partition_slot(number) for number in partitions]
        found = self._store.look_many([(slot, [names]) for slot in slots]) if slots else []
        known = [(slot, [name for name, _ in one[names]]) for slot, one in zip(slots, found, strict=True)]
        asked = [(slot, {name: query(schedule_record(name)) for name in mine}) for slot, mine in known if mine]
        read = self._store.look_many([(slot, list(queries.values())) for slot, queries in asked]) if asked else []
        for (_, queries), snapshot in zip(asked, read, strict=True):
            yield from ((name, snapshot[one]) for name, one in queries.items() if snapshot[one])

    def pause(self, name: str) -> bool:
        """Let nothing start until `resume`; False: there is no such schedule."""
        fields = RECORD.encode(is_paused=True)
        return self._change_known(name, lambda _, __: [SetFields(schedule_record(name), fields), due_change(name, 0)])

    def resume(self, name: str) -> bool:
        """Go on with the next time from now: times while it was paused were not missed. False: no such schedule.

        Raises:
            PayloadError: it can't be read here.

        """

        def resumed(known: Mapping[str, bytes], now_ms: int) -> list[Change]:
            next_ms = schedule_from(RECORD.decode(known)).next_after(now_ms)
            fields = RECORD.encode(is_paused=False, next_ms=next_ms)
            return [SetFields(schedule_record(name), fields), due_change(name, next_ms)]

        return self._change_known(name, resumed)

    def remove(self, name: str) -> bool:
        """Forget a schedule; workflows that it has started go on. False: there is no such schedule."""
        gone: list[Change] = [Delete((schedule_record(name),)), Unrank(SCHEDULES, name), due_change(name, 0)]
        return self._change_known(name, lambda _, __: gone)

    def _change_known(self, name: str, change: Callable[[Mapping[str, bytes], int], Sequence[Change]]) -> bool:
        return self._change(name, lambda known, now_ms: change(known, now_ms) if known else ())

    def _change(self, name: str, change: Callable[[Mapping[str, bytes], int], Sequence[Change]]) -> bool:
        """Read, decide and commit, again after a conflict; False: there was nothing to change."""
        key = schedule_record(name)
        slot = partition_slot(self._store.partition_of(name))
        for _ in range(_TRIES):
            with self._store.session(slot) as session:
                snapshot = session.read([Hash(key)], [key])
                changes = change(snapshot.hash(key), snapshot.now_ms)
                if not changes:
                    return False
                if session.commit(Transaction(changes)) is not None:
                    return True
        raise ConcurrencyError(f"schedule {name!r} is changed by others all the time: try again")


class SealingBook(ScheduleBook):
    """The schedules as workers look after them: no client has to."""

    def seal_anew(self, partitions: Sequence[int]) -> list[str]:
        """Encrypt the schedules of some partitions with the newest key, where they are not: they outlive all others.

        Returns why some can't be read here. Two round trips, and a commit for each that is not.
        """
        key, unreadable = self._store.newest_key, list[str]()
        for name, fields in self._records(partitions, lambda record: Fields(record, ("sealed_by",))) if key else ():
            if fields.get("sealed_by", b"").decode() == key:
                continue
            try:
                self._change_known(name, lambda known, _: _sealed_with(key, known))
            except PayloadError as error:
                unreadable.append(f"schedule {name!r}: {error}")
        return unreadable


def _sealed_with(key: str, known: Mapping[str, bytes]) -> list[Change]:
    record = RECORD.decode(known)
    return [SetFields(schedule_record(str(record.spec["name"])), RECORD.encode(spec=record.spec, sealed_by=key))]
