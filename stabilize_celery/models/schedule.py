"""Schedule: when a workflow starts by itself, again and again. Pure: times are given, in epoch milliseconds."""

import datetime as dt
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo

from stabilize_celery.models.cron import Cron, find_cron_flaw
from stabilize_celery.models.definition import from_definition, to_definition
from stabilize_celery.models.problems import Problem, refusal, shown
from stabilize_celery.models.validation import find_problems
from stabilize_celery.models.workflow import Workflow

__all__ = ["MAX_MISSED", "MISSED", "ON_TIME_MS", "OVERLAP", "Schedule", "check_schedule", "find_name_flaw"]

MISSED = SKIP, ONCE, ALL = "skip", "once", "all"
"""What becomes of times at which no worker ran: nothing; one start for the newest of them; one for each."""
OVERLAP = "allow", "skip"
"""Whether one is started while the one before still runs."""
ON_TIME_MS = 60_000
"""A time that is not longer ago than this was not missed: it is only late."""
MAX_MISSED = 1_000
"""Starts that one return of the workers may cause at most (count)."""
_MAX_NAME = 200
_MIN_EVERY_S = 1.0
_LAST_YEAR_MS = 2**47
_KINDS: tuple[tuple[tuple[str, ...], Any, str], ...] = (
    (("name", "cron", "timezone", "missed", "overlap"), str, "text"),
    (("every_s",), int | float | None, "a number of seconds"),
    (("max_missed", "start_ms"), int, "a whole number"),
    (("definition",), Workflow | Mapping, "a Workflow, or an object"),
)
_CONTROLS = frozenset({"Cc", "Zl", "Zp"})
"""Kinds of characters that break lines or steer a terminal."""
_SURROGATE = "Cs"
_ZONES_OF_A_HOST = frozenset({"localtime", "posixrules"})
"""Names that stand for another zone on each host, if for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A workflow and its times.

    Attributes:
        name: What it is found by; one of a name per namespace.
        definition: The workflow's definition, as JSON has it, or a `Workflow`.
        cron: Five fields (minute, hour, day, month, weekday), six with seconds first, or `@daily` and the like; in
            `timezone`.
        every_s: In place of `cron`: the seconds between two starts, counted from `start_ms`.
        timezone: A name such as `Europe/Berlin`; clock changes are as cron's.
        missed: `skip`, `once` or `all`: see `MISSED`.
        max_missed: With `all`: the newest so many of them (count).
        overlap: `allow`, or `skip` a time at which the workflow before still runs.
        start_ms: No start before then; 0: from now on.

    """

    name: str
    definition: Mapping[str, Any] | Workflow = field(repr=False)
    cron: str = ""
    every_s: float | None = None
    timezone: str = "UTC"
    missed: str = ONCE
    max_missed: int = 100
    overlap: str = "allow"
    start_ms: int = 0

    def next_after(self, at_ms: int) -> int:
        """Return the first time after `at_ms`."""
        if self.every_s is not None:
            step_ms = round(self.every_s * 1000)
            return self.start_ms + max(0, (at_ms - self.start_ms) // step_ms + 1) * step_ms
        return next(Cron(self.cron, self.timezone).after(max(at_ms, self.start_ms - 1)))

    def newest(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """Return the newest `limit` times after `after_ms` and up to `until_ms`, oldest first."""
        is_cron = self.every_s is None
        times = Cron(self.cron, self.timezone).until(until_ms) if is_cron else self._steps_back(until_ms)
        first = max(after_ms + 1, self.start_ms)
        return list(islice(takewhile(lambda at_ms: at_ms >= first, times), limit))[::-1]

    def due(self, after_ms: int, now_ms: int, pause: tuple[int, int] = (0, 0)) -> list[int]:
        """Return the times to start at now, of those after `after_ms`: what is only late, and what `missed` says.

        `pause`: Times after the first of these, up to the second, don't count.
        """
        limit = max(self.max_missed if self.missed == ALL else ON_TIME_MS // 1000, 1)
        paused_ms, resumed_ms = pause
        times = self.newest(max(after_ms, resumed_ms), now_ms, limit)
        if after_ms < paused_ms and len(times) < limit:
            times = [*self.newest(after_ms, paused_ms, limit - len(times)), *times]
        on_time = [at_ms for at_ms in times if now_ms - at_ms <= ON_TIME_MS]
        if self.missed == ALL:
            return times
        return on_time if self.missed == SKIP else on_time or times[-1:]

    def workflow_at(self, at_ms: int) -> Workflow:
        """Return the workflow for one of its times: it sees `scheduled_for` (ISO 8601), and is triggered by us."""
        workflow = from_definition(_plain(self.definition))
        when = self._local(at_ms)
        workflow.context.setdefault("scheduled_for", when.isoformat())
        workflow.trigger.type = "schedule"
        workflow.trigger.parameters = {**workflow.trigger.parameters, "schedule": self.name}
        return workflow

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        names = ("name", "cron", "every_s", "timezone", "missed", "max_missed", "overlap", "start_ms")
        return {**{name: getattr(self, name) for name in names}, "definition": _plain(self.definition)}

    def _steps_back(self, until_ms: int) -> Iterator[int]:
        step_ms = round((self.every_s or _MIN_EVERY_S) * 1000)
        newest = self.start_ms + (until_ms - self.start_ms) // step_ms * step_ms
        return iter(range(newest, self.start_ms - 1, -step_ms))

    def _local(self, at_ms: int) -> dt.datetime:
        return dt.datetime.fromtimestamp(at_ms / 1000, ZoneInfo(self.timezone))


def check_schedule(schedule: Schedule) -> None:
    """Check all of it.

    Raises:
        TypeError: it is no `Schedule`.
        InvalidWorkflowError: the text lists every problem with its path.

    """
    if not isinstance(schedule, Schedule):
        raise TypeError(f"expected a Schedule, such as Schedule(name=…, definition=…, cron=…), got {shown(schedule)}")
    problems = [Problem(path, told) for path, told in _kinds(schedule) if told]
    if problems:
        raise refusal(problems, str(schedule.name))
    problems = [Problem(path, told) for path, told in _flaws(schedule) if told]
    try:
        inner = find_problems(from_definition(_plain(schedule.definition)))
    except ValueError as error:
        inner = list(getattr(error, "problems", ())) or [Problem("", str(error))]
    problems += [Problem(f"definition.{one.path}".rstrip("."), one.message, one.code) for one in inner]
    if problems:
        raise refusal(problems, schedule.name)


def _kinds(schedule: Schedule) -> Iterator[tuple[str, str]]:
    for names, kind, what in _KINDS:
        for name in names:
            value = getattr(schedule, name)
            yield name, "" if isinstance(value, kind) else f"expected {what}, got {shown(value)}"


def _flaws(schedule: Schedule) -> Iterator[tuple[str, str]]:
    yield "name", find_name_flaw(schedule.name)
    yield "cron", _cron_flaw(schedule)
    yield "every_s", _every_flaw(schedule.every_s)
    yield "timezone", "" if _is_zone(schedule.timezone) else f"there is no time zone {schedule.timezone!r}"
    for name, value, known in (("missed", schedule.missed, MISSED), ("overlap", schedule.overlap, OVERLAP)):
        yield name, "" if value in known else f"{value!r} is not one of {', '.join(known)}"
    yield "max_missed", "" if 1 <= schedule.max_missed <= MAX_MISSED else f"must be 1 to {MAX_MISSED}"
    yield "start_ms", "" if 0 <= schedule.start_ms < _LAST_YEAR_MS else "must be a time in epoch milliseconds"


def find_name_flaw(name: object) -> str:
    """Say why no schedule can have this name; empty: one can."""
    if not isinstance(name, str):
        return f"expected text, got {shown(name)}"
    if not 0 < len(name) <= _MAX_NAME or name in (".", ".."):
        return f"must be 1 to {_MAX_NAME} characters long, and not . or .."
    # It stands in lines of its own wherever schedules are listed, and is typed to act on one.
    kinds = {unicodedata.category(one) for one in name}
    if kinds & _CONTROLS:
        return "must have no line breaks, tabs or other control characters"
    return "must be text that UTF-8 can hold: it has half of a surrogate pair" if _SURROGATE in kinds else ""


def _cron_flaw(schedule: Schedule) -> str:
    if bool(schedule.cron) == (schedule.every_s is not None):
        return "give either cron or every_s"
    return find_cron_flaw(schedule.cron) if schedule.cron else ""


def _every_flaw(every_s: float | None) -> str:
    is_fit = every_s is None or _MIN_EVERY_S <= every_s < _LAST_YEAR_MS / 1000
    return "" if is_fit else f"must be at least {_MIN_EVERY_S:g} s"


def _is_zone(name: str) -> bool:
    if name in _ZONES_OF_A_HOST:
        return False
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _plain(definition: Mapping[str, Any] | Workflow) -> dict[str, Any]:
    return to_definition(definition) if isinstance(definition, Workflow) else dict(definition)
