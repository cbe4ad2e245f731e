"""What each lever gives: who is measured beside whom, and what is made of it."""

from __future__ import annotations

from benchmarks.compare import Cell
from benchmarks.levers import ALL, LEVERS, MODES, SHAPES, entries, measured, table


def test_each_peer_lacks_one_lever() -> None:
    """All else is as it is by default."""
    plain, *lacking = entries("fused")

    assert (plain.name, plain.arguments) == (ALL, ("fused",))
    assert [entry.name for entry in lacking] == list(LEVERS)
    assert {entry.arguments[:1] for entry in lacking} == {("fused",)}
    assert all(len(entry.arguments) > 1 for entry in lacking)
    assert all(entry.is_judged for entry in (plain, *lacking))


def test_a_lever_gives_what_is_lost_without_it() -> None:
    """Pairs of one repetition; what could not be measured says why."""
    cells = {
        ALL: Cell(seconds={0: 1.0, 1: 2.0, 2: 1.0}),
        "quick": Cell(seconds={0: 1.5, 1: 4.0, 2: 1.1}),
        "broken": Cell(skipped="it ended"),
    }

    assert measured(cells) == {
        "quick": {"minimum": 1.1, "median": 1.5, "maximum": 2.0},
        "broken": {"skipped": "it ended"},
    }


def test_the_table_has_a_line_for_each_lever() -> None:
    """And a column for each mode and shape."""
    lever = next(iter(LEVERS))
    found = {MODES[0]: {SHAPES[0]: {lever: {"minimum": 1.1, "median": 1.5, "maximum": 2.0}}}}

    head, _, first, *rest = table(found).splitlines()

    assert head.count("|") == first.count("|") == 2 + len(MODES) * len(SHAPES)
    assert first.startswith(f"| {lever} | 1.50 (1.10-2.00) | - |")
    assert len(rest) == len(LEVERS) - 1
