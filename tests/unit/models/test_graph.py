"""Orders, layers, circles, and building a graph piece by piece."""

import itertools
import random

import pytest

from stabilize_celery.models.cycles import find_cycles
from stabilize_celery.models.graph import (
    StageGraphBuilder,
    connect_stages_linearly,
    find_initial_stages,
    find_terminal_stages,
    get_execution_layers,
    topological_sort,
    topological_sort_all_stages,
    validate_dag,
    validate_stage_graph,
)
from stabilize_celery.models.problems import CircularDependencyError, InvalidStageGraphError
from stabilize_celery.models.stage import JoinType, StageExecution, SyntheticStageOwner
from stabilize_celery.models.workflow import Workflow


def stage(ref_id: str, *after: str) -> StageExecution:
    return StageExecution(ref_id=ref_id, requisite_stage_ref_ids=set(after))


def names(stages: list[StageExecution]) -> str:
    return " ".join(one.ref_id for one in stages)


def test_stages_come_behind_what_they_require_else_in_list_order() -> None:
    """The order is the same every time."""
    stages = [stage("d", "c", "b"), stage("z"), stage("c", "a"), stage("b", "a"), stage("a")]

    assert names(topological_sort(stages)) == "z a c b d"


@pytest.mark.parametrize("seed", range(20))
def test_no_stage_comes_before_its_requisite(seed: int) -> None:
    """A random graph, shuffled: every requisite stands before whoever requires it."""
    chance = random.Random(seed)
    stages = [stage(f"s{at}", *{f"s{chance.randrange(at)}" for _ in range(3) if at}) for at in range(60)]
    chance.shuffle(stages)
    place = {one.ref_id: at for at, one in enumerate(topological_sort(stages))}

    assert len(place) == 60
    assert all(place[above] < place[one.ref_id] for one in stages for above in one.requisite_stage_ref_ids)


def test_synthetic_stages_are_sorted_only_on_request() -> None:
    """topological_sort is about top-level stages."""
    synthetic = StageExecution(ref_id="s", parent_stage_id="x")

    assert names(topological_sort([synthetic, stage("a")])) == "a"
    assert names(topological_sort_all_stages([synthetic, stage("a")])) == "s a"


def test_a_circle_is_spelled_out() -> None:
    """The error shows the way round in the flow's direction, and holds the stages."""
    stages = [stage("start"), stage("a", "start", "c"), stage("b", "a"), stage("c", "b"), stage("after", "c")]
    with pytest.raises(CircularDependencyError, match="a -> b -> c -> a") as caught:
        validate_dag(stages)

    assert names(caught.value.stages) == "a b c after"  # type: ignore[arg-type]


def test_a_requisite_that_is_not_there_is_named() -> None:
    """Sorting can't place a stage that waits for nobody."""
    with pytest.raises(CircularDependencyError, match="not exist: nobody"):
        topological_sort([stage("a", "nobody")])


