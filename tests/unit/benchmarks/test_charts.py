"""Charts are drawings that show what was measured."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.charts import Bar, bar_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(chart: str) -> tuple[list[str], list[float]]:
    """Return the titles from top to bottom, and how long their bars are."""
    root = ET.fromstring(chart)
    titles = [text.text or "" for text in root.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    widths = [float(rect.get("width", "0")) for rect in list(root.iter(f"{SVG}rect"))[1:]]
    return titles, widths


def test_the_fastest_stands_on_top_and_longer_bars_are_slower() -> None:
    chart = bar_chart("t", "s", [Bar("slow", 9, 10, 11), Bar("fast", 0.9, 1, 1.1), Bar("middle", 4, 5, 6)], mark=1)

    titles, widths = drawn(chart)

    assert titles == ["fast", "middle", "slow"]
    assert widths == sorted(widths)


def test_titles_are_text_and_no_markup() -> None:
    assert drawn(bar_chart("a < b", "&", [Bar("<x>", 1, 2, 3)]))[0] == ["<x>"]


def test_what_has_no_logarithm_is_refused() -> None:
    for bars in ([], [Bar("zero", 0, 1, 2)]):
        with pytest.raises(ValueError, match="above 0"):
            bar_chart("t", "s", bars)
