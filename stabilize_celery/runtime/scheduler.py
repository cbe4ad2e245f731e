"""Starts the workflows of schedules whose time has come; part of every keeper, so it needs no process of its own.

Several at once are harmless: a time's workflow has an id made of schedule and time, so it is started once whoever comes
first, and a crash between start and book-keeping only finds it again. No threads, no clock.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.ids import keyed_workflow_id
from stabilize_celery.engine.places import WORKFLOW
from stabilize_celery.engine.steps import Hash, Ranked, SetFields, Unrank, readable, workflow_slot
from stabilize_celery.errors import CommitConflictError, IdempotencyConflictError, PayloadError, UnreachableError
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.apart import for_each
from stabilize_celery.runtime.schedule_book import RECORD, ScheduleRecord, SealingBook, due_change, schedule_from
from stabilize_celery.store.contract import Session, Store, Transaction, partition_slot
from stabilize_celery.store.keys import SCHEDULES_DUE, schedule_record

__all__ = ["Scheduler", "scheduled_id"]

_AT_ONCE = 20
"""Schedules of one partition that one round looks at (count)."""
_SEALED_EVERY_MS = 3_600_000
"""How often it is looked whether schedules are encrypted with the newest key (ms)."""

logger = logging.getLogger("stabilize_celery")


class Submit(Protocol):
    """Starts a workflow, once per id."""

    def __call__(self, definition: Workflow, *, workflow_id: str) -> str:
        """Return the id. Raises as `Runtime.submit`."""
        ...


def scheduled_id(namespace: str, name: str, at_ms: int) -> str:
    """Return the id of the workflow that a schedule starts for one of its times."""
    return keyed_workflow_id(namespace, "schedule", name, str(at_ms))


class Scheduler:
    """Looks after the schedules in some partitions."""

    def __init__(self, store: Store, submit: Submit, namespace: str) -> None:
        self._store = store
        self._submit = submit
        self._namespace = namespace
        self._book = SealingBook(store)
        self._sealed_ms: dict[int, int] = {}
        """When each partition was looked at last for schedules that another key than the newest one has sealed."""

    def step(self, partitions: Sequence[int]) -> int:
        """Start what is due; return how many were started. One round trip while nothing is.

        Raises:
            UnreachableError: Redis is away, or a node of it; what was not started is still due.

        """
        if not partitions:
            return 0
        first = Ranked(SCHEDULES_DUE, _AT_ONCE)
        found = self._store.look_many([(partition_slot(number), [first]) for number in partitions])
        self._seal_anew({number: snapshot.now_ms for number, snapshot in zip(partitions, found, strict=True)})
        due = [
            (number, name)
            for number, snapshot in zip(partitions, found, strict=True)
            for name, due_ms in snapshot[first]
            if due_ms <= snapshot.now_ms
        ]
        # A schedule lies on one node, the workflow that it starts perhaps on another.
        return sum(for_each(lambda one: self._look(*one), due))

    def _seal_anew(self, now_ms: Mapping[int, int]) -> None:
        """Let no schedule need a key that may be dropped: it outlives every retention."""
        late = [at for at, now in now_ms.items() if not 0 <= now - self._sealed_ms.get(at, 0) < _SEALED_EVERY_MS]
        self._sealed_ms |= {number: now_ms[number] for number in late}
        for told in self._book.seal_anew(late) if late else ():
            logger.error("%s. It starts nothing from here. Remove it, or add it anew", told.rstrip("."))

    def _look(self, partition: int, name: str) -> int:
        key = schedule_record(name)
        with self._store.session(partition_slot(partition)) as session:
            snapshot = session.read([Hash(key)], [key])
            fields = snapshot.hash(key)
            if not fields:
                session.commit(Transaction([Unrank(SCHEDULES_DUE, name)]))
                return 0
            record = RECORD.decode(readable(fields))
            if record.is_paused or not 0 < record.next_ms <= snapshot.now_ms:
                return 0
            try:
                return self._start_due(session, key, RECORD.decode(fields), snapshot.now_ms)
            except PayloadError as error:
                # It stays due, for somebody who can read it, and says so where people look.
                if record.error != str(error):
                    session.commit(Transaction([SetFields(key, RECORD.encode(error=str(error)))]))
                return 0
            except CommitConflictError:
                # Others are at the same one: it is still due, and the next round looks again.
                return 0

    def _start_due(self, session: Session, key: str, record: ScheduleRecord, now_ms: int) -> int:
        """Start what is due, then note it; a conflict means that somebody else did, or changed it."""
        schedule, before = schedule_from(record), record.started
        for at_ms in schedule.due(record.next_ms - 1, now_ms):
            if self._must_wait(schedule, record):
                record = replace(record, skipped=record.skipped + 1)
            elif error := self._start(schedule, at_ms):
                record = replace(record, error=error)
            else:
                workflow_id = scheduled_id(self._namespace, schedule.name, at_ms)
                record = replace(record, error="", last_ms=at_ms, last_id=workflow_id, started=record.started + 1)
        record = replace(record, next_ms=schedule.next_after(now_ms))
        fields = RECORD.encode(
            next_ms=record.next_ms,
            last_ms=record.last_ms,
            last_id=record.last_id,
            started=record.started,
            skipped=record.skipped,
            error=record.error,
        )
        session.commit(Transaction([SetFields(key, fields), due_change(schedule.name, record.next_ms)]))
        return record.started - before

    def _start(self, schedule: Schedule, at_ms: int) -> str:
        """Start one; return why it could not be started."""
        workflow_id = scheduled_id(self._namespace, schedule.name, at_ms)
        try:
            self._submit(schedule.workflow_at(at_ms), workflow_id=workflow_id)
        except IdempotencyConflictError:
            # It was started before the schedule's definition was replaced.
            return ""
        except (UnreachableError, CommitConflictError):
            raise
        except Exception as error:
            logger.exception("schedule %s: the workflow for %d could not be started", schedule.name, at_ms)
            return f"{type(error).__name__}: {error}"[:2000]
        return ""

    def _must_wait(self, schedule: Schedule, record: ScheduleRecord) -> bool:
        if schedule.overlap != "skip" or not record.last_id:
            return False
        found = workflow_of(self._store.look(workflow_slot(record.last_id), [Hash(WORKFLOW)]))
        return found.is_live
