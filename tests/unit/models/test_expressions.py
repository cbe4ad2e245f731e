"""Conditions: what they may say, and that everything else fails closed, quickly, and in words."""

import contextlib
import time

import pytest

from stabilize_celery.models.expressions import (
    MAX_EXPRESSION_CHARS,
    ConditionError,
    check_expression,
    evaluate,
    evaluate_condition,
    names_in,
)

NAMES = {
    "n": 3,
    "x": 2.5,
    "text": "abc",
    "items": [1, 2, 3],
    "order": {"total": 7, "lines": [{"sku": "s"}]},
    "none": None,
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("7 // 2 + 7 % 4", 6),
        ("-n", -3),
        ("n > 2 and x < 3", True),
        ("n > 9 or not text", False),
        ("1 < n <= 3 != 4", True),
        ("'b' in text", True),
        ("'z' not in text", True),
        ("items[0] == 1 and items[-1] == 3", True),
        ("order['total'] >= 7", True),
        ("order['lines'][0]['sku'] == 's'", True),
        ("n in [1, 2, 3]", True),
        ("{'a': 1}['a']", 1),
        ("[1, [2]] == [1, [2]]", True),
        ("text + 'd'", "abcd"),
        ("none == None and n != None", True),
        ("true and not false and null == None", True),
        ("  n ==\t3 ", True),
    ],
)
def test_what_a_condition_may_say(expression: str, value: object) -> None:
    """Literals, names, indexing, comparisons, logic and arithmetic (wcp 1.4)."""
    assert check_expression(expression) is None
    assert evaluate(expression, NAMES) == value


@pytest.mark.parametrize(
    "expression",
    [
        "print(1)",
        "text.upper",
        "text.__class__",
        "().__class__.__mro__",
        "lambda: 1",
        "[n for n in items]",
        "{n for n in items}",
        "{n: n for n in items}",
        "(n for n in items)",
        "f'{n}'",
        "(y := 1)",
        "[*items]",
        "2 ** 3",
        "9**9**9",
        "1 << 99",
        "1 >> 1",
        "n @ n",
        "n & 1",
        "n | 1",
        "n ^ 1",
        "~n",
        "+n",
        "1 if n else 2",
        "{1, 2}",
        "(1, 2)",
        "n in (1, 2)",
        "items[0:1] == [1]",
        "items[::2]",
        "items[0, 1]",
        "none is None",
        "n is not None",
        "{**order}",
        "b'x'",
        "1j",
        "...",
        "await n",
        "import os",
        "n = 1",
        "n;n",
        "",
        "   ",
        "(",
        "'open",
        "1" + "+1" * MAX_EXPRESSION_CHARS,
        "(" * 1500 + "1" + ")" * 1500,
        "\x00",
    ],
)
def test_what_a_condition_may_not_say_is_refused_when_it_is_submitted(expression: str) -> None:
    """No calls, no attributes, nothing that binds, nothing that grows; and nothing that does not parse."""
    assert check_expression(expression)
    assert names_in(expression) == set()
    with pytest.raises(ConditionError):
        evaluate(expression, NAMES)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("missing > 1", "unknown name 'missing'"),
        ("n / 0", "ZeroDivisionError"),
        ("n + text", "TypeError"),
        ("n < text", "TypeError"),
        ("items[7]", "IndexError"),
        ("order['nothing']", "KeyError"),
        ("none['x']", "TypeError"),
        ("text * 3", "numbers"),
        ("items * 3", "numbers"),
        ("'%s' % n", "numbers"),
        ("-text", "TypeError"),
    ],
)
def test_what_goes_wrong_is_told_by_name(expression: str, told: str) -> None:
    """Any error fails the condition; the text says which expression, and what."""
    with pytest.raises(ConditionError, match="expression") as failure:
        evaluate_condition(expression, NAMES)

    assert told in str(failure.value)


def test_an_unknown_name_is_told_beside_the_known_ones() -> None:
    """Up to twenty of them: somebody has mistyped one."""
    with pytest.raises(ConditionError, match="known here: items, n, none, order, text, x"):
        evaluate("totl", NAMES)
    with pytest.raises(ConditionError, match="known here: none"):
        evaluate("totl", {})


@pytest.mark.parametrize(
    "expression",
    [
        "'a' * 10 ** 9",
        "'a' * 1000000000",
        "1000000000 * 'a'",
        "[0] * 1000000000",
        "'%0999999999d' % 1",
        "[[0] * 99999] * 99999 == [[0] * 99999] * 99999",
        "+".join(["text"] * 1000),
        "*".join(["99999999999999"] * 260),
        "not " * 900 + "n",
        "-" * 3000 + "n",
        "n" + "[0]" * 1200,
    ],
)
def test_a_condition_is_bounded_in_time_and_memory(expression: str) -> None:
    """A hostile definition costs no worker: refused, or done, at once."""
    before = time.process_time()
    with contextlib.suppress(ConditionError):
        evaluate(expression, {**NAMES, "text": "a" * 100_000})

    assert time.process_time() - before < 1


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("n > 1 and text in items", {"n", "text", "items"}),
        ("order['lines'][n]", {"order", "n"}),
        ("true and not None", set()),
        ("{text: [x]}", {"text", "x"}),
    ],
)
def test_which_names_it_looks_up_is_known_before(expression: str, names: set[str]) -> None:
    """So that only these are read; words for truth and nothing are no names."""
    assert names_in(expression) == names


@pytest.mark.parametrize("value", [0, "", [], {}, None, False])
def test_a_condition_holds_by_the_rules_of_python(value: object) -> None:
    """Empty and zero do not hold."""
    assert not evaluate_condition("value", {"value": value})
    assert evaluate_condition("not value", {"value": value})


def test_no_name_can_hide_a_word() -> None:
    """A context that calls something `True` changes nothing."""
    assert evaluate("True", {"True": False, "None": 1}) is True
