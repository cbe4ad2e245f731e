"""Orders and layers of a graph of stages, and building one piece by piece.

Where several orders are possible, the order of the list decides. Source: upstream's dag.topological and dag.graph.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from stabilize_celery.models.cycles import find_cycles
from stabilize_celery.models.problems import CircularDependencyError
from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.validation import validate_stage_graph

if TYPE_CHECKING:
    from stabilize_celery.models.stage.stage import StageExecution

__all__ = [
    "StageGraphBuilder",
    "connect_stages_linearly",
    "find_initial_stages",
    "find_terminal_stages",
    "get_execution_layers",
    "topological_sort",
    "topological_sort_all_stages",
    "validate_dag",
    "validate_stage_graph",
]


def _is_top_level(stage: StageExecution) -> bool:
    return stage.parent_stage_id is None


def topological_sort(
    stages: Iterable[StageExecution], stage_filter: Callable[[StageExecution], bool] = _is_top_level
) -> list[StageExecution]:
    """Return the stages that pass `stage_filter`, each behind all those that it requires.

    Raises:
        CircularDependencyError: Some require each other, or one that is not there; `.stages` are those concerned.

    """
    chosen = [stage for stage in stages if stage_filter(stage)]
    order = _Order(chosen)
    ready = [at for at, open_count in enumerate(order.open_counts) if open_count == 0]
    done: list[int] = []
    while ready:
        at = heapq.heappop(ready)
        done.append(at)
        for below in order.release(at):
            heapq.heappush(ready, below)
    if len(done) < len(chosen):
        raise _circular([chosen[at] for at in sorted(set(range(len(chosen))) - set(done))])
    return [chosen[at] for at in done]


def topological_sort_all_stages(stages: Iterable[StageExecution]) -> list[StageExecution]:
    """Return all stages, synthetic ones too, each behind those that it requires; errors as `topological_sort`."""
    return topological_sort(stages, lambda _stage: True)


def validate_dag(stages: Iterable[StageExecution]) -> bool:
    """Return True, or raise CircularDependencyError as `topological_sort` does."""
    topological_sort(stages)
    return True


def find_initial_stages(stages: Iterable[StageExecution]) -> list[StageExecution]:
    """Return the top-level stages that require no other."""
    return [stage for stage in stages if stage.is_initial() and not stage.is_synthetic()]


def find_terminal_stages(stages: Sequence[StageExecution]) -> list[StageExecution]:
    """Return the top-level stages that no other requires."""
    required = {ref_id for stage in stages for ref_id in stage.requisite_stage_ref_ids}
    return [stage for stage in stages if not stage.is_synthetic() and stage.ref_id not in required]


def get_execution_layers(stages: Iterable[StageExecution]) -> list[list[StageExecution]]:
    """Return the top-level stages in layers: those of one can run side by side once those before it are done.

    Stages that can never start (a circle, an unknown requisite) are in no layer.
    """
    chosen = [stage for stage in stages if _is_top_level(stage)]
    order = _Order(chosen)
    layer = [at for at, open_count in enumerate(order.open_counts) if open_count == 0]
    layers: list[list[StageExecution]] = []
    while layer:
        layers.append([chosen[at] for at in layer])
        layer = sorted(below for at in layer for below in order.release(at))
    return layers


def connect_stages_linearly(stages: Sequence[StageExecution]) -> None:
    """Let each stage require the one before it, besides what it requires already."""
    for previous, current in itertools.pairwise(stages):
        current.requisite_stage_ref_ids = {*current.requisite_stage_ref_ids, previous.ref_id}


class _Order:
    """How many requisites each stage still waits for, by position."""

    def __init__(self, stages: Sequence[StageExecution]) -> None:
        self._names = [stage.ref_id for stage in stages]
        self.open_counts = [len(stage.requisite_stage_ref_ids) for stage in stages]
        self._below: dict[str, list[int]] = {}
        for at, stage in enumerate(stages):
            for ref_id in stage.requisite_stage_ref_ids:
                self._below.setdefault(ref_id, []).append(at)

    def release(self, at: int) -> list[int]:
        """Return the positions of the stages that waited for nothing but the stage at `at`."""
        released = []
        # Popped: a second stage of the same name releases nobody again.
        for below in self._below.pop(self._names[at], ()):
            self.open_counts[below] -= 1
            if self.open_counts[below] == 0:
                released.append(below)
        return released


def _circular(stuck: list[StageExecution]) -> CircularDependencyError:
    circles = find_cycles({stage.ref_id: sorted(stage.requisite_stage_ref_ids) for stage in stuck})
    if circles:
        text = "; ".join(" -> ".join([*circle, circle[0]]) for circle in circles)
        return CircularDependencyError(f"stages require each other: {text}", stuck)
    names = {stage.ref_id for stage in stuck}
    missing = sorted({ref_id for stage in stuck for ref_id in stage.requisite_stage_ref_ids} - names)
    return CircularDependencyError(f"stages require others that do not exist: {', '.join(missing)}", stuck)


class StageGraphBuilder:
    """Builds the synthetic stages of a parent: `add` places one, `append` one behind the last, `connect` orders two."""

    def __init__(
        self,
        parent: StageExecution,
        owner: SyntheticStageOwner,
        requisite_stage_ref_ids: Iterable[str] | None = None,
    ) -> None:
        self.parent = parent
        self.owner = owner
        self.requisite_stage_ref_ids = set(requisite_stage_ref_ids or ())
        self._stages: list[StageExecution] = []

    @classmethod
    def before_stages(cls, parent: StageExecution) -> StageGraphBuilder:
        """Return a builder for stages that run before the tasks of `parent`."""
        return cls(parent, SyntheticStageOwner.STAGE_BEFORE)

    @classmethod
    def after_stages(
        cls, parent: StageExecution, requisite_stage_ref_ids: Iterable[str] | None = None
    ) -> StageGraphBuilder:
        """Return a builder for stages that run after the tasks of `parent`; the first gets these requisites."""
        return cls(parent, SyntheticStageOwner.STAGE_AFTER, requisite_stage_ref_ids)

    def add(self, stage: StageExecution) -> StageGraphBuilder:
        """Make `stage` a synthetic stage of the parent; nothing is before it but what it requires."""
        self._adopt(stage)
        if not self._stages:
            stage.requisite_stage_ref_ids = {*stage.requisite_stage_ref_ids, *self.requisite_stage_ref_ids}
        self._stages.append(stage)
        return self

    def append(self, stage: StageExecution) -> StageGraphBuilder:
        """Add `stage` behind the one that was added last."""
        self._adopt(stage)
        if self._stages:
            self.connect(self._stages[-1], stage)
        return self.add(stage)

    def connect(self, previous: StageExecution, next_stage: StageExecution) -> None:
        """Let `next_stage` require `previous`.

        Raises:
            ValueError: They are one stage, or have different parents.

        """
        if previous.ref_id == next_stage.ref_id:
            msg = f"stage {previous.ref_id!r} can't require itself"
            raise ValueError(msg)
        if previous.parent_stage_id != next_stage.parent_stage_id:
            msg = f"stages {previous.ref_id!r} and {next_stage.ref_id!r} have different parents: they can't be ordered"
            raise ValueError(msg)
        next_stage.requisite_stage_ref_ids = {*next_stage.requisite_stage_ref_ids, previous.ref_id}

    def build(self) -> list[StageExecution]:
        """Return the stages in the order in which they were added."""
        return list(self._stages)

    def _adopt(self, stage: StageExecution) -> None:
        stage.parent_stage_id = self.parent.id
        stage.synthetic_stage_owner = self.owner
        if self.parent.has_execution():
            stage.execution = self.parent.execution
