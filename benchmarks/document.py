"""The figures of the documents: tables made of the results that are kept, put between marks in docs/*.md.

A mark is `<!-- figures: NAME -->`; what follows it, up to `<!-- end of figures -->`, is written by
`python -m benchmarks document`. So no document has a figure that the repository has no result for.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import capacity, levers, load, message, processor
from benchmarks.arithmetic import scaled
from benchmarks.peers import PEERS
from benchmarks.plan import JUDGED, LATENCIES, MODES
from benchmarks.results_file import read
from benchmarks.tables import spread, table

__all__ = ["FIGURES", "fill", "filled"]

DOCS = Path(__file__).parents[1] / "docs"
_PLACE = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def fill() -> Iterator[Path]:
    """Write the figures into all documents; yield those that have changed."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text()
        if (new := filled(text)) != text:
            path.write_text(new)
            yield path


def filled(text: str) -> str:
    """Return a document with the figures of the kept results.

    Raises:
        KeyError: it asks for figures that do not exist.
        FileNotFoundError: their results are not kept.

    """
    return _PLACE.sub(lambda place: f"{place[1]}{FIGURES[place[2]]()}\n{place[3]}", text)


def _from(name: str, render: Callable[[Mapping[str, Any]], str]) -> Callable[[], str]:
    """Return what renders a results file, with its source below."""

    def rendered() -> str:
        results = read(name)
        return f"{render(results)}\n\n{_source(name, results)}"

    return rendered


def _source(name: str, results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    told = (
        f"`{results['command']}`, commit {machine['commit']}, {results['made_at'][:10]}, {machine['processors']} "
        f"processors ({machine['processor'] or machine['architecture']}), {machine['system'].split('-')[0]}, "
        f"Python {machine['python']}: [results/{name}.json]({_REPOSITORY}/benchmarks/results/{name}.json)."
    )
    return f"<small>{told}{' ' + results['note'] if results['note'] else ''}</small>"


_REPOSITORY = ".."


_SHORT = {"chain_50": "chain of 50", "many_200x3": "200 workflows of 3", "fan_1000": "1,000 and a join"}


def _ratios(results: Mapping[str, Any]) -> str:
    rows = []
    for shape in JUDGED:
        compared = results["compared"][shape]
        for reference, title in (("celery", "canvas"), ("celery_no_acks", "canvas without acknowledgements")):
            rows.append([_SHORT[shape], title, *(spread(compared[mode].get(reference)) for mode in MODES)])
        aims = results["targets"][shape]
        reached = [
            f"{aims[mode]} ({'reached' if results['ratios'][shape][mode] <= aims[mode] else 'missed'})"
            if mode in aims
            else "-"
            for mode in MODES
        ]
        rows.append([_SHORT[shape], "aim, to canvas", *reached])
    return table(["shape", "compared with", *_code(MODES)], rows)


def _set_up_otherwise(results: Mapping[str, Any]) -> str:
    kinds = {
        "ratios_with_others": "worker that runs other tasks of the app, too",
        "ratios_delivered": "worker that Celery hands each message (`STABILIZE_TAKE_MS=0`)",
    }
    rows = [
        [_SHORT[shape], about, *(_ratio(results[kind].get(shape, {}).get(mode)) for mode in MODES)]
        for kind, about in kinds.items()
        for shape in JUDGED
        if results[kind].get(shape)
    ]
    return table(["shape", "ours in a", *_code(MODES)], rows)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _code(names: Sequence[str]) -> list[str]:
    return [f"`{name}`" for name in names]


def _delays(results: Mapping[str, Any]) -> str:
    shapes = {shape["kind"]: shape["peers"] for shape in results["shapes"].values()}
    rows = []
    for kind, about in LATENCIES.items():
        peers = shapes.get(kind, {})
        told = [peers.get(mode, {}) for mode in MODES]
        rows.append(
            [
                about,
                *(_ratio((one.get("p95_to_plain_hop") or {}).get("median")) for one in told),
                " / ".join(scaled(one["p50_ms"]) if "p50_ms" in one else "-" for one in told),
                _ratio((peers.get("celery", {}).get("p95_to_plain_hop") or {}).get("median")),
            ]
        )
    hops = [scaled(shapes[kind]["celery_tasks"]["p50_ms"]) for kind in ("send", "hop")]
    told = f"Medians of a plain Celery hop: {hops[0]} ms from a producer, {hops[1]} ms from task to task."
    head = ["p95 ÷ that of a plain Celery hop", *_code(MODES), "medians, ms", "canvas"]
    return f"{table(head, rows)}\n\n{told}"


def _peers(results: Mapping[str, Any]) -> str:
    shape = "many_200x3"
    peers, compared = results["shapes"][shape]["peers"], results["compared"][shape]
    rows = []
    for name in (entry.name for entry in PEERS if entry.name in peers and entry.name not in MODES):
        cell = peers[name]
        if "median" not in cell:
            reason = cell.get("skipped", "-").splitlines()[0]
            rows.append([results["peers"][name]["title"], reason, *["-"] * len(MODES)])
            continue
        times = [compared[mode].get(name) for mode in MODES]
        rows.append(
            [
                results["peers"][name]["title"],
                f"{cell['median']:.2f}",
                *(f"{1 / one['median']:.1f}" if one else "-" for one in times),
            ]
        )
    own = ", ".join(f"`{mode}` {peers[mode]['median']:.2f}" for mode in MODES if "median" in peers.get(mode, {}))
    head = ["200 workflows of 3 stages", "s", *(f"`{mode}` is so many times as fast" for mode in MODES)]
    return f"{table(head, rows)}\n\nOurs, in seconds: {own}."


def _message(results: Mapping[str, Any]) -> str:
    return message.table([message.Cost(**one) for one in results["measured"]])


def _growth(results: Mapping[str, Any]) -> str:
    kinds = {"chain": "chain", "fan": "fan-out + join"}
    rows = [[f"`{one['mode']}`", kinds[one["kind"]], spread(one["ratio"])] for one in results["growth"]]
    return table(["mode", "shape", "cost of a stage among 10,000 ÷ among 1,000"], rows)


def _worker_memory(results: Mapping[str, Any]) -> str:
    rows = [[one["what"], f"{one['value']:+.1f} {one['unit']}"] for one in results["memory"]]
    return table(["main process and two children", ""], rows)


def _memory(results: Mapping[str, Any]) -> str:
    rows = [[one["what"], f"{one['value']:,.0f}"] for one in results["memory"] if one.get("unit") == "bytes"]
    return table(["in Redis", "bytes"], rows)


def _idle(results: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{one['finished_workflows']:,} finished workflows kept",
            f"{one['round_trips']:.1f}",
            f"{one['commands']:.0f}",
            f"{one['cpu']:.1%}",
            f"{one['plain_cpu']:.1%}",
        ]
        for one in results["measured"]
    ]
    head = ["an idle worker, per second", "round trips beyond Celery's", "commands beyond Celery's", "of a core"]
    return table([*head, "of a core, a plain Celery worker"], rows)


