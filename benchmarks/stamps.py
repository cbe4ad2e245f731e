"""Moments that tasks write down, in whatever process they run: one line each, appended to one file.

An append costs some microseconds and no trip anywhere, so it disturbs no peer more than another.
"""

import os
import time
from itertools import pairwise
from pathlib import Path

__all__ = ["Stamps", "begun", "ended", "stamp"]

_VARIABLE = "BENCH_STAMPS"


def stamp(label: str) -> None:
    """Write the time of now down, under a label without blanks."""
    line = f"{time.time()!r} {label}\n".encode()
    file = os.open(os.environ[_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def begun(body: str) -> None:
    """Write down that a body is at its first line."""
    stamp(f"begun:{body}")


def ended(body: str) -> None:
    """Write down that a body is at its last line."""
    stamp(f"ended:{body}")


class Stamps:
    """The file, from the side of who reads it. Processes that are started after it find it by the environment."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "stamps"
        os.environ[_VARIABLE] = str(self._path)

    def clear(self) -> None:
        """Forget all that was written."""
        self._path.unlink(missing_ok=True)

    def read(self) -> dict[str, float]:
        """Return the first time (epoch s) under each label."""
        times: dict[str, float] = {}
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                time_s, label = line.split(" ", 1)
                times.setdefault(label, float(time_s))
        return times

    def spans_ms(self, prefix: str) -> list[tuple[float, float]]:
        """Return begin and end (ms) of each body whose name starts so, in the order of their begin."""
        times = self.read()
        bodies = [label.removeprefix("begun:") for label in times if label.startswith(f"begun:{prefix}")]
        return sorted((1000 * times[f"begun:{body}"], 1000 * times[f"ended:{body}"]) for body in bodies)

    def gaps_ms(self, prefix: str) -> list[float]:
        """Return, for each body after the first whose name starts so, how long after the end of the one before (ms)."""
        return [begin - end for (_, end), (begin, _) in pairwise(self.spans_ms(prefix))]
