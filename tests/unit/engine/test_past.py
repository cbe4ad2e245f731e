"""What a run sees: who wrote what last, and how branches become one (wcp 1.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabilize_celery.engine import past as past_module
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.handler import visible_values
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.past import (
    Page,
    Past,
    Source,
    extended,
    merged,
    newest_of,
    paged,
    pages_to_merge,
    resolve,
    threads_of,
)
from stabilize_celery.engine.places import DEFINITION
from stabilize_celery.engine.places import run as run_key
from stabilize_celery.engine.state import Run, WorkflowRecord
from tests.unit.engine.driving import NOW_MS, W, World, plan_of

NAMES = st.sampled_from(["a", "b", "c"])


def pasts() -> st.SearchStrategy[list[Past]]:
    writes = st.lists(st.tuples(st.sets(NAMES, min_size=1), st.sampled_from("tuv"), st.integers(0, 50)), max_size=4)
    return st.lists(writes.map(_written), min_size=1, max_size=3)


def _written(writes: list[tuple[set[str], str, int]]) -> Past:
    past = Past()
    for names, thread, stamp in writes:
        past = extended(past, dict.fromkeys(sorted(names)), thread, stamp)
    return past


def test_a_later_write_wins_also_when_the_clock_stood_still_or_went_back() -> None:
    """A run comes after all that it saw, whatever its server's clock says."""
    past = extended(extended(Past(), {"x": 1}, "first", 100), {"x": 2, "y": 2}, "second", 7)

    assert past.near["x"].thread == "second"
    assert past.near["x"].stamp > 100


@given(pasts())
def test_where_branches_meet_the_latest_of_each_name_is_seen(branches: list[Past]) -> None:
    """Nothing is lost, nothing is invented."""
    seen = merged(branches, {}, {}).near

    assert set(seen) == {name for branch in branches for name in branch.near}
    for name, source in seen.items():
        assert source.stamp == max(branch.near[name].stamp for branch in branches if name in branch.near)


@given(pasts())
def test_merging_again_changes_nothing(branches: list[Past]) -> None:
    """What two branches share counts once, also for a reducer."""
    reducers = {"a": "collect"}
    once = merged(branches, {}, {})

    assert merged([once, once], {}, {}) == once
    shared = merged([branches[0], branches[0]], reducers, {})
    assert all(len(source.parts) <= 1 for source in shared.near.values())


def test_a_reducer_combines_the_branches_in_the_order_of_their_edges() -> None:
    """Those that wrote nothing under the name are left out."""
    branches = [Past({"n": Source(5, "t")}), Past(), Past({"n": Source(3, "u")})]
    outputs = {"t": {"n": [1]}, "u": {"n": [2]}}

    seen = merged(branches, {"n": "extend", "other": "sum"}, {}).near

    assert threads_of(seen.values()) == {"t", "u"}
    assert resolve("n", seen["n"], outputs) == [1, 2]
    assert "other" not in seen


def test_a_reducer_for_all_other_names_sees_what_differs_oldest_first() -> None:
    """Lists become one, each item once; of other values the latest wins. What branches share is left alone."""
    page = {"old": Source(4, "p"), "shared": Source(1, "p")}
    branches = [
        Past({"n": Source(5, "t"), "x": Source(9, "t"), "own": Source(5, "t"), "old": Source(7, "t")}),
        Past({"n": Source(3, "u"), "x": Source(3, "u"), "own": Source(3, "u")}, ("page",)),
    ]
    outputs = {
        "t": {"n": [1, 2], "x": "newer", "own": 1, "old": [8]},
        "u": {"n": [0, 1], "x": ["older"], "own": 2},
        "p": {"old": [7], "shared": 1},
    }

    seen = merged(branches, {"*": "join_lists", "own": "sum"}, {"page": page}).near

    assert {name: resolve(name, source, outputs) for name, source in seen.items()} == {
        "n": [0, 1, 2], "x": "newer", "own": 3, "old": [7, 8],
    }  # fmt: skip


def test_reducers_nest_where_joins_follow_joins() -> None:
    """A sum of sums."""
    inner = merged([Past({"n": Source(1, "t")}), Past({"n": Source(2, "u")})], {"n": "sum"}, {})
    outer = merged([inner, Past({"n": Source(3, "v")})], {"n": "sum"}, {})
    outputs = {"t": {"n": 1}, "u": {"n": 10}, "v": {"n": 100}}

    assert resolve("n", outer.near["n"], outputs) == 111


