"""Reducers: how the outputs of branches become one value."""

import pytest

from stabilize_celery.models import reducers
from stabilize_celery.models.evaluation import EvaluationError
from stabilize_celery.models.reducers import (
    ReducerError,
    apply_output_reducers,
    get_reducer,
    reduce,
    reducer_names,
    register_reducer,
)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test its own custom reducers."""
    monkeypatch.setattr(reducers, "_CUSTOM", {})


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("collect", [1, [2, 3], None], [1, 2, 3, None]),
        ("append", [1, [2, 3], None], [1, 2, 3, None]),
        ("extend", [1, [2, 3], None], [1, 2, 3]),
        ("sum", [1, None, 2.5], 3.5),
        ("max", [1, None, 3], 3),
        ("min", [4, None, 3], 3),
        ("max", [None], None),
        ("merge", [{"a": 1, "b": 1}, 7, {"b": 2}], {"a": 1, "b": 2}),
        ("first", [1, 2], 1),
        ("last", [1, 2], 2),
    ],
)
def test_every_built_in_reducer_folds_as_documented(name: str, values: list[object], wanted: object) -> None:
    """The branches' values become one."""
    assert apply_output_reducers({"k": name}, [{"k": value} for value in values]) == {"k": wanted}


def test_only_keys_that_some_branch_has_are_reduced() -> None:
    """Other outputs are left to the usual merge."""
    assert apply_output_reducers({"a": "sum", "b": "sum"}, [{"a": 1, "x": 9}, {"a": 2}]) == {"a": 3}


@pytest.mark.usefixtures("registry")
def test_a_custom_reducer_is_known_by_its_name_and_hides_a_built_in() -> None:
    """register_reducer makes it usable in output_reducers."""
    register_reducer("sum", len)

    assert apply_output_reducers({"k": "sum"}, [{"k": 5}, {"k": 6}]) == {"k": 2}
    assert get_reducer("nobody") is None
    assert "sum" in reducer_names()


def test_an_unknown_reducer_is_named_with_those_that_exist() -> None:
    """The error says which key, which name, and what there is."""
    with pytest.raises(ValueError, match=r"'k'.*'summ'.*collect, extend"):
        apply_output_reducers({"k": "summ"}, [])


def test_an_unknown_reducer_takes_the_last_value() -> None:
    """It was known where the workflow was submitted; here the workflow goes on."""
    assert reduce("not known here", [1, 2, 3]) == 3


def test_a_reducer_that_cannot_combine_says_what_it_was_given() -> None:
    """It is no condition's error, and is told as one of the definition's."""
    with pytest.raises(ReducerError, match=r"output_reducers: 'sum' can't combine \['text'\]") as failure:
        reduce("sum", ["text"])

    assert isinstance(failure.value, EvaluationError)
