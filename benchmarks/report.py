"""The tables that people read, made from the results as they are kept."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.arithmetic import scaled
from benchmarks.plan import MODES

__all__ = ["report"]


def report(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown, which a terminal shows well, too."""
    machine = results["machine"]
    versions = {
        name: version for peer in results["peers"].values() for name, version in sorted(peer["versions"].items())
    }
    parts = [
        "# Benchmark results",
        f"{results['note']}\n" if results["note"] else "",
        f"`{results['command']}`, {results['made_at']}, commit {machine['commit']}, {machine['processors']} processors "
        f"({machine['processor'] or machine['architecture']}), {machine['system']}, Python {machine['python']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        _judged(results),
        *(_shape(results, name) for name, one in results["shapes"].items() if one["kind"] not in _DELAYS),
        _delays(results),
        _growth(results["growth"]),
        _memory(results["memory"]),
        _skipped(results["peers"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_DELAYS = ("send", "hop", "wake", "after", "release", "join")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    told = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([told[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *told[1:]])


def _spread(spread: Mapping[str, float] | None) -> str:
    return " / ".join(scaled(spread[part]) for part in ("minimum", "median", "maximum")) if spread else "-"


def _ratio(value: float | None) -> str:
    return "-" if value is None else scaled(value)


def _judged(results: Mapping[str, Any]) -> str:
    rows = []
    for shape, by_mode in results["targets"].items():
        for mode in MODES:
            compared = results["compared"].get(shape, {}).get(mode, {})
            ratio, limit = results["ratios"].get(shape, {}).get(mode), by_mode.get(mode)
            if ratio is None and limit is None:
                continue
            verdict = "-" if limit is None else "not measured" if ratio is None else "yes" if ratio <= limit else "NO"
            rows.append(
                [
                    results["shapes"].get(shape, {}).get("about", shape),
                    mode,
                    _spread(compared.get("celery")),
                    f"≤ {limit}" if limit else "-",
                    verdict,
                    _spread(compared.get("celery_no_acks")),
                    _ratio(results["ratios_with_others"].get(shape, {}).get(mode)),
                    _ratio(results["ratios_delivered"].get(shape, {}).get(mode)),
                ]
            )
    head = ["shape", "mode", "ratio to Celery's canvas", "aim", "reached", "ratio to it, ack emulation off"]
    head += ["ours beside other tasks of the app", "ours, each message delivered by Celery"]
    return "## Ratios to Celery's canvas\n\nPaired, minimum / median / maximum; less is faster.\n\n" + _table(
        head, rows
    )


def _shape(results: Mapping[str, Any], name: str) -> str:
    shape = results["shapes"][name]
    reference = shape["peers"].get("celery", {}).get("median")
    rows = []
    for peer, cell in shape["peers"].items():
        if "median" not in cell:
            continue
        title = results["peers"][peer]["title"]
        more = ", ".join(f"{key} {scaled(value)}" for key, value in cell.get("median_of", {}).items())
        times = scaled(cell["median"] / reference) if reference else "-"
        per_stage = scaled(1000 * cell["median"] / shape["stages"])
        rows.append([title, _spread(cell), per_stage, times, more or "-"])
    rows += [[titles, reason, "-", "-", "-"] for reason, titles in _unmeasured(results, shape).items()]
    head = ["", "s: minimum / median / maximum", "ms per stage", "x Celery (medians)", "more"]
    return f"## {shape['about'][0].upper()}{shape['about'][1:]}\n\n{_table(head, rows)}"


def _unmeasured(results: Mapping[str, Any], shape: Mapping[str, Any]) -> dict[str, str]:
    """Return why peers have no figure in a shape: the reason, and the titles that share it."""
    reasons: dict[str, str] = {}
    for peer, cell in shape["peers"].items():
        if "median" in cell or "p50_ms" in cell:
            continue
        lines = cell.get("skipped", "not measured").splitlines()
        reason = lines[0] if len(lines) == 1 else f"it ended: {lines[-1]}"
        title = results["peers"][peer]["title"]
        reasons[reason] = f"{reasons[reason]}; {title}" if reason in reasons else title
    return reasons


def _delays(results: Mapping[str, Any]) -> str:
    rows = []
    for shape in results["shapes"].values():
        if shape["kind"] not in _DELAYS:
            continue
        for peer, cell in shape["peers"].items():
            if "p50_ms" in cell:
                title, to_hop = results["peers"][peer]["title"], _spread(cell.get("p95_to_plain_hop"))
                rows.append([shape["about"], title, scaled(cell["p50_ms"]), scaled(cell["p95_ms"]), to_hop])
        for reason, titles in _unmeasured(results, shape).items():
            rows.append([shape["about"], titles, reason, "-", "-"])
    head = ["delay", "", "p50 ms", "p95 ms", "p95 ÷ that of a plain Celery hop"]
    return f"## Delays\n\n{_table(head, rows)}" if rows else ""


def _growth(growth: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            one["mode"],
            one["kind"],
            f"{one['large']:,} ÷ {one['small']:,}",
            _spread(one["ratio"]) if one["ratio"] else one.get("skipped", "-"),
        ]
        for one in growth
    ]
    return (
        f"## Cost per stage of large workflows\n\n{_table(['mode', 'shape', 'stages', 'ratio'], rows)}" if rows else ""
    )


def _memory(memory: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [one["what"], scaled(one["value"]), one["unit"]]
        if "value" in one
        else [one["what"], f"failed: {one['failed']}", "-"]
        for one in memory
    ]
    return f"## Memory, and the keeper\n\n{_table(['', 'measured', 'unit'], rows)}" if rows else ""


def _skipped(peers: Mapping[str, Any]) -> str:
    rows = [[peer["title"], peer["skipped"].splitlines()[-1]] for peer in peers.values() if "skipped" in peer]
    return f"## Not measured at all\n\n{_table(['', 'because'], rows)}" if rows else ""
