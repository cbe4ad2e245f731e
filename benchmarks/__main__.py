"""`python -m benchmarks`: measure, print tables, write JSON. Exit code 1: a figure is not within its limit."""

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import idle, scaling

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the benchmarks that the command line names; all of them by default."""
    options = _parser().parse_args()
    results = [BENCHMARKS[name](options) for name in options.only or BENCHMARKS]
    return 0 if all(results) else 1


def _scaling(options: argparse.Namespace) -> bool:
    rows = list(scaling.measure(options.repetitions, options.small, options.large, fleet=not options.no_fleet))
    print(scaling.table(rows), end="\n\n", flush=True)
    _write("scaling", [row.as_json() for row in rows])
    return all(row.is_within for row in rows)


def _idle(options: argparse.Namespace) -> bool:
    rows = [idle.measure_idle(options.seconds, kept) for kept in (0, 1_000)]
    print(idle.table(rows), end="\n\n", flush=True)
    _write("idle", [row.as_json() for row in rows])
    return all(row.is_within for row in rows)


BENCHMARKS: dict[str, Callable[[argparse.Namespace], bool]] = {"scaling": _scaling, "idle": _idle}


def _write(name: str, measured: list[dict[str, Any]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    told = {"python": platform.python_version(), "machine": platform.machine(), "measured": measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NAME", choices=[[], *BENCHMARKS], help=", ".join(BENCHMARKS))
    parser.add_argument("--repetitions", type=int, default=5, help="of each comparison (default 5)")
    parser.add_argument("--small", type=int, default=100, help="stages of the small workflow (default 100)")
    parser.add_argument("--large", type=int, default=1_000, help="stages of the large workflow (default 1000)")
    parser.add_argument("--no-fleet", action="store_true", help="in process only")
    parser.add_argument("--seconds", type=float, default=30, help="that an idle worker is watched (default 30)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
