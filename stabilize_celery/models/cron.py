"""The times of a cron expression, by a clock that is put forward and back as its time zone says. Pure.

As Debian's cron has it: where neither the minute nor the hour begins with `*`, a time is meant that a clock shows once.
It comes at the first moment after a change that leaves it out, and only the first time where the clock shows it twice.
Any other expression means a rhythm: it goes by what the clock shows, each time it shows it.
"""

import datetime as dt
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import dropwhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

__all__ = ["Cron", "find_cron_flaw"]

_NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SECOND, _MINUTE, _NONE = dt.timedelta(seconds=1), dt.timedelta(minutes=1), dt.timedelta()


class Cron:
    """An expression that has no flaw, and the name of a time zone."""

    def __init__(self, expression: str, timezone: str) -> None:
        self._fields = _fields(expression)
        self._zone = ZoneInfo(timezone)
        self._is_rhythm = any(one.startswith("*") for one in self._fields.split()[-5:-3])

    def after(self, at_ms: int) -> Iterator[int]:
        """Yield the times after `at_ms` (epoch ms)."""
        return dropwhile(lambda one: one <= at_ms, self._times(at_ms, 1))

    def until(self, at_ms: int) -> Iterator[int]:
        """Yield the times up to `at_ms` (epoch ms), the newest first."""
        return dropwhile(lambda one: one > at_ms, self._times(at_ms, -1))

    def _times(self, at_ms: int, step: int) -> Iterator[int]:
        """Yield times, from some moment before `at_ms` on; or, with a step of -1, backwards from one after it."""
        at = dt.datetime.fromtimestamp(at_ms / 1000, self._zone)
        # Where the clock shows an hour twice, what it shows before this comes once more, or has come already.
        repeats = (at.replace(fold=0).utcoffset() or _NONE) - (at.replace(fold=1).utcoffset() or _NONE)
        begin = at.replace(tzinfo=None, fold=0) - step * repeats + (_SECOND if step < 0 else _NONE)
        ahead: list[int] = []
        for shown in CronSim(self._fields, begin, reverse=step < 0):
            moments = sorted(step * one for one in self._moments(shown))
            while ahead and moments and ahead[0] < moments[0]:
                yield step * heappop(ahead)
            for moment in moments:
                if moment not in ahead:
                    heappush(ahead, moment)

    def _moments(self, shown: dt.datetime) -> set[int]:
        """Return when it is time, for what the clock shows then: not at all, once or twice."""
        if not self._is_rhythm:
            while not self._is_shown(shown):
                shown = shown.replace(second=0) + _MINUTE
        folds = [shown.replace(tzinfo=self._zone, fold=fold) for fold in range(1 + self._is_rhythm)]
        return {round(one.timestamp() * 1000) for one in folds if self._is_shown(shown)}

    def _is_shown(self, shown: dt.datetime) -> bool:
        there = shown.replace(tzinfo=self._zone).astimezone(dt.UTC)
        return there.astimezone(self._zone).replace(tzinfo=None, fold=0) == shown


def find_cron_flaw(expression: str) -> str:
    """Say what is wrong with an expression; empty: nothing."""
    try:
        if not any(CronSim(_fields(expression), dt.datetime(2000, 1, 1, tzinfo=dt.UTC))):
            return f"{expression!r} names no time that ever comes"
    except (CronSimError, ValueError) as error:
        return f"{expression!r} is not a cron expression: {error}"
    return ""


def _fields(expression: str) -> str:
    return _NAMES.get(expression.strip().lower(), expression)
