"""The figures of a whole tree: what each package tells the others, how they add up, who comes first."""

from collections.abc import Iterable, Mapping

import msgspec

from stabilize_celery.demo.audit import Audit, FunctionFacts

__all__ = ["Numbers", "Ranking", "Report", "Totals", "add_up", "numbers_of", "rank", "top_functions"]

RANKED = 15


class Numbers(msgspec.Struct, frozen=True):
    """A package's figures, small enough to travel from stage to stage; all are counts.

    Attributes:
        longest: The longest function (lines).
        worst: The highest complexity of a function.

    """

    files: int
    lines: int
    classes: int
    functions: int
    complexity: int
    bands: tuple[int, ...]
    documentable: int
    undocumented: int
    unparsed: int
    longest: int
    worst: int


class Totals(msgspec.Struct, frozen=True):
    """The figures of all packages together; all are counts."""

    packages: int
    files: int
    lines: int
    classes: int
    functions: int
    complexity: int
    bands: tuple[int, ...]
    documentable: int
    undocumented: int
    unparsed: int


class Ranking(msgspec.Struct, frozen=True):
    """Names of packages, the most remarkable first."""

    largest: tuple[str, ...]
    most_complex: tuple[str, ...]
    least_documented: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """All that the HTML page and the JSON file show; both are made from this value.

    Attributes:
        source: The folder that was audited.
        made_at: When the report was made (ISO 8601, UTC).
        python: Version of the interpreter that parsed the files.
        packages: One audit per package, largest first.

    """

    source: str
    workflow_id: str
    made_at: str
    python: str
    totals: Totals
    ranking: Ranking
    packages: tuple[Audit, ...]


def numbers_of(audit: Audit) -> Numbers:
    """Return the figures of one audit that later stages need."""
    return Numbers(
        files=audit.files,
        lines=audit.lines,
        classes=audit.classes,
        functions=audit.functions,
        complexity=audit.complexity,
        bands=audit.bands,
        documentable=audit.documentable,
        undocumented=audit.undocumented,
        unparsed=audit.unparsed,
        longest=max((function.lines for function in audit.longest), default=0),
        worst=max((function.complexity for function in audit.most_complex), default=0),
    )


def add_up(packages: Iterable[Numbers]) -> Totals:
    """Return the totals of all packages."""
    every = list(packages)
    return Totals(
        packages=len(every),
        files=sum(one.files for one in every),
        lines=sum(one.lines for one in every),
        classes=sum(one.classes for one in every),
        functions=sum(one.functions for one in every),
        complexity=sum(one.complexity for one in every),
        bands=tuple(map(sum, zip(*(one.bands for one in every), strict=True))),
        documentable=sum(one.documentable for one in every),
        undocumented=sum(one.undocumented for one in every),
        unparsed=sum(one.unparsed for one in every),
    )


def rank(packages: Mapping[str, Numbers]) -> Ranking:
    """Return who has the most lines, the most complex function and the most missing docstrings."""

    def first(figure: str) -> tuple[str, ...]:
        ordered = sorted(packages, key=lambda name: (-getattr(packages[name], figure), name))
        return tuple(name for name in ordered if getattr(packages[name], figure))[:RANKED]

    return Ranking(first("lines"), first("worst"), first("undocumented"))


def top_functions(report: Report, kind: str) -> list[tuple[str, FunctionFacts]]:
    """Return (package, function) of the tree's first functions by `kind`: "longest" or "most_complex"."""
    figure = {"longest": "lines", "most_complex": "complexity"}[kind]
    every = [(audit.package, function) for audit in report.packages for function in getattr(audit, kind)]
    every.sort(key=lambda pair: (-getattr(pair[1], figure), pair[0], pair[1].file, pair[1].line))
    return every[:RANKED]
