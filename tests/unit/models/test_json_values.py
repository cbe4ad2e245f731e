"""Copying what users put into contexts, and saying where it is not JSON."""

import math
from collections import OrderedDict
from enum import IntEnum, StrEnum

import pytest

from stabilize_celery.models.json_values import NOT_JSON, copy_json
from stabilize_celery.models.problems import Problem


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


def problems_of(value: object) -> list[str]:
    problems: list[Problem] = []
    copy_json(value, "context", problems)
    assert all(problem.code == NOT_JSON for problem in problems)
    return [str(problem) for problem in problems]


def test_json_is_copied_deeply_into_plain_types() -> None:
    """Tuples become lists, subclasses their plain type; the copy shares nothing."""
    inner = [1, 2.5, None, True, "ü"]
    value = OrderedDict(a=inner, b=(Colour.RED, Level.HIGH))
    problems: list[Problem] = []
    copied = copy_json(value, "context", problems)
    inner.append(9)

    assert (copied, problems) == ({"a": [1, 2.5, None, True, "ü"], "b": ["red", 3]}, [])
    assert [type(item) for item in copied["b"]] == [str, int]
    assert type(copied) is dict


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"handle": object()}, "context.handle: object is not JSON: object"),
        ({"a": [1, b"x"]}, "context.a[1]: object is not JSON: bytes; decode it, or pass base64 text"),
        ({"a": {"b": {1, 2}}}, "context.a.b: object is not JSON: set; pass a sorted list"),
        ({"n": math.nan}, "context.n: number is not JSON: nan"),
        ({"n": -math.inf}, "context.n: number is not JSON: -inf"),
        ({1: "x"}, "context: key 1 is not JSON: keys must be text, not int"),
        ({"n": 2**64}, "context.n: whole number is beyond 64 bits; pass it as text"),
        ({"t": "\ud800"}, "context.t: text is not JSON: it holds half of a surrogate pair"),
        ({"\ud800": 1}, "context: text is not JSON: it holds half of a surrogate pair"),
        ({"a key.with dots": print}, "context['a key.with dots']: object is not JSON: builtin_function_or_method"),
    ],
)
def test_what_is_not_json_is_told_with_its_path(value: object, told: str) -> None:
    """The path leads to the key."""
    assert problems_of(value) == [told]


def test_everything_that_is_not_json_is_told() -> None:
    """Not only the first."""
    assert len(problems_of({"a": object(), "b": [object(), {"c": object()}]})) == 3


def test_numbers_of_64_bits_pass() -> None:
    """The limits are msgpack's."""
    assert problems_of([-(2**63), 2**64 - 1, 0.1]) == []


def test_nesting_is_bounded_even_for_a_value_inside_itself() -> None:
    """64 levels pass, 65 do not, and a circle is found at once, however many ways lead round it."""
    value: list[object] = []
    for _ in range(63):
        value = [value]
    circle: dict[str, object] = {}
    circle["me"] = circle
    family: dict[str, object] = {}
    family["children"] = [{"parent": family} for _ in range(40)]

    assert problems_of(value) == []
    assert len(problems_of([value])) == 1
    assert "contains itself" in problems_of(circle)[0]
    assert len(problems_of(family)) == 40