def test_an_output_that_is_gone_is_a_key_error() -> None:
    """State was lost: there is no value to go on with."""
    with pytest.raises(KeyError):
        resolve("n", Source(1, "t"), {"t": {}})


def test_visible_values_read_only_the_runs_that_wrote_what_is_asked_for() -> None:
    """Own context first, then the past, then the workflow's context; unknown names are left out."""
    world = World().put(DEFINITION, {"context": pack({"w": "workflow", "p": "workflow", "o": "workflow"})})
    world.put(run_key("t"), {"outputs": pack({"p": "past", "o": "past", "q": "unasked"})})
    past = {"p": Source(1, "t"), "o": Source(1, "t"), "q": Source(1, "u")}
    run = Run(ref="a", past=Past(past))
    frame = Frame(W, NOW_MS * 1000, WorkflowRecord(status="RUNNING"), plan_of(), "now", run, {"o": "own"})

    values = world.decide(visible_values(frame, ["w", "p", "o", "missing"], {}))

    assert values == {"w": "workflow", "p": "past", "o": "own"}


class Thread:
    """What a thread may see, told twice: by a past with its pages, and plainly."""

    def __init__(self, past: Past | None = None, plain: dict[str, int] | None = None) -> None:
        self.past, self.plain = past or Past(), plain or {}

    def sees(self, pages: dict[str, Page]) -> dict[str, int]:
        old = newest_of(pages[page] for page in self.past.pages)
        return {name: source.stamp for name, source in {**old, **self.past.near}.items()}


STEPS = st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 9)), st.sampled_from(["write", "meet", "part"])))


@given(STEPS, st.integers(0, 4))
def test_paging_changes_nothing_that_is_seen(steps: list[tuple[int, set[int], str]], at_most: int) -> None:
    """Whatever threads write, however they part and meet, after every step, with pages of any size."""
    threads, pages = [Thread()], dict[str, Page]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(past_module, "NEAR", at_most)
        for clock, (which, names, step) in enumerate(steps):
            mine = threads[which % len(threads)]
            if step == "write" and names:
                past = extended(mine.past, {f"n{name}": name for name in names}, f"t{clock}", 0)
                plain = mine.plain | {f"n{name}": past.latest for name in names}
            elif step == "meet":
                met = [thread.past for thread in threads]
                past = merged(met, {}, {page: pages[page] for page in pages_to_merge(met, {})})
                plain = {
                    name: max(thread.plain.get(name, 0) for thread in threads)
                    for thread in threads
                    for name in thread.plain
                }
            else:
                past, plain = mine.past, dict(mine.plain)
            past, old = paged(past, f"p{clock}")
            pages |= {f"p{clock}": old} if old else {}
            threads = [*threads[-3:], Thread(past, plain)]
            assert threads[-1].sees(pages) == plain
            assert len(past.near) <= at_most


def test_a_reducer_finds_what_branches_wrote_long_ago() -> None:
    """On pages that all share, and on those of one branch."""
    shared = {"n": Source(1, "before")}
    base = Past({}, ("shared",), 1)
    left = Past({}, ("shared", "left"), 9)
    pages = {"shared": shared, "left": {"n": Source(5, "long ago"), "m": Source(6, "u")}}

    assert pages_to_merge([base, left], {"n": "sum"}) == ["shared", "left"]
    seen = merged([base, left], {"n": "sum"}, pages)

    assert [part.thread for part in seen.near["n"].parts] == ["before", "long ago"]
    assert seen.near["n"].stamp > 9


def test_values_travel_only_as_far_as_a_condition_looks_at_them() -> None:
    """Small ones; a page takes them along again when nobody ahead looks."""
    small = extended(Past(), {"n": 7, "large": "x" * 9_000}, "t", 1, carried=["n", "large"])
    further = extended(small, {}, "u", 2, carried=["n"])
    behind = extended(further, {}, "v", 3)

    assert threads_of(small.near.values()) == {"t"}, "the large one is read where it was written"
    assert resolve("n", further.near["n"], {}) == 7
    assert behind.near["n"].value == b""


def test_own_values_cost_no_read() -> None:
    """A condition over the run's own outputs is judged without a round trip."""
    frame = Frame(W, 0, WorkflowRecord(), plan_of(), "t", Run(), {"n": 1})
    reading = visible_values(frame, ["n", "m"], {"m": 2})

    with pytest.raises(StopIteration) as end:
        next(reading)
    assert end.value.value == {"n": 1, "m": 2}
