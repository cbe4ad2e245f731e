"""The branches of a join: which it has, which may still come, which can't any more (wcp 1.5, 1.6)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from stabilize_celery.engine.components import components
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.region import Place, Region
from stabilize_celery.runtime.reading import StageView, WorkflowView

__all__ = ["MOST_VISITED", "Branches", "Reach", "evaluation_name", "is_at_work"]

MOST_VISITED = 500
"""So many stages upstream of a branch are looked at for those at work (count)."""


@dataclass(frozen=True, slots=True)
class Branches:
    """The requisites of a stage by what becomes of them; each stands in one of the lists.

    Attributes:
        here: Those that the join has: they have come, or count in its present cycle.
        to_come: Those over which a thread may still come.
        lost: Those over which none can come any more.
        again: Those that have come once more in a cycle that has fired; they wait for the next one.

    """

    here: list[str]
    to_come: list[str]
    lost: list[str]
    again: list[str]


class Reach:
    """What can still arrive in a workflow that has not ended."""

    def __init__(self, view: WorkflowView) -> None:
        self._view = view

    def branches(self, ref_id: str) -> Branches:
        """Return the branches of a stage."""
        stage = self._view.stages[ref_id]
        place = stage.place or Place(stage.plan)
        coming = self._sources_of(ref_id)
        found = Branches([], [], [], [])
        for edge, ref in enumerate(stage.plan.requisites):
            has_come = bool(place.waiting.get(edge)) and not stage.plan.thread_merge
            if has_come and place.has_fired and edge in place.counted:
                found.again.append(ref)
            elif has_come or (edge in place.counted and not place.has_fired):
                found.here.append(ref)
            elif edge not in place.counted:
                (found.to_come if ref in coming else found.lost).append(ref)
        return found

    def jumpers(self, ref_id: str) -> list[str]:
        """Return the stages that may still jump to a stage."""
        return [ref for ref in self._view.stages[ref_id].plan.jumped_from if self._view.stages[ref].is_reachable]

    def at_work_before(self, branch: str, join: str) -> list[str]:
        """Return the nearest stages at work from which a thread may come to a branch, itself first if it is.

        Never goes through the join that is asked about.
        """
        found: list[str] = []
        seen = {join, branch}
        for ref in (work := [branch]):
            stage = self._view.stages[ref]
            if is_at_work(stage):
                found.append(ref)
                continue
            for source in (*stage.plan.requisites, *stage.plan.jumped_from):
                if source not in seen and len(seen) < MOST_VISITED and self._view.stages[source].is_reachable:
                    seen.add(source)
                    work.append(source)
        return found

    def cause_of_loss(self, ref_id: str) -> tuple[str, str]:
        """Return, for a stage that was never reached, the stage that ended without passing a thread on, and its target.

        The first is empty where the way back is too long.
        """
        for _ in range(MOST_VISITED):
            place = self._view.stages[ref_id].place
            used = place.used if place else {}
            requisites = self._view.stages[ref_id].plan.requisites
            lost = self.branches(ref_id).lost
            edges = [edge for edge, ref in enumerate(requisites) if ref in lost]
            if not edges:
                break
            # What was given up at a join did come: another branch was the cause.
            source = requisites[min(edges, key=lambda edge: used.get(edge, 0))]
            if self._view.stages[source].newest is not None:
                return source, ref_id
            ref_id = source
        return "", ref_id

    def _sources_of(self, ref_id: str) -> set[str]:
        """Return the requisites of a stage out of which a thread may still come without going through it."""
        requisites = self._view.stages[ref_id].plan.requisites
        if ref_id not in self._in_loops:
            return {ref for ref in requisites if self._view.stages[ref].is_reachable}
        return Region(self._places).reachable(without=ref_id).intersection(requisites)

    @cached_property
    def _places(self) -> Mapping[str, Place]:
        return {ref: stage.place or Place(stage.plan) for ref, stage in self._view.stages.items()}

    @cached_property
    def _in_loops(self) -> set[str]:
        """The stages from which a thread can come back to themselves."""
        targets = {ref: list(_targets(stage.plan)) for ref, stage in self._view.stages.items()}
        names = components(targets)
        sizes = Counter(names.values())
        return {ref for ref, name in names.items() if sizes[name] > 1 or ref in targets[ref]}


def _targets(plan: StagePlan) -> Iterator[str]:
    yield from (edge.target for edge in (*plan.edges, *plan.jumps))


def is_at_work(stage: StageView) -> bool:
    """Return whether a run of the stage lives."""
    return stage.newest is not None and not stage.newest[1].is_ended


def evaluation_name(plan: StagePlan) -> str:
    """Return the ledger name under which the judgement of a stage's join is owed."""
    return f"Eval:{plan.component or plan.ref}"
