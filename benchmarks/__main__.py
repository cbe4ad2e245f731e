"""`python -m benchmarks`: measure, print tables, write JSON. Exit code 1: a figure is not within its limit."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from benchmarks import charts, document, idle, keeping, levers, load, memory, message, processor, scaling
from benchmarks.compare import Comparison
from benchmarks.findings import as_json, kept
from benchmarks.peers import PEERS, REFERENCE, chosen
from benchmarks.plan import FULL, MODES, QUICK, Plan
from benchmarks.report import report
from benchmarks.results_file import RESULTS, header, load_note, write

_MOST_GROWTH = 1.2
_LATEST = "latest"


def main() -> int:
    """Run the benchmarks that the command line names; all of our own by default."""
    options = _parser().parse_args()
    # As the machine is before our own work begins.
    options.note = options.note or load_note()
    results = [BENCHMARKS[name](options) for name in options.only or ("scaling", "idle")]
    return 0 if all(results) else 1


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _compare(options: argparse.Namespace) -> bool:
    plan = QUICK if options.quick else FULL
    shapes = tuple(shape for shape in plan.shapes if not options.shapes or shape.name in options.shapes)
    limit_s, budget_s = options.limit or plan.limit_s, options.budget or plan.budget_s
    plan = replace(plan, shapes=shapes, limit_s=limit_s, budget_s=budget_s)
    head = header(options.note)
    with Comparison(plan, chosen(options.peers), _say) as run:
        run.run()
        weighed = list(kept(_weighings(plan))) if options.name == _LATEST else []
        results = head | as_json(run, weighed)
    write(options.name, results)
    told = report(results)
    if options.name == _LATEST:
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
    head = header(options.note)
    rows = list(scaling.measure(options.repetitions, options.small, options.large, fleet=not options.no_fleet))
    print(scaling.table(rows), end="\n\n", flush=True)
    write("scaling", head | {"measured": [row.as_json() for row in rows]})
    return all(row.is_within for row in rows)


def _idle(options: argparse.Namespace) -> bool:
    head = header(options.note)
    rows = [idle.measure_idle(options.seconds, finished) for finished in (0, 1_000)]
    print(idle.table(rows), end="\n\n", flush=True)
    write("idle", head | {"measured": [row.as_json() for row in rows]})
    return all(row.is_within for row in rows)


def _page(options: argparse.Namespace) -> bool:
    from benchmarks import page  # noqa: PLC0415 - needs the development set, and a browser

    head = header(options.note)
    rows = list(page.measure(options.repetitions))
    print(page.table(rows), end="\n\n", flush=True)
    write("page", head | {"measured": [row.as_json() for row in rows]})
    return all(row.is_within for row in rows)


def _growth(options: argparse.Namespace) -> bool:
    head = header(options.note)
    plan = Plan((), 0, 0, limit_s=900, budget_s=1, growth=(1_000, 10_000), growth_repetitions=options.growths)
    with Comparison(plan, chosen(MODES), _say) as run:
        run.run()
        results = as_json(run, [])
    write("growth", head | {"growth": results["growth"]})
    for one in results["growth"]:
        print(one, flush=True)
    return all(one["ratio"] and one["ratio"]["median"] <= _MOST_GROWTH for one in results["growth"])


def _memory(options: argparse.Namespace) -> bool:
    results = header(options.note) | {"memory": list(memory.worker_memory(options.messages))}
    write("memory", results)
    for one in results["memory"]:
        print(one, flush=True)
    return True


def _levers(options: argparse.Namespace) -> bool:
    results = header(options.note) | {"measured": levers.measure(options.repetitions, _say)}
    print(levers.table(results["measured"]), end="\n\n", flush=True)
    write("levers", results)
    return True


def _load(options: argparse.Namespace) -> bool:
    results = header(options.note) | {"measured": load.measure(options.workflows, options.branches)}
    print(load.table(results["measured"]), end="\n\n", flush=True)
    write("load", results)
    return True


def _message(options: argparse.Namespace) -> bool:
    head, costs = header(options.note), message.measure()
    print(message.table(costs), end="\n\n", flush=True)
    write("message", head | {"measured": [asdict(cost) for cost in costs]})
    return True


def _processor(options: argparse.Namespace) -> bool:
    head = header(options.note)
    found = processor.measure()
    print(processor.table(found), end="\n\n", flush=True)
    write("processor", head | {"measured": found})
    return True


def _recovery(options: argparse.Namespace) -> bool:
    from benchmarks import recovery  # noqa: PLC0415 - needs the development set

    head = header(options.note)
    waited_s = sorted(recovery.measure(options.kills))
    write("recovery", head | {"measured": {"waited_s": waited_s}})
    return True


def _document(_options: argparse.Namespace) -> bool:
    for path in document.fill():
        print(f"filled in: {path}")
    return True


BENCHMARKS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "compare": _compare,
    "levers": _levers,
    "message": _message,
    "processor": _processor,
    "scaling": _scaling,
    "growth": _growth,
    "memory": _memory,
    "load": _load,
    "idle": _idle,
    "page": _page,
    "recovery": _recovery,
    "document": _document,
}


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
    parser.add_argument("--name", default=_LATEST, help="compare: of the results file (default latest)")
    parser.add_argument("--note", default="", help="what readers of the results should know first")
    parser.add_argument(
        "--peers",
        nargs="+",
        metavar="PEER",
        default=[],
        choices=[entry.name for entry in PEERS],
        help=f"compare: only these ({', '.join(entry.name for entry in PEERS)})",
    )
    parser.add_argument("--repetitions", type=int, default=5, help="levers, scaling, page: of each (default 5)")
    parser.add_argument("--small", type=int, default=100, help="scaling: stages of the small workflow (default 100)")
    parser.add_argument("--large", type=int, default=1_000, help="scaling: stages of the large workflow (default 1000)")
    parser.add_argument("--growths", type=int, default=3, help="growth: repetitions (default 3)")
    parser.add_argument(
        "--messages", type=int, default=100_000, help="memory: that each worker handles (default 100000)"
    )
    parser.add_argument("--workflows", type=int, default=10_000, help="load: submitted at once (default 10000)")
    parser.add_argument("--branches", type=int, default=10_000, help="load: of the wide workflow (default 10000)")
    parser.add_argument("--kills", type=int, default=20, help="recovery: of workers (default 20)")
    parser.add_argument("--no-fleet", action="store_true", help="scaling: in process only")
    parser.add_argument("--seconds", type=float, default=30, help="idle: how long a worker is watched (default 30)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
