"""Measure one package: parse every file with `ast` and count. Nothing is imported, nothing is run."""

import ast
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path

import msgspec

from stabilize_celery.demo.listing import shown, source_files

__all__ = ["BANDS", "Audit", "FunctionFacts", "Problem", "audit_package", "complexity"]

MAX_FILE_BYTES = 8 * 1024 * 1024
KEPT_FUNCTIONS = 10
KEPT_PROBLEMS = 50

BANDS = (5, 10, 20, 50)
"""Upper ends of the complexity bands; a fifth band holds what lies above."""

BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.match_case,
)  # fmt: skip
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.ClassDef)

# `warnings.catch_warnings` changes the whole process, and a threads pool audits several packages at once.
_parsing = threading.Lock()


class FunctionFacts(msgspec.Struct, frozen=True):
    """One function: where it is, how long (lines) and how branchy (cyclomatic complexity)."""

    name: str
    file: str
    line: int
    lines: int
    complexity: int


class Problem(msgspec.Struct, frozen=True):
    """A file that could not be audited, with the line (0: none in particular) and the reason."""

    file: str
    line: int
    reason: str


class Audit(msgspec.Struct, frozen=True):
    """What is known of one package after the audit; all figures are counts.

    Attributes:
        bands: Functions per complexity band of `BANDS`.
        documentable: Public modules, classes, functions and methods.
        undocumented: Those of them without a docstring.
        unparsed: Files that could not be audited; `problems` names the first ones.
        longest: The longest functions, longest first.
        most_complex: The functions with the highest complexity, highest first.

    """

    package: str
    files: int
    lines: int
    classes: int
    functions: int
    complexity: int
    bands: tuple[int, ...]
    documentable: int
    undocumented: int
    unparsed: int
    longest: tuple[FunctionFacts, ...]
    most_complex: tuple[FunctionFacts, ...]
    problems: tuple[Problem, ...]


class FileFacts(msgspec.Struct, frozen=True):
    """What one file adds to its package's audit."""

    lines: int = 0
    classes: int = 0
    functions: tuple[FunctionFacts, ...] = ()
    documentable: int = 0
    undocumented: int = 0
    problem: Problem | None = None


def audit_package(name: str, path: Path) -> Audit:
    """Return the audit of the package at `path`; a file that does not parse is reported, not fatal."""
    inside = path if path.is_dir() else path.parent
    return _summed(name, [_audit_file(file, shown(file.relative_to(inside))) for file in source_files(path)])


def complexity(function: ast.AST) -> int:
    """Return the cyclomatic complexity: one, plus one per branch; functions inside count for themselves.

    Branches are if, conditional expression, loop, except, assert, each `for` and `if` of a comprehension,
    each case of a match, and each operand of and/or after the first. Source: T. J. McCabe, 1976.
    """
    total, waiting = 1, list(ast.iter_child_nodes(function))
    # Not `ast.walk`: nested scopes are left out. Not recursive: generated code nests deeper than Python's stack.
    while waiting:
        node = waiting.pop()
        total += _branches(node)
        if not isinstance(node, SCOPES):
            waiting.extend(ast.iter_child_nodes(node))
    return total


def _branches(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, BRANCHES))


def _audit_file(file: Path, name: str) -> FileFacts:
    try:
        source = _read(file)
    except (OSError, ValueError) as error:
        return FileFacts(problem=Problem(name, 0, _reason(error)))
    lines = source.count(b"\n") + (not source.endswith(b"\n") and bool(source))
    try:
        tree = _parse(source)
    except SyntaxError as error:
        return FileFacts(lines=lines, problem=Problem(name, error.lineno or 0, _reason(error)))
    except (ValueError, RecursionError, MemoryError) as error:
        return FileFacts(lines=lines, problem=Problem(name, 0, _reason(error)))
    return _measure(tree, lines, name)


def _read(file: Path) -> bytes:
    if not file.is_file():
        message = "is not a regular file, or is a link to nothing"
        raise ValueError(message)
    if file.stat().st_size > MAX_FILE_BYTES:
        message = f"is larger than {MAX_FILE_BYTES // 1024 // 1024} MB"
        raise ValueError(message)
    return file.read_bytes()


def _parse(source: bytes) -> ast.Module:
    with _parsing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _reason(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else getattr(error, "strerror", None) or str(error)
    whole = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return whole[:200].encode("utf-8", "backslashreplace").decode()


def _measure(tree: ast.Module, lines: int, name: str) -> FileFacts:
    functions: list[FunctionFacts] = []
    classes = 0
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        node, outer = waiting.pop()
        inner = f"{outer}{node.name}." if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else outer
        classes += isinstance(node, ast.ClassDef)
        if isinstance(node, FUNCTIONS):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            functions.append(FunctionFacts(inner[:-1], name, node.lineno, length, complexity(node)))
        waiting.extend((child, inner) for child in ast.iter_child_nodes(node))
    documented = [ast.get_docstring(node, clean=False) is not None for node in _documentable(tree)]
    return FileFacts(lines, classes, tuple(functions), len(documented), documented.count(False))


def _documentable(
    scope: ast.Module | ast.ClassDef,
) -> Iterable[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    if scope.body:
        yield scope
    public = (node for node in scope.body if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name[0] != "_")
    for node in public:
        if isinstance(node, ast.ClassDef):
            yield from _documentable(node)
        else:
            yield node


def _summed(name: str, files: list[FileFacts]) -> Audit:
    functions = [function for facts in files for function in facts.functions]
    problems = [facts.problem for facts in files if facts.problem]
    return Audit(
        package=name,
        files=len(files),
        lines=sum(facts.lines for facts in files),
        classes=sum(facts.classes for facts in files),
        functions=len(functions),
        complexity=sum(function.complexity for function in functions),
        bands=_banded(functions),
        documentable=sum(facts.documentable for facts in files),
        undocumented=sum(facts.undocumented for facts in files),
        unparsed=len(problems),
        longest=tuple(sorted(functions, key=_by_length)[:KEPT_FUNCTIONS]),
        most_complex=tuple(sorted(functions, key=_by_complexity)[:KEPT_FUNCTIONS]),
        problems=tuple(problems[:KEPT_PROBLEMS]),
    )


def _by_length(function: FunctionFacts) -> tuple[int, str, int]:
    return (-function.lines, function.file, function.line)


def _by_complexity(function: FunctionFacts) -> tuple[int, str, int]:
    return (-function.complexity, function.file, function.line)


def _banded(functions: list[FunctionFacts]) -> tuple[int, ...]:
    counts = [0] * (len(BANDS) + 1)
    for function in functions:
        counts[sum(function.complexity > limit for limit in BANDS)] += 1
    return tuple(counts)
