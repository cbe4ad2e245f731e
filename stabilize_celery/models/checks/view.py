"""One definition as the rules look at it: its stages by name, its edges in both directions, how to name a place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from stabilize_celery.models.expressions import check_expression
from stabilize_celery.models.problems import Problem, Suggester, join_path, shown
from stabilize_celery.models.schema import StageDefinition, WorkflowDefinition

__all__ = ["Place", "Rule", "View"]

Place = str | tuple[str, ...]
"""A field, or the way to something inside it."""


@dataclass
class View:
    """A definition and the indexes that rules share; every index is built once, in linear time.

    Attributes:
        path: Where the definition stands; empty for the outermost one.
        callable_names: The inner workflows that its stages may name.

    """

    definition: WorkflowDefinition
    path: str = ""
    callable_names: frozenset[str] = frozenset()
    _expressions: dict[str, str | None] = field(default_factory=dict)

    @property
    def stages(self) -> list[StageDefinition]:
        """The stages in written order."""
        return self.definition.stages

    @cached_property
    def positions(self) -> dict[str, int]:
        """Where the first stage of each ref_id stands."""
        return {self.stages[at].ref_id: at for at in range(len(self.stages) - 1, -1, -1) if self.stages[at].ref_id}

    @cached_property
    def downstream(self) -> dict[str, list[str]]:
        """Stage -> the stages that require it, in written order."""
        below: dict[str, list[str]] = {}
        for stage in self.stages:
            for ref_id in dict.fromkeys(stage.requisite_stage_ref_ids):
                below.setdefault(ref_id, []).append(stage.ref_id)
        return below

    @cached_property
    def suggester(self) -> Suggester:
        """Finds the known stage that an unknown name may mean."""
        return Suggester(list(self.positions))

    def numbered(self) -> Iterator[tuple[int, StageDefinition]]:
        """Yield every stage with its position."""
        return enumerate(self.stages)

    def stage(self, ref_id: str) -> StageDefinition | None:
        """Return the stage of that name, the first if there are several."""
        at = self.positions.get(ref_id)
        return None if at is None else self.stages[at]

    def problem(self, at: int | None, place: Place, message: str, code: str) -> Problem:
        """Return a problem at `place` in the stage at position `at`, or in the workflow (None)."""
        path = self.path if at is None else join_path(join_path(self.path, "stages"), at)
        for step in (place,) if isinstance(place, str) else place:
            path = join_path(path, step)
        return Problem(path, message, code)

    def unknown(self, at: int, place: Place, ref_id: str) -> Problem:
        """Return the problem of a name that no stage has."""
        hint = self.suggester.suggest(ref_id)
        return self.problem(at, place, f"no stage has the ref_id {shown(ref_id)}{hint}", "unknown_ref")

    def what_is_wrong_with(self, expression: str) -> str | None:
        """Return what is wrong with an expression, or None; each text is parsed once."""
        if expression not in self._expressions:
            self._expressions[expression] = check_expression(expression)
        return self._expressions[expression]


Rule = Callable[[View], Iterable[Problem]]
"""Finds the problems of one kind in a definition, in written order."""
