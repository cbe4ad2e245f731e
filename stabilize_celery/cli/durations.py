"""Durations as people write them on the command line: `30s`, `1h30m`, or a bare number of seconds."""

import re
from typing import Any

import typer

__all__ = ["ALLOWED", "duration_option", "duration_text", "seconds_of"]

_UNITS_MS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
"""Longest first, which is the order that they are written in."""
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_BARE = re.compile(rf"{_NUMBER}(?:[eE][+-]?[0-9]+)?")
_PARTS = re.compile(r"\s*".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS_MS))
_MAX_S = 100 * 365 * 86_400
"""Longer than anybody waits, and any time from now on is still one that Redis sorts by (s)."""

ALLOWED = "30s, 5m, 1h30m or 1d (w, d, h, m, s, ms), or a number of seconds; 36500d at most"
"""What a duration may be, in words."""


def seconds_of(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: it is none; the text says what is allowed.

    """
    wanted = text.strip()
    parts = _PARTS.fullmatch(wanted)
    if _BARE.fullmatch(wanted):
        found = float(wanted)
    elif wanted and parts:
        amounts = zip(parts.groups(), _UNITS_MS.values(), strict=True)
        found = sum(float(amount) * unit_ms for amount, unit_ms in amounts if amount) / 1000
    else:
        raise ValueError(f"{text!r} is not a duration: give {ALLOWED}")
    if found > _MAX_S:
        raise ValueError(f"{text!r} is too long: give {ALLOWED}")
    return found


def duration_text(seconds: float) -> str:
    """Return a duration as `seconds_of` reads it: `30s`, `1h30m`."""
    left, written = round(seconds * 1000), ""
    for unit, unit_ms in _UNITS_MS.items():
        amount, left = divmod(left, unit_ms)
        written += f"{amount}{unit}" if amount else ""
    return written or "0s"


def duration_option(name: str, told: str) -> Any:
    """Return an option that takes a duration and gives seconds; bad usage names the option."""
    return typer.Option(name, metavar="DURATION", parser=_parsed, help=told, show_default=False)


def _parsed(value: str | float) -> float:
    if not isinstance(value, str):
        return value  # the default
    try:
        return seconds_of(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
