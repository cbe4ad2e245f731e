"""Times, durations and names as people read them."""

import re
import shlex
from collections.abc import Sequence
from datetime import datetime

__all__ = ["ago", "clock_time", "command_line", "duration", "in_line", "listed", "ordinal", "plural", "short_id"]

_DAY_S = 86_400
_SHOWN_NAMES = 5
_BREAKS = re.compile("[\t-\r\x1c-\x1e\x85\u2028\u2029]+")


def duration(ms: float) -> str:
    """Return a time span in ms: `40 ms`, `1.2 s`, `0:50`, `1:02:03`, `3 d 4 h`."""
    if ms < 1000:  # noqa: PLR2004 - a second
        return f"{max(0, ms):.0f} ms"
    seconds = ms / 1000
    if seconds < 10:  # noqa: PLR2004 - up to here tenths matter
        return f"{seconds:.1f} s"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.0f} s"
    whole = int(seconds)
    if whole < 3600:  # noqa: PLR2004 - an hour
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < _DAY_S:
        return f"{whole // 3600}:{whole // 60 % 60:02d} h"
    return f"{whole // _DAY_S} d {whole // 3600 % 24} h"


def ago(since_ms: int, now_ms: int) -> str:
    """Return since when something is so: `since 17:03:20 (40 s)`."""
    return f"since {clock_time(since_ms, now_ms)} ({duration(now_ms - since_ms)})"


def clock_time(at_ms: int, now_ms: int) -> str:
    """Return a time of day in the reader's time zone, with the date unless it is the day of `now_ms`."""
    at, now = (datetime.fromtimestamp(ms / 1000).astimezone() for ms in (at_ms, now_ms))
    return at.strftime("%H:%M:%S" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S")


def short_id(workflow_id: str) -> str:
    """Return the end of a workflow's id, which is enough to tell runs apart."""
    return workflow_id if len(workflow_id) <= 8 else f"…{workflow_id[-6:]}"  # noqa: PLR2004 - nothing to shorten


def ordinal(number: int) -> str:
    """Return a number as a place in line: `1st`, `2nd`, `3rd`, `4th`."""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{suffix}"


def plural(number: int, noun: str, many: str = "") -> str:
    """Return `1 stage`, `2 stages`; `many` where the plural is not made with s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {many or noun + 's'}"


def listed(names: Sequence[str], most: int = _SHOWN_NAMES) -> str:
    """Return names as a list, cut where there are many: `a, b, c and 12 more`."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def in_line(text: str) -> str:
    """Return a text as part of a line: names come from others, and one that breaks the line could forge the next."""
    return _BREAKS.sub(" ", text)


def command_line(verb: str, *words: str, options: Sequence[str] = ()) -> str:
    """Return a command of ours for somebody to copy: whatever names of others stand in it, a shell reads as words."""
    dashes = ["--"] if any(word.startswith("-") for word in words) else []
    return f"stabilize-celery {verb} {shlex.join([*options, *dashes, *words])}"
