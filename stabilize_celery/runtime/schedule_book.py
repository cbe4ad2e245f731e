"""Where schedules are kept: a record each, and in every partition a sorted set of when the next ones are due."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from stabilize_celery.engine.codec import RecordCodec
from stabilize_celery.engine.steps import Change, Delete, Fields, Hash, Rank, Ranked, SetFields, Unrank, readable
from stabilize_celery.errors import ConcurrencyError, PayloadError
from stabilize_celery.models.problems import shown
from stabilize_celery.models.schedule import Schedule, check_schedule, find_name_flaw
from stabilize_celery.store.contract import Store, Transaction, partition_slot
from stabilize_celery.store.keys import SCHEDULES, SCHEDULES_DUE, schedule_record

__all__ = [
    "RECORD",
    "DueBook",
    "KeptSchedule",
    "Outcome",
    "ScheduleBook",
    "ScheduleRecord",
    "due_change",
    "schedule_from",
]

_TRIES = 20
_TIMES = ("cron", "every_s", "timezone")
"""What a schedule's times follow from, beside their start."""


class ScheduleRecord(msgspec.Struct, frozen=True):
    """What stands in Redis about a schedule. Times in epoch ms.

    `spec` is all that was given, and `sealed_by` the name of the key that it is encrypted with.
    `paused_ms` and `resumed_ms`: the last pause, from and to. Only times in it don't count: others may still be due.
    """

    spec: dict[str, Any] = {}
    sealed_by: str = ""
    next_ms: int = 0
    last_ms: int = 0
    last_id: str = ""
    started: int = 0
    skipped: int = 0
    is_paused: bool = False
    paused_ms: int = 0
    resumed_ms: int = 0
    error: str = ""


RECORD = RecordCodec(ScheduleRecord)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the times of a schedule that were due.

    Attributes:
        started: Each time that a workflow was started for, and its id, oldest first.
        skipped: Times without a start because the workflow before still ran (count).
        error: Why the last start failed; empty: it did not.
        next_ms: When the next time comes.

    """

    started: Sequence[tuple[int, str]]
    skipped: int
    error: str
    next_ms: int


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


def _could_be(name: str) -> bool:
    """Return whether a schedule could have this name. Raises TypeError: it is no text."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a schedule must be text, not {shown(name)}")
    return not find_name_flaw(name)


class _Records:
    """The records of a namespace's schedules, each changed as a whole."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _change_known(
        self, name: str, change: Callable[[ScheduleRecord, int], Sequence[Change]], *, is_opened: bool = False
    ) -> bool:
        return self._change(
            name, lambda record, now_ms: change(record, now_ms) if record else None, is_opened=is_opened
        )

    def _change(
        self,
        name: str,
        change: Callable[[ScheduleRecord | None, int], Sequence[Change] | None],
        *,
        is_opened: bool = False,
    ) -> bool:
        """Read, decide and commit, again after a conflict; False: there was nothing to decide about (None).

        A spec that can't be read here is empty. `is_opened`: that raises PayloadError.
        """
        key = schedule_record(name)
        slot = partition_slot(self._store.partition_of(name))
        for _ in range(_TRIES):
            with self._store.session(slot) as session:
                snapshot = session.read([Hash(key)], [key])
                fields = snapshot.hash(key)
                record = RECORD.decode(fields if is_opened else readable(fields)) if fields else None
                changes = change(record, snapshot.now_ms)
                if changes is None:
                    return False
                if not changes or session.commit(Transaction(changes)) is not None:
                    return True
        raise ConcurrencyError(f"schedule {name!r} is changed by others all the time: try again")

    def _look_at_each(
        self, partitions: Sequence[int], query: Callable[[str], Hash | Fields]
    ) -> Iterable[tuple[str, Mapping[str, bytes]]]:
        """Yield what a query of its record says of each schedule in these partitions, in two round trips."""
        names = Ranked(SCHEDULES)
        slots = [partition_slot(number) for number in partitions]
        found = self._store.look_many([(slot, [names]) for slot in slots])
        known = [(slot, [name for name, _ in one[names]]) for slot, one in zip(slots, found, strict=True)]
        asked = [(slot, {name: query(schedule_record(name)) for name in mine}) for slot, mine in known if mine]
        read = self._store.look_many([(slot, list(queries.values())) for slot, queries in asked])
        for (_, queries), snapshot in zip(asked, read, strict=True):
            yield from ((name, snapshot[one]) for name, one in queries.items() if snapshot[one])


class ScheduleBook(_Records):
    """Adds, changes and finds the schedules of a namespace.

    Every method may raise `UnreachableError`; those that take a name raise TypeError if it is no text.
    """

    def add(self, schedule: Schedule) -> KeptSchedule:
        """Add a schedule; one of the same name is replaced, and keeps its history and its pause.

        With the same times (cron or interval, time zone, start) it goes on with them: what is due stays due.

        Raises:
            TypeError: it is no `Schedule`.
            InvalidWorkflowError: the text lists every problem with its path.

        """
        check_schedule(schedule)
        schedule = replace(schedule, cron=" ".join(schedule.cron.split()))

        def added(record: ScheduleRecord | None, now_ms: int) -> list[Change]:
            before = record or ScheduleRecord()
            if goes_on := _has_times_of(schedule, before, now_ms):
                start_ms = before.spec["start_ms"]
            else:
                start_ms = schedule.start_ms or now_ms
            begun = replace(schedule, start_ms=start_ms)
            next_ms = before.next_ms if goes_on else begun.next_after(now_ms)
            sealed_by = self._store.newest_key
            fields = RECORD.encode(spec=begun.to_dict(), sealed_by=sealed_by, next_ms=next_ms, error="")
            return [
                SetFields(schedule_record(schedule.name), fields),
                Rank(SCHEDULES, schedule.name, now_ms, if_absent=True),
                due_change(schedule.name, 0 if before.is_paused else next_ms),
            ]

        self._change(schedule.name, added)
        kept = self.get(schedule.name)
        if kept is None:
            raise ConcurrencyError(f"schedule {schedule.name!r} was removed while it was added")
        return kept

    def get(self, name: str) -> KeptSchedule | None:
        """Return a schedule; None: there is none of that name."""
        if not _could_be(name):
            return None
        key = schedule_record(name)
        fields = self._store.look(partition_slot(self._store.partition_of(name)), [Hash(key)]).hash(key)
        return KeptSchedule.of(name, fields) if fields else None

    def all(self) -> list[KeptSchedule]:
        """Return all schedules by name, those that can't be read here as such; in two round trips."""
        found = self._look_at_each(range(self._store.partitions()), Hash)
        return sorted((KeptSchedule.of(name, fields) for name, fields in found), key=lambda kept: kept.schedule.name)

    def pause(self, name: str) -> bool:
        """Let nothing start until `resume`; False: there is no such schedule."""

        def paused(record: ScheduleRecord, now_ms: int) -> list[Change]:
            if record.is_paused:
                return []
            # What was due before an earlier pause may still be: from then on nothing counts.
            since_ms = record.paused_ms if 0 < record.next_ms <= record.paused_ms else now_ms
            fields = RECORD.encode(is_paused=True, paused_ms=since_ms)
            return [SetFields(schedule_record(name), fields), due_change(name, 0)]

        return _could_be(name) and self._change_known(name, paused)

    def resume(self, name: str) -> bool:
        """Go on with the next time from now: times while it was paused were not missed, those before it may have been.

        One that is not paused stays as it is. False: there is no such schedule.

        Raises:
            PayloadError: it can't be read here.

        """

        def resumed(record: ScheduleRecord, now_ms: int) -> list[Change]:
            if not record.is_paused:
                return []
            is_due = 0 < record.next_ms <= record.paused_ms
            next_ms = record.next_ms if is_due else schedule_from(record).next_after(now_ms)
            fields = RECORD.encode(is_paused=False, resumed_ms=now_ms, next_ms=next_ms)
            return [SetFields(schedule_record(name), fields), due_change(name, next_ms)]

        return _could_be(name) and self._change_known(name, resumed, is_opened=True)

    def remove(self, name: str) -> bool:
        """Forget a schedule; workflows that it has started go on. False: there is no such schedule."""
        gone: list[Change] = [Delete((schedule_record(name),)), Unrank(SCHEDULES, name), due_change(name, 0)]
        return _could_be(name) and self._change_known(name, lambda _, __: gone)


