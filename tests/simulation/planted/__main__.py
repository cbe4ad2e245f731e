"""`python -m tests.simulation.planted`: plants each bug in a copy of the code, and tells what sees it.

Ends with 1 if a bug is not seen, or if the code as it is, without any, is taken for one. `--markdown` prints the table of docs/reliability.md.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.planted.bugs import BUGS, CONTROL, Bug

__all__ = ["Caught", "main", "plant"]

_ROOT = Path(__file__).parents[3]
_PACKAGE = "stabilize_celery"
_COPIED = (_PACKAGE, "tests", "pyproject.toml")
_BROKEN = re.compile(r"^seed (\d+): (.*)$", re.MULTILINE)
_MOST_PROCESSOR_S = 300
_MOST_S = 3_000
"""By the clock, which proves nothing on a busy machine."""
_TESTS = (
    "tests/unit/engine",
    "tests/simulation/test_outside.py",
    "tests/simulation/test_calls.py",
    "tests/unit/store/test_event_stream.py",
    "tests/unit/transport/test_ends_first.py",
    "tests/unit/transport/test_head_start.py",
    "tests/unit/transport/test_taking_with_commits.py",
    "tests/unit/transport/test_going_on.py",
    "tests/unit/transport/test_turns.py",
    "tests/unit/transport/test_upkeep.py",
    "tests/unit/runtime",
    "tests/simulation/test_attempts.py",
    "tests/simulation/test_outages.py",
    "tests/simulation/test_locks.py",
    "tests/simulation/test_lock_corners.py",
    "tests/simulation/test_stories.py",
    "tests/simulation/test_story_data.py",
    "tests/simulation/test_story_outside.py",
    "tests/simulation/test_story_times.py",
)
"""Where what the fleet does not see must be seen."""


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of a planted bug; `how` is empty if nothing saw it."""

    bug: Bug
    how: str
    took_s: float


def main(arguments: list[str]) -> int:
    """Plant bugs; 1: some were not seen."""
    asked = _parse(arguments)
    part, parts = asked.part
    chosen = [bug for bug in (CONTROL, *BUGS) if asked.only in bug.name][part - 1 :: parts]
    began_s = time.monotonic()
    with ThreadPoolExecutor(asked.jobs) as pool:
        every = list(pool.map(lambda bug: _told(plant(bug, asked.seeds, asked.tests or _TESTS)), chosen))
    found = [one for one in every if one.bug is not CONTROL]
    missed = [one for one in found if not one.how]
    took_s = time.monotonic() - began_s
    is_blind = any(one.how for one in every if one.bug is CONTROL)
    if asked.markdown:
        print("\n".join(_table(found)))
    print(f"{len(found)} bugs planted, {len(found) - len(missed)} seen, {len(missed)} missed, {took_s:.0f} s")
    if is_blind:
        print("without any bug, something is seen: so what was seen of the others proves nothing")
    return bool(missed) or is_blind


def plant(bug: Bug, seeds: int, tests: Sequence[str] = _TESTS) -> Caught:
    """Plant a bug in a copy of the code and look for it: with up to so many seeds, then with the tests of the engine."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder)
        for name in _COPIED:
            source = _ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        for edit in bug.edits:
            path = copy / _PACKAGE / edit.file
            text = path.read_text()
            if text.count(edit.old) != 1:
                raise ValueError(f"{bug.name}: {edit.file} has {text.count(edit.old)} times {edit.old!r}, not once")
            path.write_text(text.replace(edit.old, edit.new))
        how = _seen_by_the_fleet(copy, seeds) or _seen_by_tests(copy, tests)
    return Caught(bug, how, time.monotonic() - began_s)


def _seen_by_the_fleet(copy: Path, seeds: int) -> str:
    if not seeds:
        return ""
    done = _run(copy, "tests.simulation.fleet", "--seeds", str(seeds), "--jobs", "1", "--first-only")
    if done.returncode == -signal.SIGXCPU:
        return f"a run that does not end within {_MOST_PROCESSOR_S} s of processor time"
    found = _BROKEN.search(done.stdout)
    if done.returncode == 0:
        return ""
    if found is None:
        # A copy that does not even run proves nothing.
        raise RuntimeError(f"the fleet did not run: {done.stderr.strip()[-2000:]}")
    return f"fleet, seed {found[1]}: {found[2]}"


def _seen_by_tests(copy: Path, tests: Sequence[str]) -> str:
    passed_over: list[str] = []
    while (fallen := _fallen(copy, *tests, *(f"--deselect={name}" for name in passed_over))) and not _fallen(
        copy, fallen
    ):
        # One that falls now and then, or when the machine is busy, has seen nothing.
        passed_over.append(fallen)
    return fallen


def _fallen(copy: Path, *arguments: str) -> str:
    """Return the first test that falls; empty: none. Each has a time limit of its own."""
    done = _run(copy, "pytest", "-x", "-q", "-p", "no:randomly", *arguments, limits="")
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the tests did not run: {(done.stdout + done.stderr).strip()[-2000:]}")
    fallen = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    return fallen[1] if fallen else ""


def _run(
    copy: Path, module: str, *arguments: str, limits: str = f"ulimit -S -t {_MOST_PROCESSOR_S};"
) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'{limits} exec "$@"', "sh", sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=_MOST_S
    )


def _told(caught: Caught) -> Caught:
    print(f"{caught.took_s:5.0f} s  {caught.bug.name}: {caught.how or 'not seen'}"[:200], flush=True)
    return caught


def _table(found: Iterable[Caught]) -> list[str]:
    rows = [f"| {one.bug.room} | {one.bug.name} | {_short(one.how)} |" for one in found]
    return ["| part | planted bug | what saw it |", "|---|---|---|", *rows]


def _short(how: str) -> str:
    # Threads, workflows and names of the run are noise in a table.
    return how.replace("|", "/")[:110] or "**nothing**"


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not 1 <= int(part) <= int(parts):
        raise ValueError(text)
    return int(part), int(parts)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many runs of the fleet look for each bug")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="bugs at once")
    parser.add_argument("--only", default="", help="bugs with these words in their name")
    parser.add_argument("--part", type=_part, default=(1, 1), help="one of several parts only, as 2/6")
    parser.add_argument("--tests", nargs="*", help="look there instead of in all tests of engine and runtime")
    parser.add_argument("--markdown", action="store_true", help="print the table for the documentation, too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