def test_layers_can_run_side_by_side() -> None:
    """Each layer depends on earlier ones only; what can't start is in none."""
    stages = [stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c"), stage("x", "x")]

    assert [names(layer) for layer in get_execution_layers(stages)] == ["a", "b c", "d"]
    assert names(find_initial_stages(stages)) == "a"
    assert names(find_terminal_stages(stages)) == "d"
    assert validate_dag(stages[:4])


def test_stages_can_be_strung_together() -> None:
    """connect_stages_linearly adds to what is required already."""
    stages = [stage("a"), stage("b", "x"), stage("c")]
    connect_stages_linearly(stages)

    assert [one.requisite_stage_ref_ids for one in stages] == [set(), {"x", "a"}, {"b"}]


def test_a_graph_builder_orders_the_synthetic_stages_of_a_parent() -> None:
    """add places, append orders behind the last, connect orders two."""
    parent = stage("p")
    flow = Workflow(stages=[parent])
    builder = StageGraphBuilder.after_stages(parent, {"given"})
    first, second, third = stage("1"), stage("2"), stage("3")
    builder.add(first).append(second).add(third)
    builder.connect(first, third)

    assert builder.build() == [first, second, third]
    assert [one.requisite_stage_ref_ids for one in builder.build()] == [{"given"}, {"1"}, {"1"}]
    assert {(one.parent_stage_id, one.synthetic_stage_owner) for one in builder.build()} == {
        (parent.id, SyntheticStageOwner.STAGE_AFTER)
    }
    assert second.execution is flow
    assert StageGraphBuilder.before_stages(parent).owner is SyntheticStageOwner.STAGE_BEFORE


def test_a_graph_builder_refuses_edges_that_make_no_sense() -> None:
    """A stage can't require itself, nor one of another parent."""
    builder = StageGraphBuilder.before_stages(stage("p"))
    one = stage("1")
    builder.add(one)
    with pytest.raises(ValueError, match="can't require itself"):
        builder.connect(one, one)
    with pytest.raises(ValueError, match="different parents"):
        builder.connect(one, stage("2"))


@pytest.mark.parametrize(
    ("stages", "code"),
    [
        ([stage("a"), stage("a")], "duplicate_ref"),
        ([StageExecution(ref_id="a", join_type=JoinType.N_OF_M, join_threshold=1)], "unreachable_join"),
        ([stage("a", "a")], "self_edge"),
        ([stage("a", "b")], "unknown_ref"),
        ([stage("a", "b"), stage("b", "a")], "cycle"),
        ([stage("a", "x"), stage("a")], "duplicate_ref"),
    ],
)
def test_upstreams_graph_check_keeps_its_codes(stages: list[StageExecution], code: str) -> None:
    """The code is the first problem's, in upstream's order."""
    with pytest.raises(InvalidStageGraphError) as caught:
        validate_stage_graph(stages)

    assert caught.value.code == code
    assert isinstance(caught.value, CircularDependencyError) == (code == "cycle")


def test_upstreams_graph_check_looks_at_top_level_stages_only() -> None:
    """Synthetic stages are the engine's."""
    synthetic = StageExecution(ref_id="s", parent_stage_id="x", requisite_stage_ref_ids={"q"})
    validate_stage_graph([stage("a"), synthetic])

    synthetic.parent_stage_id = None
    with pytest.raises(InvalidStageGraphError, match="'q'"):
        validate_stage_graph([stage("a"), synthetic])


def test_every_knot_is_reported_once_as_its_shortest_way_round() -> None:
    """Knots that lead into each other are told apart; what hangs below a knot is in none."""
    requires = {"x": ["b"], "a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["c"], "s": ["s"], "free": ["x", "nobody"]}

    assert find_cycles(requires) == [["a", "b"], ["c", "d"], ["s"]]


def test_a_long_way_round_follows_the_flow() -> None:
    """The circle begins with the stage that comes first, and each next one requires the one before."""
    requires = {"c": ["b"], "a": ["d"], "b": ["a"], "d": ["c"]}
    (circle,) = find_cycles(requires)

    assert circle == ["c", "d", "a", "b"]
    assert all(above in requires[below] for above, below in itertools.pairwise(circle))


@pytest.mark.parametrize("seed", range(50))
def test_a_graph_has_circles_exactly_when_it_can_not_be_sorted(seed: int) -> None:
    """Two algorithms agree on random graphs, and every circle found is one."""
    chance = random.Random(seed)
    edges = {f"s{at}": {f"s{chance.randrange(12)}" for _ in range(chance.randrange(2))} for at in range(12)}
    stages = [stage(name, *above) for name, above in edges.items()]
    circles = find_cycles(edges)

    if circles:
        with pytest.raises(CircularDependencyError):
            validate_dag(stages)
    else:
        assert validate_dag(stages)
    for circle in circles:
        assert all(above in edges[below] for above, below in zip(circle, [*circle[1:], circle[0]], strict=True))


def test_ten_thousand_stages_in_one_circle_need_no_recursion() -> None:
    """Depth is no limit."""
    requires = {f"s{at}": [f"s{(at - 1) % 10_000}"] for at in range(10_000)}

    assert find_cycles(requires) == [list(requires)]
