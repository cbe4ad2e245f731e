"""Laying outputs over each other."""

from stabilize_celery.models.merge import merge_outputs


def test_the_latest_value_wins_and_lists_are_joined_without_repeats() -> None:
    """Only two lists are joined; a list and something else replace each other."""
    layers: list[dict[str, object]] = [
        {"a": 1, "l": [1, 1], "m": [1]},
        {"a": 2, "l": [1, 2], "m": 5},
        {"l": [2, 3], "m": [7]},
    ]

    assert merge_outputs(layers) == {"a": 2, "l": [1, 1, 2, 3], "m": [7]}


def test_lists_of_what_can_not_be_hashed_are_joined_too() -> None:
    """Objects and lists inside are compared by value."""
    assert merge_outputs([{"l": [{"a": 1}]}, {"l": [{"a": 1}, ["x"]]}, {"l": [["x"], None]}]) == {
        "l": [{"a": 1}, ["x"], None]
    }


def test_nothing_that_was_given_is_changed() -> None:
    """The layers keep their lists."""
    first = {"l": [1]}
    merge_outputs([first, {"l": [2]}])["l"].append(9)

    assert first == {"l": [1]}


def test_many_long_lists_are_joined_in_linear_time() -> None:
    """Ten thousand layers of ten items each come to a hundred thousand items at once."""
    merged = merge_outputs({"l": [f"{layer}-{item}" for item in range(10)]} for layer in range(10_000))

    assert len(merged["l"]) == 100_000
