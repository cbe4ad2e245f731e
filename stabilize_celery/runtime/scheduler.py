"""Starts the workflows of schedules whose time has come; part of every keeper, so it needs no process of its own.

Several at once are harmless: a time's workflow has an id made of schedule and time, so it is started once whoever comes
first, and a crash between start and book-keeping only finds it again. No threads, no clock.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.ids import keyed_workflow_id
from stabilize_celery.engine.places import WORKFLOW
from stabilize_celery.engine.steps import Hash, Ranked, readable, workflow_slot
from stabilize_celery.errors import (
    CommitConflictError,
    ConcurrencyError,
    IdempotencyConflictError,
    PayloadError,
    UnreachableError,
)
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.apart import for_each
from stabilize_celery.runtime.schedule_book import RECORD, DueBook, Outcome, schedule_from
from stabilize_celery.store.contract import Store, partition_slot
from stabilize_celery.store.keys import SCHEDULES_DUE, schedule_record

__all__ = ["Scheduler", "scheduled_id"]

_AT_ONCE = 20
"""Schedules of one partition that one round looks at (count)."""
_AGAIN_MS = 60_000
"""After how long one is looked at again that could not be (ms)."""
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
        self._book = DueBook(store)
        self._submit = submit
        self._namespace = namespace
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
        now_ms = {number: snapshot.now_ms for number, snapshot in zip(partitions, found, strict=True)}
        due = [
            (number, name)
            for number, snapshot in zip(partitions, found, strict=True)
            for name, due_ms in snapshot[first]
            if due_ms <= snapshot.now_ms
        ]
        # A schedule lies on one node, the workflow that it starts perhaps on another.
        started = sum(for_each(lambda one: self._look(*one), due))
        self._seal_anew(now_ms)
        return started

    def _seal_anew(self, now_ms: Mapping[int, int]) -> None:
        """Let no schedule need a key that may be dropped: it outlives every retention."""
        late = [at for at, now in now_ms.items() if not 0 <= now - self._sealed_ms.get(at, 0) < _SEALED_EVERY_MS]
        if late:
            for_each(self._seal, self._book.not_sealed_by_newest(late))
            self._sealed_ms |= {number: now_ms[number] for number in late}

    def _seal(self, name: str) -> None:
        try:
            self._book.seal_anew(name)
        except Exception as error:
            if not _is_its_own(error):
                raise
            logger.exception("schedule %r can't be encrypted with the newest key", name)

    def _look(self, partition: int, name: str) -> int:
        try:
            return self._start_due(partition, name)
        except ConcurrencyError:
            # Others are at the same one: it is still due, and the next round looks again.
            return 0
        except Exception as error:
            if not _is_its_own(error):
                raise
            # It may be this worker alone that can't read it, or its time zone: no other schedule waits for that.
            logger.exception("schedule %r can't be looked at; it is tried again in a minute", name)
            self._book.put_off(name, self._store.time_ms() + _AGAIN_MS, _told(error))
            return 0

    def _start_due(self, partition: int, name: str) -> int:
        """Start what is due, then book it; return how many were started."""
        query = Hash(schedule_record(name))
        snapshot = self._store.look(partition_slot(partition), [query])
        fields, now_ms = snapshot[query], snapshot.now_ms
        record = RECORD.decode(readable(fields))
        if not fields or record.is_paused:
            self._book.strike(name)
            return 0
        if not 0 < record.next_ms <= now_ms:
            return 0
        schedule = schedule_from(RECORD.decode(fields))
        started: list[tuple[int, str]] = []
        skipped, error, last_id = 0, record.error, record.last_id
        for at_ms in schedule.due(record.next_ms - 1, now_ms, (record.paused_ms, record.resumed_ms)):
            if schedule.overlap == "skip" and self._runs(last_id):
                skipped += 1
            elif not (error := self._start(schedule, at_ms)):
                last_id = scheduled_id(self._namespace, schedule.name, at_ms)
                started.append((at_ms, last_id))
        self._book.note(name, record.next_ms, Outcome(started, skipped, error, schedule.next_after(now_ms)))
        return len(started)

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
            return _told(error)
        return ""

    def _runs(self, workflow_id: str) -> bool:
        if not workflow_id:
            return False
        return workflow_of(self._store.look(workflow_slot(workflow_id), [Hash(WORKFLOW)])).is_live


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def _is_its_own(error: Exception) -> bool:
    """Return whether an error is about one schedule, and not that a server is away."""
    return isinstance(error, PayloadError) or not isinstance(error, UnreachableError)
