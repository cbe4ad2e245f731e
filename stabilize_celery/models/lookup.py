"""Finding stages by id or ref_id in a plain list that its owner may change at any time.

The list belongs to the user, so nothing tells when it changes: a remembered position counts only if the stage found
there still answers to the name; everything else falls back to walking the list. Hits cost O(1), misses O(n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stabilize_celery.models.stage.stage import StageExecution

__all__ = ["StageLookup", "by_id", "by_ref_id"]


def by_id(stage: StageExecution) -> str:
    """Name a stage by its id."""
    return stage.id


def by_ref_id(stage: StageExecution) -> str:
    """Name a stage by its ref_id."""
    return stage.ref_id


class StageLookup:
    """Remembers where in a list the stage of each name stands; `name_of` gives a stage's name."""

    def __init__(self, name_of: Callable[[StageExecution], str]) -> None:
        self._name_of = name_of
        self._positions: dict[str, int] = {}

    def position(self, stages: Sequence[StageExecution], name: str) -> int | None:
        """Return where the stage called `name` stands in `stages`, or None; the first, where several do."""
        position = self._positions.get(name)
        if position is not None and position < len(stages) and self._name_of(stages[position]) == name:
            return position
        found = next((at for at, stage in enumerate(stages) if self._name_of(stage) == name), None)
        if found is not None:
            self._positions = {self._name_of(stages[at]): at for at in range(len(stages) - 1, -1, -1)}
        return found

    def find_all(self, stages: Sequence[StageExecution], names: Iterable[str]) -> list[StageExecution]:
        """Return the stages called by any of `names`, in the order of `stages`; unknown names are left out."""
        positions = {self.position(stages, name) for name in names}
        return [stages[at] for at in sorted(at for at in positions if at is not None)]