def _page(results: Mapping[str, Any]) -> str:
    rows = [
        [
            one["name"],
            f"{scaled(one['median'])} {one['unit']} ({scaled(one['min'])}-{scaled(one['max'])})",
            f"{one['limit']:g} {one['unit']}",
        ]
        for one in results["measured"]
    ]
    return table(["", "median (minimum-maximum)", "limit"], rows)


def _recovered(results: Mapping[str, Any]) -> str:
    waited_s = results["measured"]["waited_s"]
    row = [f"{len(waited_s)}", *(f"{value:.1f} s" for value in (waited_s[0], median(waited_s), waited_s[-1]))]
    each = " ".join(f"{value:.1f}" for value in waited_s)
    return f"{table(['kills', 'shortest', 'median', 'longest'], [row])}\n\nEach, sorted (s): {each}."


def _scaling(results: Mapping[str, Any]) -> str:
    shapes = list(dict.fromkeys(one["shape"] for one in results["measured"]))
    backends = list(dict.fromkeys(one["backend"] for one in results["measured"]))
    ratios = {(one["shape"], one["backend"]): one["ratio"] for one in results["measured"]}
    rows = [[shape, *(spread(_named(ratios.get((shape, backend)))) for backend in backends)] for shape in shapes]
    return table(["cost of a stage among 1,000 ÷ among 100", *backends], rows)


def _named(ratio: Mapping[str, float] | None) -> Mapping[str, float] | None:
    return ratio and {"minimum": ratio["min"], "median": ratio["median"], "maximum": ratio["max"]}


def _shaped(render: Callable[[Any], str]) -> Callable[[Mapping[str, Any]], str]:
    return lambda results: render(results["measured"])


def _capacity(results: Mapping[str, Any]) -> str:
    return capacity.capacity(results, read("latest")["memory"])


def _needs(results: Mapping[str, Any]) -> str:
    return capacity.needs(results, read("latest")["memory"])


def _recovery(results: Mapping[str, Any]) -> str:
    return capacity.recovery(results["memory"])


FIGURES: Mapping[str, Callable[[], str]] = {
    "ratios": _from("latest", _ratios),
    "set-up-otherwise": _from("latest", _set_up_otherwise),
    "delays": _from("latest", _delays),
    "memory": _from("latest", _memory),
    "peers": _from("peers", _peers),
    "processor": _from("processor", _shaped(processor.table)),
    "message": _from("message", _message),
    "levers": _from("levers", _shaped(levers.table)),
    "growth": _from("growth", _growth),
    "worker-memory": _from("memory", _worker_memory),
    "load": _from("load", _shaped(load.table)),
    "idle": _from("idle", _idle),
    "page": _from("page", _page),
    "recovered": _from("recovery", _recovered),
    "scaling": _from("scaling", _scaling),
    "capacity": _from("peers", _capacity),
    "needs": _from("peers", _needs),
    "balance": capacity.balance,
    "recovery": _from("latest", _recovery),
}
