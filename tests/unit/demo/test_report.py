"""The report: safe whatever names a tree has, and the same figures on the page and in JSON."""

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from stabilize_celery.demo.audit import Audit, FunctionFacts, Problem, audit_package
from stabilize_celery.demo.figures import Report, add_up, numbers_of, rank
from stabilize_celery.demo.listing import list_packages, package_path
from stabilize_celery.demo.report import to_html, to_json

HOSTILE = "<script>alert(1)</script>\"'&"


def report_of(audits: list[Audit], source: str = "/tree") -> Report:
    numbers = {audit.package: numbers_of(audit) for audit in audits}
    return Report(source, "01JD", "2026-01-01", "3.11", add_up(numbers.values()), rank(numbers), tuple(audits))


@pytest.fixture
def report(tree: Path) -> Report:
    return report_of([audit_package(one.name, package_path(tree, one.name)) for one in list_packages(tree)])


class Page(HTMLParser):
    """The tags of a page, its text, and the attributes that could load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [tag] if tag != "meta" else []
        self.loads += [f"{name}={value}" for name, value in attrs if name in {"src", "href", "xlink:href", "style"}]
        self.loads += [name for name, _ in attrs if name.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_needs_nothing_but_itself(report: Report) -> None:
    """No script, no link, no picture: it can be mailed, and opens without a network."""
    page = Page(to_html(report))

    assert not page.loads
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert page.open == []
    assert "svg" in page.tags


def test_json_and_page_show_the_same_figures(report: Report) -> None:
    """Both are made from one value."""
    totals = msgspec.json.decode(to_json(report))["totals"]
    figures = dict(re.findall(r'data-figure="(\w+)">([\d,]+)<', to_html(report)))

    for name in ("packages", "files", "lines", "functions", "classes", "unparsed"):
        assert int(figures[name].replace(",", "")) == totals[name]
    assert (totals["packages"], totals["files"], totals["unparsed"]) == (4, 7, 2)


def test_files_that_did_not_parse_are_listed_with_the_reason(report: Report) -> None:
    """A reader sees which file, which line and why."""
    words = Page(to_html(report)).words

    assert "broken.py:1" in words
    assert "SyntaxError" in words


def test_hostile_names_stay_text(report: Report) -> None:
    """A folder may be called like a script tag."""
    function = FunctionFacts(HOSTILE, HOSTILE, 1, 10, 10)
    audit = msgspec.structs.replace(
        report.packages[0], package=HOSTILE, longest=(function,), problems=(Problem(HOSTILE, 1, HOSTILE),)
    )

    page = Page(to_html(report_of([audit], source=HOSTILE)))

    assert "script" not in page.tags
    assert not page.loads
    assert HOSTILE in page.words


def test_a_tree_without_functions_has_a_report(tmp_path: Path) -> None:
    """Charts of nothing, no division by zero."""
    (tmp_path / "__init__.py").touch()

    page = Page(to_html(report_of([audit_package("p", tmp_path)])))

    assert page.open == []


def test_json_can_be_read_back(report: Report) -> None:
    """Nothing is lost on the way."""
    assert msgspec.json.decode(to_json(report), type=Report) == report
