"""`python -m benchmarks`: measure, print tables, write JSON. Exit code 1: a figure is not within its limit."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import charts, idle, keeping, memory, scaling
from benchmarks.compare import Comparison
from benchmarks.findings import as_json, kept
from benchmarks.peers import PEERS, REFERENCE
from benchmarks.plan import FULL, MODES, QUICK, Plan
from benchmarks.report import report

RESULTS = Path(__file__).parent / "results"
_QUIET_LOAD = 0.5
_MOST_GROWTH = 1.2


def main() -> int:
    """Run the benchmarks that the command line names; all of our own by default."""
    options = _parser().parse_args()
    results = [BENCHMARKS[name](options) for name in options.only or ("scaling", "idle")]
    return 0 if all(results) else 1


def _compare(options: argparse.Namespace) -> bool:
    plan = QUICK if options.quick else FULL
    shapes = tuple(shape for shape in plan.shapes if not options.shapes or shape.name in options.shapes)
    limit_s, budget_s = options.limit or plan.limit_s, options.budget or plan.budget_s
    plan = replace(plan, shapes=shapes, limit_s=limit_s, budget_s=budget_s)
    # As it is before our own work begins.
    note = options.note or _note()
    with Comparison(plan, options.peers, lambda text: print(f"  {text}", file=sys.stderr, flush=True)) as run:
        run.run()
        weighed = list(kept(_weighings(plan)))
        results = as_json(run, " ".join(["python -m benchmarks", *sys.argv[1:]]), note, weighed)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(results, indent=2) + "\n")
    told = report(results)
    (RESULTS / "latest.md").write_text(told)
    _draw(results)
    print(told)
    missed = [
        name for name, peer in results["peers"].items() if name in MODES and "does not start" in peer.get("skipped", "")
    ]
    return not missed and (not options.strict or _reaches(results))


def _weighings(plan: Plan) -> Mapping[str, Callable[[], Iterable[dict[str, Any]]]]:
    parts: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
        "bytes in Redis": partial(memory.weigh, plan.memory),
        "lost messages that one keeper brings back": lambda: [keeping.keeper_rate(plan.memory)],
    }
    if plan.worker_messages:
        parts["memory of a worker"] = partial(memory.worker_memory, plan.worker_messages)
    return parts


def _reaches(results: dict[str, Any]) -> bool:
    return all(
        ratio <= results["targets"][shape].get(mode, ratio)
        for shape, by_mode in results["ratios"].items()
        for mode, ratio in by_mode.items()
    )


def _note() -> str:
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load < _QUIET_LOAD * processors:
        return ""
    return (
        f"Preliminary: when this run began, other work kept {load:.1f} of {processors} processors busy. Run it again."
    )


def _draw(results: dict[str, Any]) -> None:
    for name, shape in results["shapes"].items():
        reference = shape["peers"].get(REFERENCE, {}).get("median")
        if not reference:
            continue
        bars = [
            charts.Bar(
                results["peers"][peer]["title"],
                cell["minimum"] / reference,
                cell["median"] / reference,
                cell["maximum"] / reference,
                peer in MODES,
            )
            for peer, cell in shape["peers"].items()
            if "median" in cell
        ]
        unit = "wall time, Celery's canvas (median) = 1; bar: median, line: minimum to maximum; left is faster"
        (RESULTS / f"{name}.svg").write_text(charts.bar_chart(shape["about"], unit, bars, mark=1))


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


def _page(options: argparse.Namespace) -> bool:
    from benchmarks import page  # noqa: PLC0415 - needs the development set, and a browser

    rows = list(page.measure(options.repetitions))
    print(page.table(rows), end="\n\n", flush=True)
    _write("page", [row.as_json() for row in rows])
    return all(row.is_within for row in rows)


def _growth(options: argparse.Namespace) -> bool:
    plan = Plan((), 0, 0, limit_s=900, budget_s=1, growth=(1_000, 10_000), growth_repetitions=options.growths)
    note = options.note or _note()
    with Comparison(plan, list(MODES), lambda text: print(f"  {text}", file=sys.stderr, flush=True)) as run:
        run.run()
        grown = partial(memory.worker_memory, options.messages)
        memory_rows = list(kept({"memory of a worker": grown})) if options.messages else []
        results = as_json(run, " ".join(["python -m benchmarks", *sys.argv[1:]]), note, memory_rows)
    written = {name: results[name] for name in ("note", "made_at", "command", "machine", "growth", "memory")}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "growth.json").write_text(json.dumps(written, indent=2) + "\n")
    for one in [*results["growth"], *memory_rows]:
        print(one, flush=True)
    return all(one["ratio"] and one["ratio"]["median"] <= _MOST_GROWTH for one in results["growth"])


BENCHMARKS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "compare": _compare,
    "scaling": _scaling,
    "growth": _growth,
    "idle": _idle,
    "page": _page,
}


def _write(name: str, measured: list[dict[str, Any]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    told = {"python": platform.python_version(), "machine": platform.machine(), "measured": measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NAME", choices=[[], *BENCHMARKS], help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="compare: fewer shapes, less than five minutes")
    parser.add_argument("--strict", action="store_true", help="compare: exit code 1 if a ratio misses its aim")
    parser.add_argument(
        "--shapes", nargs="+", metavar="SHAPE", default=[], help="compare: only these, such as chain_50"
    )
    parser.add_argument("--limit", type=float, default=0, help="compare: what one measurement may take (s)")
    parser.add_argument("--budget", type=float, default=0, help="compare: begin nothing after so long (s)")
    parser.add_argument("--note", default="", help="compare: what readers of the results should know first")
    parser.add_argument(
        "--peers",
        nargs="+",
        metavar="PEER",
        default=[],
        choices=[entry.name for entry in PEERS],
        help=f"compare: only these ({', '.join(entry.name for entry in PEERS)})",
    )
    parser.add_argument("--repetitions", type=int, default=5, help="scaling, page: of each comparison (default 5)")
    parser.add_argument("--small", type=int, default=100, help="scaling: stages of the small workflow (default 100)")
    parser.add_argument("--large", type=int, default=1_000, help="scaling: stages of the large workflow (default 1000)")
    parser.add_argument("--growths", type=int, default=3, help="growth: repetitions (default 3)")
    parser.add_argument(
        "--messages", type=int, default=100_000, help="growth: for the worker's memory; 0: leave it out"
    )
    parser.add_argument("--no-fleet", action="store_true", help="scaling: in process only")
    parser.add_argument("--seconds", type=float, default=30, help="idle: how long a worker is watched (default 30)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
