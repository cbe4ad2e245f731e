"""The figures in the documents are those of the kept results, and say where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import document
from benchmarks.document import DOCS, FIGURES, filled
from benchmarks.results_file import RESULTS

DOCUMENTS = [path for path in sorted(DOCS.rglob("*.md")) if "<!-- figures: " in path.read_text()]
GROWTH = {
    "note": "Preliminary.",
    "made_at": "2026-01-02T03:04:05Z",
    "command": "python -m benchmarks growth",
    "machine": {
        "commit": "abc1234",
        "processors": 2,
        "processor": "",
        "architecture": "arm64",
        "system": "Linux 6.1-x",
        "python": "3.11",
    },
    "growth": [
        {"mode": "fused", "kind": "chain", "ratio": {"minimum": 1.0, "median": 1.06, "maximum": 1.123}},
        {"mode": "fused", "kind": "fan", "ratio": None},
    ],
}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_a_document_has_the_figures_of_the_kept_results(path: Path) -> None:
    """`python -m benchmarks document` writes them."""
    assert filled(path.read_text()) == path.read_text()


def test_what_is_kept_is_shown_somewhere() -> None:
    """A figure that no document has, or a file that nothing is made of, would go stale unseen."""
    asked = "".join(path.read_text() for path in DOCUMENTS)

    assert [name for name in FIGURES if f"<!-- figures: {name} -->" not in asked] == []
    assert {path.stem for path in RESULTS.glob("*.json")} == {
        "growth",
        "idle",
        "latest",
        "levers",
        "load",
        "memory",
        "message",
        "page",
        "peers",
        "processor",
        "recovery",
        "scaling",
    }


def test_a_place_is_filled_with_a_table_and_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stood there before goes; what stands around it stays."""

    def read(name: str) -> dict[str, Any]:
        assert name == "growth"
        return GROWTH

    monkeypatch.setattr(document, "read", read)
    text = "before\n<!-- figures: growth -->\nold\n<!-- end of figures -->\nbehind\n"

    told = filled(text)

    assert told.startswith("before\n<!-- figures: growth -->\n| mode |")
    assert told.endswith("\n<!-- end of figures -->\nbehind\n")
    assert "| `fused` | chain | 1.06 (1.00-1.12) |" in told
    assert "| `fused` | fan-out + join | - |" in told
    assert "`python -m benchmarks growth`, commit abc1234, 2026-01-02, 2 processors (arm64), Linux 6.1" in told
    assert "Preliminary." in told
    assert "old" not in told
    assert filled(told) == told


def test_figures_that_do_not_exist_are_no_empty_place() -> None:
    with pytest.raises(KeyError, match="speed"):
        filled("<!-- figures: speed -->\n<!-- end of figures -->")
