"""What is wrong with a definition, and the errors that say so."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from stabilize_celery.errors import StabilizeError
from stabilize_celery.models.cycles import find_cycles
from stabilize_celery.models.limits import MAX_LISTED_PROBLEMS, MAX_SUGGESTIONS

if TYPE_CHECKING:
    from stabilize_celery.models.stage.stage import StageExecution

__all__ = [
    "CYCLE",
    "CircularDependencyError",
    "InvalidStageGraphError",
    "InvalidWorkflowCycleError",
    "InvalidWorkflowError",
    "Problem",
    "Suggester",
    "join_path",
    "refusal",
    "shown",
]

CYCLE = "cycle"
"""The code of a problem that a `CircularDependencyError` is raised for."""


_PLAIN_NAME = re.compile(r"[\w$-]{1,200}\Z")
_SHOWN_LENGTH = 100
_NO_CODE = "invalid"
"""Of a problem that is of no kind of its own."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where (`stages[2].split_conditions.b`), and its kind as a word for programs."""

    path: str
    message: str
    code: str = _NO_CODE

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidStageGraphError(StabilizeError, ValueError):
    """A graph of stages that can't run; `code` says what is wrong in one word (duplicate_ref, unknown_ref, …)."""

    code: str  # type: ignore[assignment]

    def __init__(self, message: str, code: str = _NO_CODE) -> None:
        Exception.__init__(self, message)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class CircularDependencyError(StabilizeError):
    """Stages require each other in a circle; `stages` are those concerned, where they are known."""

    def __init__(self, message: str, stages: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.stages = list(stages)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        # Stages are a program's own objects, tied to their workflow: they do not travel to another process.
        rebuild, (kind, args, state) = super().__reduce__()
        return rebuild, (kind, args, {**state, "stages": []})


class InvalidWorkflowError(InvalidStageGraphError):
    """A definition was refused whole; `problems` has everything that is wrong, the text one a line, its code first.

    `code` is the first problem's.
    """

    def __init__(self, problems: Sequence[Problem], name: str = "") -> None:
        self.problems = tuple(problems)
        code = self.problems[0].code if self.problems else _NO_CODE
        InvalidStageGraphError.__init__(self, _describe(self.problems, name), code)


class InvalidWorkflowCycleError(InvalidWorkflowError, CircularDependencyError):
    """A definition was refused, and requisites that form a cycle are among the reasons."""

    def __init__(self, problems: Sequence[Problem], name: str = "", stages: Sequence[object] = ()) -> None:
        InvalidWorkflowError.__init__(self, problems, name)
        self.stages = list(stages)


def refusal(problems: Sequence[Problem], name: str = "", stages: Iterable[StageExecution] = ()) -> InvalidWorkflowError:
    """Return the error for these problems, one that is a `CircularDependencyError` where a cycle is among them.

    Args:
        problems: Everything that is wrong.
        name: The workflow's.
        stages: Its stages, where there are such objects: the error has those that form a cycle.

    """
    if any(problem.code == CYCLE for problem in problems):
        return InvalidWorkflowCycleError(problems, name, _in_cycles(stages))
    return InvalidWorkflowError(problems, name)


def _in_cycles(stages: Iterable[StageExecution]) -> list[StageExecution]:
    # What they are made of may be wrong as well: those that can't be in a cycle that was found are passed over.
    found = [stage for stage in stages if _is_readable(stage)]
    requires = {stage.ref_id: [ref for ref in stage.requisite_stage_ref_ids if ref != stage.ref_id] for stage in found}
    names = {ref_id for circle in find_cycles(requires) for ref_id in circle}
    return [stage for stage in found if stage.ref_id in names]


def _is_readable(stage: StageExecution) -> bool:
    try:
        return all(isinstance(name, str) for name in [stage.ref_id, *stage.requisite_stage_ref_ids])
    except (AttributeError, TypeError):
        return False


def _describe(problems: Sequence[Problem], name: str) -> str:
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    lines = [f"workflow {shown(name)} is refused, {count}:" if name else f"the workflow is refused, {count}:"]
    lines += [f"  {_line(problem)}" for problem in problems[:MAX_LISTED_PROBLEMS]]
    left = len(problems) - MAX_LISTED_PROBLEMS
    return "\n".join([*lines, f"  … and {left} more"] if left > 0 else lines)


def _line(problem: Problem) -> str:
    return str(problem) if problem.code == _NO_CODE else f"{problem.code}: {problem}"


class Suggester:
    """Says `did you mean …` for unknown names, for a limited number of them: the search is slow."""

    def __init__(self, known: Collection[str], budget: int = MAX_SUGGESTIONS) -> None:
        self._known = known
        self._left = budget

    def suggest(self, unknown: str) -> str:
        """Return `; did you mean 'x'?`, or nothing where no known name is alike."""
        if self._left <= 0:
            return ""
        self._left -= 1
        alike = difflib.get_close_matches(unknown, self._known, n=1, cutoff=0.6)
        if not alike:
            folded = unknown.casefold()
            alike = [name for name in self._known if name.casefold() == folded][:1]
        return f"; did you mean {alike[0]!r}?" if alike else ""


def join_path(path: str, step: str | int) -> str:
    """Return `path` one step further: `.name`, `[position]`, or `['any key']` where a key is no plain name."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    if _PLAIN_NAME.match(step) is None:
        return f"{path}[{shown(step)}]"
    return f"{path}.{step}" if path else step


def shown(value: object) -> str:
    """Return `value` as it is shown in a message: quoted, on one line, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's own repr, or a number too long to be written
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"
