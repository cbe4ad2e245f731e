"""What a run sees: who wrote what last, and how branches become one (wcp 1.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.handler import reduce, visible_values
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.past import Past, Source, extended, merged, resolve, threads_of
from stabilize_celery.engine.places import DEFINITION
from stabilize_celery.engine.places import run as run_key
from stabilize_celery.engine.state import Run, WorkflowRecord
from tests.unit.engine.driving import NOW_MS, W, World, plan_of

NAMES = st.sampled_from(["a", "b", "c"])


def pasts() -> st.SearchStrategy[list[Past]]:
    writes = st.lists(st.tuples(st.sets(NAMES, min_size=1), st.sampled_from("tuv"), st.integers(0, 50)), max_size=4)
    return st.lists(writes.map(_written), min_size=1, max_size=3)


def _written(writes: list[tuple[set[str], str, int]]) -> Past:
    past: Past = {}
    for names, thread, stamp in writes:
        past = extended(past, sorted(names), thread, stamp)
    return past


def test_a_later_write_wins_also_when_the_clock_stood_still_or_went_back() -> None:
    """A run comes after all that it saw, whatever its server's clock says."""
    past = extended(extended({}, ["x"], "first", 100), ["x", "y"], "second", 7)

    assert past["x"].thread == "second"
    assert past["x"].stamp > 100


@given(pasts())
def test_where_branches_meet_the_latest_of_each_name_is_seen(branches: list[Past]) -> None:
    """Nothing is lost, nothing is invented."""
    seen = merged(branches, {})

    assert set(seen) == {name for branch in branches for name in branch}
    for name, source in seen.items():
        assert source.stamp == max(branch[name].stamp for branch in branches if name in branch)


@given(pasts())
def test_merging_again_changes_nothing(branches: list[Past]) -> None:
    """What two branches share counts once, also for a reducer."""
    reducers = {"a": "collect"}
    once = merged(branches, {})

    assert merged([once, once], {}) == once
    shared = merged([branches[0], branches[0]], reducers)
    assert all(len(source.parts) <= 1 for source in shared.values())


def test_a_reducer_combines_the_branches_in_the_order_of_their_edges() -> None:
    """Those that wrote nothing under the name are left out."""
    branches: list[Past] = [{"n": Source(5, "t")}, {}, {"n": Source(3, "u")}]
    outputs = {"t": {"n": [1]}, "u": {"n": [2]}}

    seen = merged(branches, {"n": "extend", "other": "sum"})

    assert threads_of(seen.values()) == {"t", "u"}
    assert resolve("n", seen["n"], outputs, reduce) == [1, 2]
    assert "other" not in seen


def test_reducers_nest_where_joins_follow_joins() -> None:
    """A sum of sums."""
    inner = merged([{"n": Source(1, "t")}, {"n": Source(2, "u")}], {"n": "sum"})
    outer = merged([inner, {"n": Source(3, "v")}], {"n": "sum"})
    outputs = {"t": {"n": 1}, "u": {"n": 10}, "v": {"n": 100}}

    assert resolve("n", outer["n"], outputs, reduce) == 111


def test_an_unknown_reducer_takes_the_last_value() -> None:
    """It was known where the workflow was submitted; here the workflow goes on."""
    assert reduce("not known here", [1, 2, 3]) == 3


def test_an_output_that_is_gone_is_a_key_error() -> None:
    """State was lost: there is no value to go on with."""
    with pytest.raises(KeyError):
        resolve("n", Source(1, "t"), {"t": {}}, reduce)


def test_visible_values_read_only_the_runs_that_wrote_what_is_asked_for() -> None:
    """Own context first, then the past, then the workflow's context; unknown names are left out."""
    world = World().put(DEFINITION, {"context": pack({"w": "workflow", "p": "workflow", "o": "workflow"})})
    world.put(run_key("t"), {"outputs": pack({"p": "past", "o": "past", "q": "unasked"})})
    past = {"p": Source(1, "t"), "o": Source(1, "t"), "q": Source(1, "u")}
    run = Run(ref="a", past=past)
    frame = Frame(W, NOW_MS * 1000, WorkflowRecord(status="RUNNING"), plan_of(), "now", run, {"o": "own"})

    values = world.decide(visible_values(frame, ["w", "p", "o", "missing"], {}))

    assert values == {"w": "workflow", "p": "past", "o": "own"}


def test_own_values_cost_no_read() -> None:
    """A condition over the run's own outputs is judged without a round trip."""
    frame = Frame(W, 0, WorkflowRecord(), plan_of(), "t", Run(), {"n": 1})
    reading = visible_values(frame, ["n", "m"], {"m": 2})

    with pytest.raises(StopIteration) as end:
        next(reading)
    assert end.value.value == {"n": 1, "m": 2}
