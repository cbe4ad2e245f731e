"""Which runs wait for a signal with all that is part of them (wcp 1.2)."""

import pytest

from stabilize_celery.engine.standing import waiting, with_parts
from stabilize_celery.engine.state import Run


def _runs(**given: str) -> dict[str, Run]:
    """Runs by thread, each written `STATUS` or `STATUS of WHOLE`."""
    parts = ((thread, text.partition(" of ")) for thread, text in given.items())
    return {thread: Run(ref="a", status=status, parent=whole) for thread, (status, _, whole) in parts}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"p": "RUNNING"}, ""),
        ({"p": "SUSPENDED"}, "p"),
        ({"p": "RUNNING", "b": "SUSPENDED of p"}, "bp"),
        ({"p": "RUNNING", "b": "SUSPENDED of p", "c": "RUNNING of p"}, "b"),
        ({"p": "RUNNING", "b": "SUSPENDED of p", "c": "BUFFERED of p"}, "b"),
        ({"p": "RUNNING", "b": "SUSPENDED of p", "c": "SUCCEEDED of p"}, "bp"),
        ({"p": "RUNNING", "b": "RUNNING of p", "i": "SUSPENDED of b", "j": "SUSPENDED of b"}, "bijp"),
        ({"p": "RUNNING", "b": "RUNNING of p", "i": "SUSPENDED of b", "j": "NOT_STARTED of b"}, "i"),
        ({"p": "SUCCEEDED", "i": "SUSPENDED of p"}, "i"),
    ],
)
def test_a_run_waits_if_every_unfinished_line_of_its_work_does(given: dict[str, str], expected: str) -> None:
    """Its instances and the stages before and after it are such lines, and theirs are."""
    assert waiting(_runs(**given)) == set(expected)


def test_what_is_part_of_a_run_is_found_at_any_depth() -> None:
    """And nothing beside it."""
    runs = _runs(p="RUNNING", b="RUNNING of p", i="RUNNING of b", q="RUNNING", c="RUNNING of q")

    assert with_parts(runs, ["p"]) == {"p", "b", "i"}
