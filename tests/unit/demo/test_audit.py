"""The audit of one package: what is counted, and that nothing in a file can stop it."""

import ast
import os
import textwrap
from pathlib import Path

import pytest

from stabilize_celery.demo.audit import audit_package, complexity

COUNTED = [
    ("pass", 1),
    ("if a:\n    pass\nelif b:\n    pass\nelse:\n    pass", 3),
    ("for x in y:\n    while z:\n        pass", 3),
    ("try:\n    pass\nexcept A:\n    pass\nexcept B:\n    pass", 3),
    ("return a and b and c or d", 4),
    ("return 1 if a else 2", 2),
    ("return [x for x in y for z in x if z if x]", 5),
    ("assert a", 2),
    ("match a:\n    case 1:\n        pass\n    case _:\n        pass", 3),
    ("def inner():\n    if a:\n        pass", 1),
    ("return lambda: a or b", 2),
]


@pytest.mark.parametrize(("body", "expected"), COUNTED, ids=[str(number) for number in range(len(COUNTED))])
def test_complexity_is_one_plus_the_branches(body: str, expected: int) -> None:
    """Each kind of branch counts once; a function inside counts for itself."""
    function = ast.parse("def f():\n" + textwrap.indent(body, "    ")).body[0]

    assert complexity(function) == expected


def test_the_figures_of_a_package_are_those_of_its_files(tree: Path) -> None:
    """Lines, classes, functions and docstrings are counted over all files."""
    audit = audit_package("shapes", tree / "shapes")

    assert (audit.files, audit.lines, audit.classes, audit.functions) == (2, 20, 1, 4)
    assert (audit.documentable, audit.undocumented) == (4, 2)
    assert audit.most_complex[0].name == "Shape.area"
    assert (audit.most_complex[0].file, audit.most_complex[0].complexity) == ("round/shape.py", 5)
    assert audit.longest[0].name == "draw"
    assert audit.bands == (4, 0, 0, 0, 0)
    assert audit.complexity == sum(function.complexity for function in audit.most_complex)


def test_files_that_do_not_parse_are_reported_and_the_rest_is_audited(tree: Path) -> None:
    """A syntax error and a wrong encoding are problems of their file alone."""
    audit = audit_package("bad", tree / "bad")

    assert (audit.files, audit.unparsed, audit.lines) == (3, 2, 4)
    assert [problem.file for problem in audit.problems] == ["broken.py", "latin.py"]
    assert audit.problems[0].line == 1
    assert all(problem.reason.startswith("SyntaxError: ") for problem in audit.problems)


def test_names_that_are_not_ascii_stay_as_they_are(tree: Path) -> None:
    """Unicode in folders, files and identifiers."""
    audit = audit_package("café", tree / "café")

    assert (audit.longest[0].file, audit.longest[0].name) == ("grün.py", "grüßen")


def test_a_module_is_a_package_of_one_file(tree: Path) -> None:
    """Also one whose string literals the parser warns about."""
    audit = audit_package("solo", tree / "solo.py")

    assert (audit.files, audit.functions, audit.unparsed, audit.longest[0].file) == (1, 1, 0, "solo.py")


@pytest.mark.parametrize(
    "content",
    [b"x = '\0'\n", b"(" * 5_000, b"x = " + b"-" * 100_000 + b"1\n", b"# coding: no-such\n", b"\xef\xbb\xbf\xff"],
)
def test_hostile_content_is_reported(tmp_path: Path, content: bytes) -> None:
    """Null bytes, endless nesting, unknown encodings: a problem with a reason, never an exception."""
    (tmp_path / "bad.py").write_bytes(content)

    audit = audit_package("p", tmp_path)

    assert audit.unparsed == 1
    assert audit.problems[0].reason


def test_what_is_no_readable_file_is_reported(tmp_path: Path) -> None:
    """A link to nothing and a pipe (reading it would wait for ever)."""
    (tmp_path / "link.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.py")

    audit = audit_package("p", tmp_path)

    assert [problem.file for problem in audit.problems] == ["link.py", "pipe.py"]


def test_an_empty_package_has_zero_of_everything(tmp_path: Path) -> None:
    """An empty file lacks no docstring."""
    (tmp_path / "__init__.py").touch()

    audit = audit_package("p", tmp_path)

    assert (audit.files, audit.lines, audit.functions, audit.documentable, audit.unparsed) == (1, 0, 0, 0, 0)
