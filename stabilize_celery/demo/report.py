"""The report of an audit: one HTML page that needs nothing else, and the same figures as JSON."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from stabilize_celery.demo.audit import BANDS, Audit
from stabilize_celery.demo.charts import Bar, Point, bars, columns, scatter, text
from stabilize_celery.demo.figures import Report, Totals, top_functions
from stabilize_celery.demo.style import STYLE

__all__ = ["to_html", "to_json"]

LABELLED = 6


def to_json(report: Report) -> bytes:
    """Return the report as JSON, indented, UTF-8."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def to_html(report: Report) -> str:
    """Return the report as one HTML page: no script, nothing loaded from elsewhere, every name escaped."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>Audit of {text(report.source)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n"
        f"{_head(report)}{_tiles(report.totals)}{_charts(report)}{_functions(report)}{_problems(report)}"
        f"{_packages(report.packages)}</main></body></html>\n"
    )


def _head(report: Report) -> str:
    return (
        f"<header><h1>Audit of <code>{text(report.source)}</code></h1><p>Parsed by Python {text(report.python)} on "
        f"{text(report.made_at)} · workflow <code>{text(report.workflow_id)}</code></p></header>\n"
    )


def _tiles(totals: Totals) -> str:
    documented = totals.documentable - totals.undocumented
    tiles = [
        ("packages", f"{totals.packages:,}", "packages"),
        ("files", f"{totals.files:,}", "files"),
        ("lines", f"{totals.lines:,}", "lines"),
        ("functions", f"{totals.functions:,}", "functions"),
        ("classes", f"{totals.classes:,}", "classes"),
        ("complexity", f"{_ratio(totals.complexity, totals.functions):.1f}", "mean complexity"),
        ("documented", f"{100 * _ratio(documented, totals.documentable):.0f} %", "documented"),
        ("unparsed", f"{totals.unparsed:,}", "did not parse"),
    ]
    cells = (f'<div><b data-figure="{name}">{value}</b><span>{label}</span></div>' for name, value, label in tiles)
    return f'<section class="tiles">{"".join(cells)}</section>\n'


def _charts(report: Report) -> str:
    by_name = {audit.package: audit for audit in report.packages}
    largest = [by_name[name] for name in report.ranking.largest]
    bare = [by_name[name] for name in report.ranking.least_documented]
    dots = "a dot is a package, its area the number of functions"
    bands = "by cyclomatic complexity, square-root scale"
    cards = [
        ("Largest packages", "lines, square-root scale", bars([_by_lines(one) for one in largest], "Lines")),
        ("Size against complexity", dots, _size_chart(report)),
        ("How branchy functions are", bands, _band_chart(report.totals)),
        ("Missing docstrings", "share of the public names without one", bars([_by_docs(one) for one in bare], "Docs")),
    ]
    drawn = "".join(
        f"<figure><figcaption>{title}<small>{note}</small></figcaption>{chart}</figure>" for title, note, chart in cards
    )
    return f'<section class="charts">{drawn}</section>\n'


def _by_lines(audit: Audit) -> Bar:
    return Bar(audit.package, math.sqrt(audit.lines), f"{audit.lines:,}")


def _by_docs(audit: Audit) -> Bar:
    note = f"{audit.undocumented:,} of {audit.documentable:,}"
    return Bar(audit.package, 1, note, part=_ratio(audit.undocumented, audit.documentable))


def _size_chart(report: Report) -> str:
    points = [
        Point(
            audit.package,
            audit.lines,
            _ratio(audit.complexity, audit.functions),
            audit.functions,
            f"{audit.lines:,} lines, {audit.functions:,} functions",
        )
        for audit in report.packages
        if audit.functions
    ]
    return scatter(points, LABELLED, "lines", "mean complexity")


def _band_chart(totals: Totals) -> str:
    lows = (1, *(limit + 1 for limit in BANDS))
    names = [f"{low} - {high}" for low, high in zip(lows, BANDS, strict=False)] + [f"over {BANDS[-1]}"]
    rows = [Bar(name, count, f"{count:,}") for name, count in zip(names, totals.bands, strict=False)]
    return columns(rows, "Functions by complexity")


def _functions(report: Report) -> str:
    tables = []
    for title, kind in (("Most complex functions", "most_complex"), ("Longest functions", "longest")):
        rows = (
            (f"{package}: {one.name}", f"{one.file}:{one.line}", f"{one.complexity:,}", f"{one.lines:,}")
            for package, one in top_functions(report, kind)
        )
        tables.append(f"<div><h2>{title}</h2>{_table(('function', 'where', 'complexity', 'lines'), rows, 2)}</div>")
    return f'<section class="tables">{"".join(tables)}</section>\n'


def _problems(report: Report) -> str:
    rows = [
        (audit.package, f"{problem.file}:{problem.line}" if problem.line else problem.file, problem.reason)
        for audit in report.packages
        for problem in audit.problems
    ]
    if not rows:
        return "<section><h2>Files that did not parse</h2><p>None.</p></section>\n"
    more = report.totals.unparsed - len(rows)
    tail = f"<p>and {more:,} more in the same packages</p>" if more else ""
    return f"<section><h2>Files that did not parse</h2>{_table(('package', 'where', 'why'), rows, 3)}{tail}</section>\n"


def _packages(audits: Sequence[Audit]) -> str:
    heads = ("package", "files", "lines", "classes", "functions", "mean complexity", "undocumented", "did not parse")
    rows = (
        (
            audit.package,
            f"{audit.files:,}",
            f"{audit.lines:,}",
            f"{audit.classes:,}",
            f"{audit.functions:,}",
            f"{_ratio(audit.complexity, audit.functions):.1f}",
            f"{audit.undocumented:,}",
            f"{audit.unparsed:,}",
        )
        for audit in audits
    )
    table = _table(heads, rows, 1)
    return f"<section><details><summary>All {len(audits):,} packages</summary>{table}</details></section>\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """Return a table whose first `words` columns hold text and the others figures."""
    lines = "".join(f"<tr>{_cells('td', row, words)}</tr>" for row in rows)
    return f"<table><thead><tr>{_cells('th', heads, words)}</tr></thead><tbody>{lines}</tbody></table>"


def _cells(tag: str, row: Sequence[str], words: int) -> str:
    plain = (f"<{tag}>{text(cell)}</{tag}>" for cell in row[:words])
    figures = (f'<{tag} class="figure">{text(cell)}</{tag}>' for cell in row[words:])
    return "".join((*plain, *figures))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
