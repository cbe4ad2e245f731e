"""What is made of measured values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.arithmetic import Spread, growth, paired_ratios, percentile, scaled

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30)


def test_a_spread_is_minimum_median_maximum() -> None:
    """Of an even number of values the median is between the two in the middle."""
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(1.0, 2.0, 3.0)
    assert Spread.of([4.0, 1.0, 2.0, 3.0]).median == 2.5
    assert Spread.of([1.0]).as_json() == {"minimum": 1.0, "median": 1.0, "maximum": 1.0}


@given(VALUES)
def test_a_median_lies_between_the_extremes(values: list[float]) -> None:
    spread = Spread.of(values)

    assert spread.minimum <= spread.median <= spread.maximum


def test_nothing_measured_is_an_error_and_no_zero() -> None:
    for of_nothing in (Spread.of, lambda values: percentile(values, 0.5)):
        with pytest.raises(ValueError, match="measure at least once"):
            of_nothing([])


def test_ratios_are_made_of_runs_of_the_same_repetition() -> None:
    """A repetition that only one of them was measured in makes no ratio, whatever its figure."""
    ours = {0: 2.0, 1: 30.0, 3: 4.0}
    theirs = {0: 1.0, 1: 10.0, 2: 0.1}

    assert paired_ratios(ours, theirs) == [2.0, 3.0]
    assert paired_ratios({0: 1.0}, {}) == []


@given(st.dictionaries(st.integers(0, 9), st.floats(0.01, 100), min_size=1), st.floats(0.1, 10))
def test_a_slower_machine_moves_no_ratio(seconds: dict[int, float], slower: float) -> None:
    """What multiplies all times of a repetition alike is gone in its ratio."""
    ours = {at: 3 * value for at, value in seconds.items()}

    assert paired_ratios(
        {at: slower * value for at, value in ours.items()}, {at: slower * value for at, value in seconds.items()}
    ) == pytest.approx([3.0] * len(seconds))


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 101)]

    assert [percentile(values, share) for share in (0, 0.5, 0.95, 1)] == [1, 50, 95, 100]
    assert percentile([7.0], 0.95) == 7.0


@given(VALUES, st.floats(0, 1))
def test_no_more_than_the_rest_is_above_a_percentile(values: list[float], share: float) -> None:
    found = percentile(values, share)

    assert found in values
    assert sum(value > found for value in values) <= (1 - share) * len(values) + 1e-6


def test_growth_is_the_cost_per_stage_of_large_over_small() -> None:
    """Ten times the stages in ten times the time is 1; the small runs around it count by their mean."""
    assert growth([1.0, 3.0], 20.0, 100, 1_000) == pytest.approx(1.0)
    assert growth([1.0, 1.0], 15.0, 100, 1_000) == pytest.approx(1.5)


def test_figures_have_three_digits_and_no_false_ones() -> None:
    assert [scaled(value) for value in (0, 0.01234, 1.2, 12.34, 123.4, 1_234_567)] == [
        "0",
        "0.0123",
        "1.20",
        "12.3",
        "123",
        "1,234,567",
    ]
