"""What a worker's main process does in the background: keeper rounds, heartbeats, its line in the fleet registry."""

import logging
import math
import os
import platform
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path

from stabilize_celery.engine.steps import Value
from stabilize_celery.errors import UnreachableError
from stabilize_celery.runtime.apart import for_each
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.leases import Leases
from stabilize_celery.runtime.ports import Claim, Publisher
from stabilize_celery.runtime.scheduler import Scheduler
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.runtime.sweep import SWEEP_EVERY_MS, Sweep
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.telemetry.tally import Count
from stabilize_celery.transport.incoming import split_task_id
from stabilize_celery.transport.reports import Report, Reports
from stabilize_celery.transport.turns import Turns

__all__ = ["SCHEDULES_EVERY_S", "Attempt", "Upkeep", "fleet_line"]

SCHEDULES_EVERY_S = 1.0
"""How often schedules are looked at, so how late a start may be (s)."""
_ANNOUNCEMENTS = 3
"""Who misses so many is not there; who is there has made one by then."""
_TIME_OUTS = 2
"""How long a worker that shuts down goes on against servers that do not answer, in time-outs: a node costs one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A RunTask that a process of this worker executes, claimed or about to be; `since_s` is epoch time."""

    task_id: str
    task_type: str
    since_s: float


class Upkeep:
    """The background work of one worker, without its threads.

    Args:
        running: Returns the attempts that run on this worker now.
        line: Returns what the fleet registry says of this worker.
        time_limit_s: Returns how long one execution of a task type may take (s), or None.
        turns: What its processes go on with, beside that.

    """

    def __init__(  # noqa: PLR0913 - all that a main process has
        self,
        store: Store,
        publisher: Publisher,
        settings: Settings,
        worker_id: str,
        reports: Reports,
        *,
        running: Callable[[], Sequence[Attempt]],
        line: Callable[[], Mapping[str, Value]],
        time_limit_s: Callable[[str], float | None],
        turns: Turns | None = None,
    ) -> None:
        self.keeper = Keeper(store, publisher, settings, worker_id)
        self.sweep = Sweep(store, publisher, settings)
        starter = Runtime(store, TaskRegistry(), publisher, settings, worker_id)
        self.scheduler = Scheduler(store, starter.submit, settings.namespace)
        self._leases = Leases(store, publisher, settings, worker_id)
        self._store = store
        self._settings = settings
        self._worker_id = worker_id
        self._reports = reports
        self._running = running
        self._line = line
        self._time_limit_s = time_limit_s
        self._turns = turns
        self._lost = 0
        self._is_partly_away = False
        self._renew_at = self._announce_at = self._beat_at = self._schedules_at = 0.0
        self._sweep_at = time.monotonic() + SWEEP_EVERY_MS / 1000
        self._attendance_at = time.monotonic() + _ANNOUNCEMENTS * settings.announce_ms / 1000

    def keeper_round(self) -> float:
        """Look after what is owed; return the pause before the next round (s).

        Raises:
            UnreachableError: Redis is away: no node of it answers.

        """
        self._show_life()
        now = time.monotonic()
        if now >= self._renew_at:
            self.keeper.renew()
            self._renew_at = now + self.keeper.lease_ms / 3000
        pause_ms = self.keeper.tick()
        self._do_chores(now)
        return pause_ms / 1000

    def _do_chores(self, now: float) -> None:
        """Do what else there is: what fails in it must not slow the keeper down, nor hold up the rest of it.

        Such as what lies on a node of a cluster that is away.
        """
        chores = (self._announce, self._check_attendance, self._start_scheduled, self._sweep_on)
        try:
            for_each(lambda chore: _done(chore, now), chores)
        except UnreachableError as error:
            if not self._is_partly_away:
                logger.warning("a part of the state is out of reach, and all that lies there waits: %s", error)
            self._is_partly_away = True
        else:
            self._is_partly_away = False

    def _announce(self, now: float) -> None:
        if now >= self._announce_at:
            # Whatever else fails, failed at once again: only servers come back by themselves.
            self._announce_at = now + self._settings.announce_ms / 1000
            try:
                self._store.announce(self._worker_id, {**self._line(), **self._repairs()})
            except UnreachableError:
                self._announce_at = now
                raise

    def _check_attendance(self, now: float) -> None:
        """Say once, soon after the start, which of the queues that every fleet needs no worker consumes."""
        if now < self._attendance_at:
            return
        fleet = Fleet(self._store.fleet(), self._store.time_ms())
        self._attendance_at = math.inf
        waiting = {
            self._settings.control_queue: "no workflow moves on",
            self._settings.work_queue: "no task without one of its own runs",
        }
        for queue in sorted(queue for queue in waiting if not fleet.listening(queue)):
            logger.warning("no worker listens on queue %r: %s. Start one with -Q %s", queue, waiting[queue], queue)

    def _start_scheduled(self, now: float) -> None:
        if now >= self._schedules_at:
            self._schedules_at = now + SCHEDULES_EVERY_S
            self.scheduler.step(self.keeper.held)

    def _sweep_on(self, now: float) -> None:
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY_MS / 1000
            self.sweep.step(self.keeper.held, int(now * 1000))

    def heartbeat_round(self) -> float:
        """Act on reports, extend the leases of running attempts; return the pause before the next round (s).

        Raises:
            UnreachableError: Redis is away, or a node of it; what lies on the others was done, and reports wait.

        """
        for_each(lambda step: step(), (self._act_on_reports, self._beat))
        return max(0.0, self._beat_at - time.monotonic())

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._beat_at:
            self._leases.extend(self._claims())
            self._beat_at = now + self._settings.lease_ms / 3000

    def finish(self) -> None:
        """Give back what this worker still holds. Does what it can: all of it runs out by itself, too.

        What lies on nodes of a cluster that answer is given back; where nothing does, nobody waits for long.
        """
        steps: list[Callable[[], None]] = [self._act_on_reports]
        steps += (partial(self._hand_back, attempt) for attempt in self._attempts())
        steps += (self.keeper.give_back, partial(self._store.retire, self._worker_id))
        patient_until = time.monotonic() + _TIME_OUTS * self._settings.socket_timeout_ms / 1000
        is_told = False
        for step in steps:
            try:
                step()
            except UnreachableError as error:
                if not is_told:
                    logger.warning("shutdown: %s What was held there runs out by itself.", error)
                is_told = True
                if time.monotonic() > patient_until:
                    return

    def _show_life(self) -> None:
        """Touch the file that probes look at; that Redis is away is not this worker's death."""
        if not self._settings.alive_file:
            return
        try:
            Path(self._settings.alive_file).touch()
        except OSError as error:
            logger.warning("STABILIZE_ALIVE_FILE can't be written: %s", error)

    def counts(self) -> list[Count]:
        """Return what this worker's main process has done, and does now, as metrics."""
        keeper, sweep = self.keeper.stats, self.sweep.stats
        return [
            ("stabilize_keeper_published", ("due",), keeper.published),
            ("stabilize_keeper_published", ("lost",), keeper.again),
            ("stabilize_lease_losses", (), keeper.reaped + self._lost),
            ("stabilize_repairs", (), keeper.repaired + sweep.repaired),
            ("stabilize_set_aside", (), keeper.set_aside),
            ("stabilize_keeper_conflicts", (), keeper.conflicts),
            ("stabilize_unpublished", (), keeper.unpublished),
            ("stabilize_partitions_held", (), len(self.keeper.held)),
            ("stabilize_tasks_running", (), len(self._attempts())),
        ]

    def _repairs(self) -> dict[str, Value]:
        """Return what the fleet registry says of repairs: none is normal."""
        keeper, sweep = self.keeper.stats, self.sweep.stats
        return {"repaired": keeper.repaired + sweep.repaired, "set_aside": keeper.set_aside}

    def _claims(self) -> list[Claim]:
        claims = []
        for attempt in self._attempts():
            limit_s = self._time_limit_s(attempt.task_type)
            if limit_s is None or time.time() - attempt.since_s <= limit_s:
                claims.append(Claim(*split_task_id(attempt.task_id), self._worker_id))
        return claims

    def _attempts(self) -> list[Attempt]:
        going = self._turns.all() if self._turns is not None else []
        return [*self._running(), *(Attempt(one.task_id, one.task_type, one.since_s) for one in going)]

    def _act_on_reports(self) -> None:
        for_each(self._act_on, self._reports.waiting())

    def _act_on(self, report: Report) -> None:
        try:
            for_each(self._act_on_one, (report, *(replace(report, task_id=task_id) for task_id in report.going)))
        except UnreachableError:
            raise
        except Exception:
            # Tried for ever, it would hold up the heartbeats of all that runs here.
            logger.exception("%s: what became of its process can't be told; its lease runs out", report.task_id)
        self._reports.done(report)

    def _act_on_one(self, report: Report) -> None:
        workflow_id, name = split_task_id(report.task_id)
        if not report.is_lost:
            self._leases.hand_back(workflow_id, name, self._worker_id)
            return
        owner = self._worker_id if report.pid is None else f"{self._worker_id}:{report.pid}"
        if self._leases.report_lost(workflow_id, name, owner, report.died):
            self._lost += 1
            why = f" ({report.died})" if report.died else ""
            logger.warning("%s: the process that ran it is gone%s; it is tried again", report.task_id, why)

    def _hand_back(self, attempt: Attempt) -> None:
        if self._leases.hand_back(*split_task_id(attempt.task_id), self._worker_id):
            logger.info("%s: handed back at shutdown", attempt.task_id)


def fleet_line(node: str, types: Sequence[str], queues: Sequence[str], **more: Value) -> dict[str, Value]:
    """Return a worker's line of the fleet registry; lists are one name per line.

    `more`: what producers must have as this worker has it, for `doctor` to compare.
    """
    return {
        "node": node,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "types": "\n".join(types),
        "queues": "\n".join(queues),
        "version": metadata.version("stabilize-celery"),
        "python": platform.python_version(),
        **more,
    }


def _done(chore: Callable[[float], None], now: float) -> None:
    """Do a chore. Raises UnreachableError; any other error is told, and the chore is tried again."""
    try:
        chore(now)
    except UnreachableError:
        raise
    except Exception:
        logger.exception("%s: failed; it is tried again", chore.__name__.strip("_"))
