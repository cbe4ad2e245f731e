"""Rules about before and after stages: none may wait for what waits for it, which is whatever it is a part of."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import TypeAlias

from stabilize_celery.models.checks.view import View
from stabilize_celery.models.problems import Problem, shown
from stabilize_celery.models.schema import StageDefinition
from stabilize_celery.models.stage.enums import JoinType, SyntheticStageOwner

__all__ = ["locks", "milestones", "phases"]

_DEPTH = 100
"""So far up from a stage its parents are looked at (count)."""
_AT_ONCE = 4_000
"""So many milestones are traced in one walk through the graph (count)."""
_OF_A_RUN = frozenset({"BUFFERED", "RUNNING", "SUSPENDED", "SUCCEEDED", "FAILED_CONTINUE", "STOPPED", "TERMINAL"})
"""Statuses that a stage has only once a thread has come to it."""

Node: TypeAlias = str | tuple[str]
"""A stage; or the work of one, which comes after its before stages."""


def phases(view: View) -> Iterator[Problem]:
    """Require that no before stage waits for an after stage of its parent."""
    for at, stage in view.numbered():
        if stage.synthetic_stage_owner != SyntheticStageOwner.STAGE_BEFORE:
            continue
        for ref_id in stage.requisite_stage_ref_ids:
            required = view.stage(ref_id)
            if required is not None and required.synthetic_stage_owner == SyntheticStageOwner.STAGE_AFTER:
                message = f"{shown(ref_id)} runs after the work of the parent, which this stage runs before"
                yield view.problem(at, "requisite_stage_ref_ids", message, "contradiction")


def locks(view: View) -> Iterator[Problem]:
    """Require that a stage does not ask for the key that what it is a part of holds until it has ended."""
    for at, stage in view.numbered():
        if stage.mutex_key is None or stage.parent_stage_id is None:
            continue
        holders = [one for one in _wholes(view, stage) if _lock(one) == _lock(stage) and not _is_covered(stage, one)]
        if holders and len(holders) >= min(one.mutex_limit for one in (stage, *holders)):
            whole = shown(holders[0].ref_id)
            message = f"{whole}, of which this stage is a part, holds it until this stage has ended: that covers both"
            yield view.problem(at, "mutex_key", message, "contradiction")


def _wholes(view: View, stage: StageDefinition) -> list[StageDefinition]:
    """Return what a stage is a part of: its parent, the parent of that."""
    return list(islice(_upwards(view, stage), _DEPTH))


def _upwards(view: View, stage: StageDefinition) -> Iterator[StageDefinition]:
    found: StageDefinition | None = stage
    while found is not None and found.parent_stage_id is not None:
        found = view.stage(found.parent_stage_id)
        if found is not None:
            yield found


def _lock(stage: StageDefinition) -> tuple[str, str | None]:
    return stage.mutex_scope, stage.mutex_key


def _is_covered(stage: StageDefinition, whole: StageDefinition) -> bool:
    return stage.mutex_section is not None and stage.mutex_section == whole.mutex_section


def milestones(view: View) -> Iterator[Problem]:
    """Require that a milestone can come while what the stage is a part of waits for it."""
    asking: list[tuple[int, StageDefinition]] = []
    for at, stage in view.numbered():
        if stage.parent_stage_id is None or stage.milestone_ref_id is None:
            continue
        if all(one.ref_id != stage.milestone_ref_id for one in _wholes(view, stage)):
            asking.append((at, stage))
        elif stage.milestone_status != "RUNNING":
            message = f"this stage is a part of {shown(stage.milestone_ref_id)}: only its status RUNNING can come"
            yield view.problem(at, "milestone_status", message, "contradiction")
    asking = [(at, stage) for at, stage in asking if stage.milestone_status in _OF_A_RUN]
    graph = _graph(view) if asking else _Graph()
    order = graph.order()
    for start in range(0, len(asking), _AT_ONCE):
        yield from _too_late(view, graph, order, asking[start : start + _AT_ONCE])


def _too_late(
    view: View, graph: "_Graph", order: list[Node], asking: list[tuple[int, StageDefinition]]
) -> Iterator[Problem]:
    waiting: dict[Node, int] = {}
    for number, (_, stage) in enumerate(asking):
        for one in (stage, *_wholes(view, stage)):
            waiting[one.ref_id] = waiting.get(one.ref_id, 0) | 1 << number
    behind = graph.behind(order, waiting)
    for number, (at, stage) in enumerate(asking):
        ref_id = str(stage.milestone_ref_id)
        if behind.get(ref_id, 0) >> number & 1:
            message = (
                f"{shown(ref_id)} comes only after {shown(str(stage.parent_stage_id))}, which waits for this stage"
            )
            yield view.problem(at, "milestone_ref_id", message, "contradiction")


@dataclass(frozen=True, slots=True)
class _Graph:
    """What must have ended before a stage can have a run, and within what it is."""

    ended: dict[Node, list[Node]] = field(default_factory=dict)
    within: dict[Node, Node] = field(default_factory=dict)
    """What waits for something makes wait all that is within it."""

    def order(self) -> list[Node]:
        """Return all, none before what it waits for; nothing where they wait in a circle, of which other rules tell."""
        wholes = {node: [whole] for node, whole in self.within.items()}
        sorter = TopologicalSorter({node: [*above, *wholes.get(node, ())] for node, above in self.ended.items()})
        try:
            return list(sorter.static_order())
        except CycleError:
            return []

    def behind(self, order: Iterable[Node], waiting: Mapping[Node, int]) -> dict[Node, int]:
        """Return for each stage which of those that wait must have ended before it; `waiting`: who is which bits."""
        found: dict[Node, int] = {}
        for node in order:
            mine = found[self.within[node]] if node in self.within else 0
            for above in self.ended.get(node, ()):
                mine |= found[above] | waiting.get(above, 0)
            found[node] = mine
        return found


def _graph(view: View) -> _Graph:
    graph = _Graph()
    jumped_to = {ref_id for stage in view.stages for ref_id in stage.jump_targets}
    for stage in view.stages:
        graph.ended[stage.ref_id] = [*_needed(stage, jumped_to)]
        parent = stage.parent_stage_id
        if parent is None:
            continue
        work: Node = (parent,)
        graph.ended.setdefault(work, [])
        graph.within[work] = parent
        if stage.synthetic_stage_owner == SyntheticStageOwner.STAGE_AFTER:
            graph.within[stage.ref_id] = work
        else:
            graph.within[stage.ref_id] = parent
            graph.ended[work].append(stage.ref_id)
    return graph


def _needed(stage: StageDefinition, jumped_to: set[str]) -> list[str]:
    """Return the requisites without which a stage has no run: not those that a jump or its join can do without."""
    requisites = list(dict.fromkeys(stage.requisite_stage_ref_ids))
    needs_all = (
        len(requisites) <= 1
        or stage.join_type == JoinType.AND
        or (stage.join_type == JoinType.OR and not jumped_to)
        or (stage.join_type == JoinType.N_OF_M and stage.join_threshold in (0, len(requisites)))
    )
    return requisites if needs_all and stage.ref_id not in jumped_to else []
