"""Moving about in the graph of stages: pure functions, and the class that holds them as methods.

All of them return [] for a stage that is not attached to a workflow. Lists are in the workflow's order of stages,
`ancestors` is depth first. What follows requisites costs the stages visited; what looks for stages that point here
(`downstream_stages`, `synthetic_stages`) walks the list once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.status import CONTINUABLE_STATUSES, HALT_STATUSES, WorkflowStatus

if TYPE_CHECKING:
    from stabilize_celery.models.stage.stage import StageExecution

__all__ = [
    "StageNavigationMixin",
    "ancestors",
    "any_upstream_failed",
    "downstream_stages",
    "parent_stage",
    "synthetic_stages",
    "upstream_stages",
]


def upstream_stages(stage: StageExecution) -> list[StageExecution]:
    """Return the stages that `stage` requires."""
    if not stage.has_execution():
        return []
    return stage.execution.stages_by_ref_ids(stage.requisite_stage_ref_ids)


def downstream_stages(stage: StageExecution) -> list[StageExecution]:
    """Return the stages that require `stage`."""
    if not stage.has_execution():
        return []
    return [other for other in stage.execution.stages if stage.ref_id in other.requisite_stage_ref_ids]


def any_upstream_failed(stage: StageExecution) -> bool:
    """Return whether a stage above halted; stages that have not started are looked through."""
    seen: set[str] = set()
    waiting = upstream_stages(stage)
    while waiting:
        above = waiting.pop()
        if above.status in HALT_STATUSES:
            return True
        if above.status is WorkflowStatus.NOT_STARTED and above.id not in seen:
            seen.add(above.id)
            waiting.extend(upstream_stages(above))
    return False


def synthetic_stages(stage: StageExecution, owner: SyntheticStageOwner | None = None) -> list[StageExecution]:
    """Return the stages whose parent is `stage`; with `owner`, only those before or after its tasks."""
    if not stage.has_execution():
        return []
    return [
        other
        for other in stage.execution.stages
        if other.parent_stage_id == stage.id and owner in (None, other.synthetic_stage_owner)
    ]


def parent_stage(stage: StageExecution) -> StageExecution:
    """Return the parent of a synthetic stage.

    Raises:
        ValueError: `stage` is not synthetic, not attached, or its parent is not in the workflow.

    """
    if stage.parent_stage_id is None:
        msg = f"stage {stage.ref_id!r} is not synthetic: it has no parent"
        raise ValueError(msg)
    return stage.execution.stage_by_id(stage.parent_stage_id)


def ancestors(stage: StageExecution) -> list[StageExecution]:
    """Return every stage above, depth first: requisites, their requisites, and parents."""
    seen: set[str] = set()
    found: list[StageExecution] = []
    waiting = _directly_above(stage)[::-1]
    while waiting:
        above = waiting.pop()
        if above.id in seen:
            continue
        seen.add(above.id)
        found.append(above)
        waiting.extend(reversed(_directly_above(above)))
    return found


def _directly_above(stage: StageExecution) -> list[StageExecution]:
    above = upstream_stages(stage)
    if stage.parent_stage_id is not None and stage.has_execution():
        above.extend(one for one in stage.execution.stages_by_ids({stage.parent_stage_id}))
    return above


class StageNavigationMixin:
    """The navigation methods of a stage, each one line over a function of this module."""

    def is_initial(self) -> bool:
        """Return whether it requires no other stage."""
        return not self._stage.requisite_stage_ref_ids

    def is_join(self) -> bool:
        """Return whether several branches meet here."""
        return len(self._stage.requisite_stage_ref_ids) > 1

    def is_synthetic(self) -> bool:
        """Return whether it belongs to a parent stage."""
        return self._stage.parent_stage_id is not None

    def upstream_stages(self) -> list[StageExecution]:
        """Return the stages that it requires."""
        return upstream_stages(self._stage)

    def downstream_stages(self) -> list[StageExecution]:
        """Return the stages that require it."""
        return downstream_stages(self._stage)

    def all_upstream_stages_complete(self) -> bool:
        """Return whether the flow may go on from every required stage."""
        return all(one.status in CONTINUABLE_STATUSES for one in self.upstream_stages())

    def any_upstream_stages_failed(self) -> bool:
        """Return whether a stage above halted; stages that have not started are looked through."""
        return any_upstream_failed(self._stage)

    def synthetic_stages(self) -> list[StageExecution]:
        """Return its before and after stages."""
        return synthetic_stages(self._stage)

    def before_stages(self) -> list[StageExecution]:
        """Return the stages that run before its tasks."""
        return synthetic_stages(self._stage, SyntheticStageOwner.STAGE_BEFORE)

    def after_stages(self) -> list[StageExecution]:
        """Return the stages that run after its tasks."""
        return synthetic_stages(self._stage, SyntheticStageOwner.STAGE_AFTER)

    def first_before_stages(self) -> list[StageExecution]:
        """Return the before stages that require no other."""
        return [one for one in self.before_stages() if one.is_initial()]

    def first_after_stages(self) -> list[StageExecution]:
        """Return the after stages that require no other."""
        return [one for one in self.after_stages() if one.is_initial()]

    def parent(self) -> StageExecution:
        """Return the parent stage; ValueError when there is none or it can't be found."""
        return parent_stage(self._stage)

    def ancestors(self) -> list[StageExecution]:
        """Return every stage above, depth first: requisites, their requisites, and parents."""
        return ancestors(self._stage)

    @property
    def _stage(self) -> StageExecution:
        return cast("StageExecution", self)