class DueBook(_Records):
    """Where it is booked what became of the times that were due. Every method may raise `UnreachableError`."""

    def note(self, name: str, due_ms: int, found: Outcome) -> None:
        """Book what became of the times that were due from `due_ms` on; a schedule that is gone stays so.

        Where somebody else has been faster, or other times were given meanwhile, only starts that nobody booked are.
        """

        def noted(record: ScheduleRecord, _: int) -> list[Change]:
            fields: dict[str, Any] = {}
            starts = [at_ms for at_ms, _ in found.started if at_ms > record.last_ms]
            if starts:
                last_ms, last_id = found.started[-1]
                fields = {"last_ms": last_ms, "last_id": last_id, "started": record.started + len(starts)}
            if record.next_ms != due_ms:
                return [SetFields(schedule_record(name), RECORD.encode(**fields))] if fields else []
            fields |= {"skipped": record.skipped + found.skipped, "error": found.error, "next_ms": found.next_ms}
            when_ms = 0 if record.is_paused else found.next_ms
            return [SetFields(schedule_record(name), RECORD.encode(**fields)), due_change(name, when_ms)]

        self._change_known(name, noted)

    def put_off(self, name: str, until_ms: int, error: str) -> None:
        """Look at a schedule again then, and say what is wrong with it, which may be its record; its times stay due."""
        key = schedule_record(name)
        with self._store.session(partition_slot(self._store.partition_of(name))) as session:
            if session.read([Hash(key)], [key]).hash(key):
                changes = [SetFields(key, RECORD.encode(error=error)), due_change(name, until_ms)]
                session.commit(Transaction(changes))

    def strike(self, name: str) -> None:
        """Let a name be due no longer that no schedule has, or one that is paused."""
        self._change(name, lambda record, _: [] if record and not record.is_paused else [due_change(name, 0)])

    def not_sealed_by_newest(self, partitions: Sequence[int]) -> list[str]:
        """Return the schedules of some partitions that need another key than the newest; in two round trips."""
        key = self._store.newest_key.encode()
        found = self._look_at_each(partitions, lambda record: Fields(record, ("sealed_by",))) if key else ()
        return [name for name, fields in found if fields.get("sealed_by", b"") != key]

    def seal_anew(self, name: str) -> None:
        """Encrypt a schedule with the newest key. Raises PayloadError: it can't be read here."""
        key = self._store.newest_key

        def sealed(record: ScheduleRecord, _: int) -> list[Change]:
            return [SetFields(schedule_record(name), RECORD.encode(spec=record.spec, sealed_by=key))]

        self._change_known(name, sealed, is_opened=True)


def _has_times_of(schedule: Schedule, record: ScheduleRecord, now_ms: int) -> bool:
    """Return whether a schedule means the times that a record has; without a start it means one that has begun."""
    begun_ms = record.spec.get("start_ms", 0)
    is_start = schedule.start_ms == begun_ms if schedule.start_ms else 0 < begun_ms <= now_ms
    return is_start and record.next_ms > 0 and all(record.spec.get(one) == getattr(schedule, one) for one in _TIMES)
