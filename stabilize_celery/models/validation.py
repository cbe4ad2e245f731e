"""Is a workflow fit to be submitted? Everything that is wrong with it, in one answer.

A workflow is judged as the definition that would be stored: first the shape of every field (`models.decode`), then
what the shape can't say (`models.checks`). Both take time linear in the size of the definition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec

from stabilize_celery.models.checks import GRAPH_RULES, RULES, View
from stabilize_celery.models.decode import decode_workflow
from stabilize_celery.models.encode import encode_stages, encode_workflow
from stabilize_celery.models.json_values import as_plain, copy_json
from stabilize_celery.models.limits import MAX_DEFINITION_BYTES
from stabilize_celery.models.problems import (
    CircularDependencyError,
    InvalidStageGraphError,
    InvalidWorkflowCycleError,
    InvalidWorkflowError,
    Problem,
    join_path,
    refusal,
    shown,
)
from stabilize_celery.models.recent import Mark, Recent, mark_of
from stabilize_celery.models.schema import WorkflowDefinition
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution

if TYPE_CHECKING:
    from stabilize_celery.models.workflow import Workflow

__all__ = [
    "CircularDependencyError",
    "InvalidStageGraphError",
    "InvalidWorkflowCycleError",
    "InvalidWorkflowError",
    "Problem",
    "check",
    "find_definition_problems",
    "find_id_problems",
    "find_problems",
    "read_definition",
    "validate_stage_graph",
]

_Model = TypeVar("_Model", StageExecution, TaskExecution)

_WORKFLOW_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}\Z")
_NAMES = re.compile(r"(^|\.)stages(\[\d+\](\.ref_id|\.requisite_stage_ref_ids(\[\d+\])?)?)?\Z")
_LACKS = frozenset({"no_stages", "no_parent"})
_CODES_ABOUT_NAMES = frozenset({"unknown_ref", "not_downstream", "unreachable_join"})


def check(workflow: Workflow, *, unfinished: bool = False) -> None:
    """Check that a workflow can be submitted; `unfinished`: or will be, once what it lacks is added.

    Raises:
        InvalidWorkflowError: It can't; the text lists every problem with its path. Where a cycle is among them, the
            error is a `CircularDependencyError` too.

    """
    problems = find_problems(workflow)
    if unfinished:
        problems = [problem for problem in problems if problem.code not in _LACKS]
    if problems:
        raise refusal(problems, workflow.name, workflow.stages)


def find_problems(workflow: Workflow) -> list[Problem]:
    """Return everything that is wrong with a workflow; empty: it can be submitted."""
    return [*find_id_problems(workflow), *find_definition_problems(encode_workflow(workflow))]


_SOUND: Recent[bool] = Recent(4_096, most_bytes=2**40)


def find_definition_problems(raw: object, mark: Mark | None = None) -> list[Problem]:
    """Return everything that is wrong with a definition as it came over the wire; `mark`: its mark, if it is known."""
    mark = mark or mark_of(raw)
    if _SOUND.get(mark):
        return []
    _definition, problems = read_definition(raw)
    if not problems:
        _SOUND.keep(mark, True)
    return problems


def read_definition(raw: object) -> tuple[WorkflowDefinition | None, list[Problem]]:
    """Return the definition in `raw` (None if unreadable), and everything that is wrong with it."""
    shape: list[Problem] = []
    definition = decode_workflow(raw, "", shape)
    if definition is None:
        return None, shape
    found = list(_apply_rules(definition, "", frozenset()))
    problems = [*shape, *_not_following_from(shape, found)]
    return definition, [*problems, *_size_problems(definition, problems)]


def validate_stage_graph(stages: Iterable[StageExecution]) -> None:
    """Check the graph of the top-level stages: duplicates, joins that can't be reached, requisites, circles.

    Raises:
        InvalidStageGraphError: It is not sound; `.code` is the first problem's.
        CircularDependencyError: Stages require each other.

    """
    shape: list[Problem] = []
    top_level = [stage for stage in stages if stage.parent_stage_id is None]
    definition = decode_workflow({"stages": encode_stages(top_level)}, "", shape)
    view = View(definition or WorkflowDefinition(stages=[]))
    problems = [*shape, *(problem for rule in GRAPH_RULES for problem in rule(view))]
    if problems:
        raise refusal(problems, stages=top_level)


def _apply_rules(definition: WorkflowDefinition, path: str, outer_names: frozenset[str]) -> Iterator[Problem]:
    names = outer_names | {definition.name} | definition.sub_workflows.keys()
    view = View(definition, path, frozenset(name for name in names if name))
    for rule in RULES:
        yield from rule(view)
    for name, inner in definition.sub_workflows.items():
        place = join_path(join_path(path, "sub_workflows"), name)
        yield from _apply_rules(inner, place, view.callable_names)


def _not_following_from(shape: list[Problem], found: list[Problem]) -> Iterator[Problem]:
    """Leave out what is only found because a field was unreadable and its default stands in for it."""
    unreadable = {problem.path for problem in shape}
    names_unknown = any(_NAMES.search(path) for path in unreadable)
    for problem in found:
        if problem.path in unreadable or (names_unknown and problem.code in _CODES_ABOUT_NAMES):
            continue
        yield problem


def _size_problems(definition: WorkflowDefinition, problems: list[Problem]) -> Iterator[Problem]:
    try:
        size = len(msgspec.json.encode(definition, enc_hook=as_plain))
    except (UnicodeEncodeError, OverflowError):
        unstorable: list[Problem] = []
        copy_json(msgspec.to_builtins(definition), "", unstorable)
        yield from unstorable
        return
    if size > MAX_DEFINITION_BYTES and not problems:
        allowed = f"at most {MAX_DEFINITION_BYTES} are allowed: pass large data by reference"
        message = f"the definition has {size} bytes as JSON; {allowed}"
        yield Problem("", message, "too_large")


def find_id_problems(workflow: Workflow) -> Iterator[Problem]:
    """Yield what is wrong with the ids of a workflow, its stages and tasks, which are in no definition."""
    if _WORKFLOW_ID.match(str(workflow.id)) is None:
        message = f"{shown(workflow.id)} must be 1 to 128 of the characters A-Z a-z 0-9 . _ -, and not . or .."
        yield Problem("id", message, "invalid_id")
    stages = list(_typed(workflow.stages, StageExecution))
    yield from _repeated((f"stages[{at}].id", stage.id) for at, stage in stages)
    yield from _repeated(
        (f"stages[{at}].tasks[{number}].id", task.id)
        for at, stage in stages
        for number, task in _typed(stage.tasks, TaskExecution)
    )


def _typed(items: object, kind: type[_Model]) -> Iterator[tuple[int, _Model]]:
    """Yield what is of the expected kind, numbered; what is not is the decoder's to complain about."""
    if isinstance(items, list | tuple):
        yield from ((at, item) for at, item in enumerate(items) if isinstance(item, kind))


def _repeated(ids: Iterable[tuple[str, object]]) -> Iterator[Problem]:
    first_at: dict[object, str] = {}
    for path, name in ids:
        first = first_at.setdefault(name, path)
        if first is not path:
            yield Problem(path, f"duplicate id {name!r}: {first} has it already", "duplicate_id")
