"""Rules about the graph itself: names, requisites, parents, circles, joins and splits."""

from collections.abc import Iterator, Sequence

from stabilize_celery.models.checks.view import View
from stabilize_celery.models.cycles import find_cycles
from stabilize_celery.models.problems import CYCLE, Problem, shown
from stabilize_celery.models.schema import StageDefinition
from stabilize_celery.models.stage.enums import JoinMode, JoinType, SplitType

__all__ = ["cycles", "duplicates", "joins", "parents", "requisites", "splits", "thresholds"]

_MOST_TOLD = 20
"""Stages of a circle that its problem names (count)."""
_CYCLE_JOINS = frozenset({JoinType.DISCRIMINATOR, JoinType.N_OF_M})


def duplicates(view: View) -> Iterator[Problem]:
    """Require that every stage has a ref_id of its own."""
    for at, stage in view.numbered():
        first = view.positions.get(stage.ref_id, at)
        if first != at:
            message = f"duplicate ref_id {shown(stage.ref_id)}: stages[{first}] has it already"
            yield view.problem(at, "ref_id", message, "duplicate_ref")


def thresholds(view: View) -> Iterator[Problem]:
    """Require thresholds that can be met: of an N_OF_M join, and within its requisites."""
    for at, stage in view.numbered():
        branches = len(set(stage.requisite_stage_ref_ids))
        threshold = stage.join_threshold
        if stage.join_type == JoinType.N_OF_M and threshold > branches:
            message = f"{threshold} is above the number of requisites ({branches}): the stage could never start"
            yield view.problem(at, "join_threshold", message, "unreachable_join")
        elif stage.join_type != JoinType.N_OF_M and threshold:
            message = f"{threshold} has no effect on join_type {stage.join_type}; set join_type N_OF_M or remove it"
            yield view.problem(at, "join_threshold", message, "contradiction")


def requisites(view: View) -> Iterator[Problem]:
    """Require that a requisite is another stage of the same parent."""
    for at, stage in view.numbered():
        for ref_id in dict.fromkeys(stage.requisite_stage_ref_ids):
            required = view.stage(ref_id)
            if ref_id == stage.ref_id:
                message = f"stage {shown(ref_id)} requires itself; to repeat it, use a jump (jump_targets)"
                yield view.problem(at, "requisite_stage_ref_ids", message, "self_edge")
            elif required is None:
                yield view.unknown(at, "requisite_stage_ref_ids", ref_id)
            elif required.parent_stage_id != stage.parent_stage_id:
                message = f"{shown(ref_id)} belongs to {_family(required)}, but this stage to {_family(stage)}"
                yield view.problem(at, "requisite_stage_ref_ids", message, "foreign_requisite")


def _family(stage: StageDefinition) -> str:
    return "the top level" if stage.parent_stage_id is None else f"the parent {shown(stage.parent_stage_id)}"


def cycles(view: View) -> Iterator[Problem]:
    """Require that requisites form no circle; each knot of stages is reported once, as a way around it."""
    required = {
        ref_id: [above for above in view.stages[at].requisite_stage_ref_ids if above != ref_id]
        for ref_id, at in view.positions.items()
    }
    ordered = {stage.ref_id: required[stage.ref_id] for stage in view.stages if stage.ref_id in required}
    for circle in find_cycles(ordered):
        message = f"cycle {_way(circle)}; to repeat stages, use a jump (jump_targets)"
        yield view.problem(view.positions[circle[0]], "requisite_stage_ref_ids", message, CYCLE)


def parents(view: View) -> Iterator[Problem]:
    """Require that a synthetic stage has a parent, says when it runs, and is not its own ancestor."""
    for at, stage in view.numbered():
        parent = stage.parent_stage_id
        if parent is None and stage.synthetic_stage_owner is not None:
            yield view.problem(at, "synthetic_stage_owner", "is set without a parent_stage_id", "no_parent")
        if parent is None:
            continue
        if stage.synthetic_stage_owner is None:
            message = "is missing: STAGE_BEFORE or STAGE_AFTER says when the stage runs"
            yield view.problem(at, "synthetic_stage_owner", message, "contradiction")
        if view.stage(parent) is None:
            yield view.unknown(at, "parent_stage_id", parent)
    named = [stage for stage in view.stages if stage.ref_id]
    families = {stage.ref_id: [] if stage.parent_stage_id is None else [stage.parent_stage_id] for stage in named}
    for circle in find_cycles(families):
        yield view.problem(view.positions[circle[0]], "parent_stage_id", f"cycle of parents {_way(circle)}", CYCLE)


def _way(circle: Sequence[str]) -> str:
    """Return a way around, cut where it is long."""
    left = len(circle) - _MOST_TOLD
    told = circle if left <= 0 else [*circle[:_MOST_TOLD], f"… {left} more"]
    return " -> ".join([*told, circle[0]])


def joins(view: View) -> Iterator[Problem]:
    """Require that settings of a join stand where they have an effect."""
    for at, stage in view.numbered():
        branches = len(set(stage.requisite_stage_ref_ids))
        if stage.thread_merge is not None and branches > 1:
            message = f"needs a stage with exactly one requisite; this one has {branches}"
            yield view.problem(at, "thread_merge", message, "contradiction")
        if stage.join_mode == JoinMode.CANCELLING and stage.join_type not in _CYCLE_JOINS:
            message = f"CANCELLING has no effect on join_type {stage.join_type}; it needs DISCRIMINATOR or N_OF_M"
            yield view.problem(at, "join_mode", message, "contradiction")


def splits(view: View) -> Iterator[Problem]:
    """Require that conditions name edges that exist, and that an exclusive choice rules every edge."""
    for at, stage in view.numbered():
        below = view.downstream.get(stage.ref_id, [])
        named: list[tuple[tuple[str, ...], str]] = [
            (("split_conditions", ref_id), ref_id) for ref_id in stage.split_conditions
        ]
        if stage.split_default is not None:
            named.append((("split_default",), stage.split_default))
        if named and stage.split_type == SplitType.AND:
            message = "has no effect on split_type AND; set split_type OR or XOR"
            yield view.problem(at, named[0][0][0], message, "contradiction")
        below_set = set(below) if named else set()
        for place, ref_id in named:
            if ref_id not in view.positions:
                yield view.unknown(at, place, ref_id)
            elif ref_id not in below_set:
                message = f"{shown(ref_id)} is not directly downstream: it does not require {shown(stage.ref_id)}"
                yield view.problem(at, place, message, "not_downstream")
        if stage.split_type == SplitType.XOR:
            yield from _edges_without_rule(view, at, stage, below)


def _edges_without_rule(view: View, at: int, stage: StageDefinition, below: list[str]) -> Iterator[Problem]:
    for ref_id in below:
        if ref_id and ref_id not in stage.split_conditions and ref_id != stage.split_default:
            message = f"the edge to {shown(ref_id)} has no condition and is not the split_default: make it one of them"
            yield view.problem(at, "split_conditions", message, "edge_without_condition")
