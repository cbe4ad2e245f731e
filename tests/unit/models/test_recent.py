"""Marks of definitions: the same only for what is the same in every way that counts."""

from __future__ import annotations

from typing import Any

import pytest

from stabilize_celery.models.recent import LARGEST_BYTES, Recent, mark_of
from stabilize_celery.models.stage import JoinType


def test_equal_data_has_one_mark_whoever_shares_what() -> None:
    """Two dicts that hold one list, and two that hold a list each."""
    shared = ["a", 1, 2.5, None, True]

    assert mark_of([shared, shared]) == mark_of([list(shared), list(shared)])


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1}, {"a": 1.0}), ({"a": 1}, {"a": True}), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ("a", b"a")],
)
def test_what_is_stored_or_judged_otherwise_has_another_mark(one: Any, other: Any) -> None:
    """Types and the order of keys count: conditions are judged in order."""
    assert mark_of(one) != mark_of(other)


@pytest.mark.parametrize("value", [JoinType.OR, object(), {"a": {object()}}, "x" * LARGEST_BYTES])
def test_what_is_not_plain_or_large_has_no_mark(value: Any) -> None:
    """It is looked at each time."""
    assert mark_of(value) is None


def test_a_circle_has_no_mark() -> None:
    """And is no reason to go round for ever."""
    circle: list[Any] = []
    circle.append(circle)

    assert mark_of(circle) is None


def test_what_would_fill_the_memory_is_not_written() -> None:
    """What stands in itself twice, or is shared at each of many levels, is short to say and has no end written out."""
    twice: list[object] = []
    twice += [twice, twice]
    laughs: object = "lol"
    for _ in range(40):
        laughs = {"a": laughs, "b": [laughs]}

    assert mark_of(twice) is None
    assert mark_of({"context": laughs}) is None


def test_the_oldest_is_forgotten() -> None:
    """And what has no mark is not kept."""
    recent: Recent[int] = Recent(2)
    for number in range(3):
        recent.keep(mark_of(number), number)
    recent.keep(None, 7)

    assert [recent.get(mark) for mark in (mark_of(0), mark_of(1), mark_of(2), None)] == [None, 1, 2, None]


def test_what_was_made_of_much_makes_room_sooner() -> None:
    """A few large definitions, or many small ones."""
    texts = ["x" * 400, "y" * 400, "z" * 400]
    recent: Recent[str] = Recent(10, most_bytes=1_000)
    for text in texts:
        recent.keep(mark_of(text), text)

    assert [recent.get(mark_of(text)) for text in texts] == [None, texts[1], texts[2]]


def test_what_has_no_room_makes_none() -> None:
    """One definition that is larger than all that may be kept leaves the others where they are."""
    recent: Recent[str] = Recent(10, most_bytes=1_000)
    for text in ("small", "x" * 2_000):
        recent.keep(mark_of(text), text)

    assert [recent.get(mark_of(text)) for text in ("small", "x" * 2_000)] == ["small", None]


def test_what_was_made_on_other_terms_is_another_value() -> None:
    """The same definition, kept for another time."""
    recent: Recent[str] = Recent(10)
    recent.keep(mark_of("a"), "for a day", 1)

    assert recent.get(mark_of("a"), 1) == "for a day"
    assert recent.get(mark_of("a"), 7) is None
