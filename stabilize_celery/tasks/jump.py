"""The ready-made `jump`: ends its stage's run and goes on at another stage, always or on a condition (wcp 1.9)."""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from stabilize_celery.models.expressions import ConditionError, evaluate_condition, names_in
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.task import Task

__all__ = ["JumpTask"]

_SETTINGS = frozenset({"jump_to", "jump_if", "jump_unless"})


class JumpTask(Task):
    """Jumps to the stage `jump_to`, which the stage lists in its `jump_targets`; without a jump it succeeds.

    Context: `jump_to`; at most one of `jump_if` and `jump_unless`: expressions in the language of split conditions,
    over what the stage sees and its own outputs so far. A stage with several jumps keeps the settings of each under
    its task's name: `jumps: {task name: {jump_to: …, jump_if: …}}`.

    Settings are read from the stage's own context only: nothing that another stage brings can steer a jump.

    Raises:
        ContextError: a setting is missing or wrong, or the expression can't be evaluated; not tried again.

    """

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        inputs = _settings(stage)
        target = inputs.required_text("jump_to")
        return TaskResult.jump_to(target) if _holds(inputs, stage) else TaskResult.success()


def _settings(stage: StageExecution) -> InputReader:
    # A running body's context has what upstream and the workflow bring, too; `own` is the stage's own part of it.
    own: Mapping[str, Any] = getattr(stage.context, "own", stage.context)
    name = current_call().task_name
    shared = _reader(stage, name, own)
    jumps = shared.mapping("jumps")
    if name not in jumps:
        return shared
    mine = _reader(stage, name, jumps).mapping(name)
    if unknown := sorted(mine.keys() - _SETTINGS):
        raise shared.refusal(f"unknown setting {unknown[0]!r}; known are {', '.join(sorted(_SETTINGS))}", "jumps")
    return _reader(stage, name, mine)


def _reader(stage: StageExecution, task: str, values: Mapping[str, Any]) -> InputReader:
    return InputReader(StageExecution(ref_id=stage.ref_id, context=dict(values)), f"jump {task!r}")


def _holds(inputs: InputReader, stage: StageExecution) -> bool:
    wanted, unwanted = inputs.text("jump_if"), inputs.text("jump_unless")
    if wanted is not None and unwanted is not None:
        raise inputs.refusal("give `jump_if` or `jump_unless`, not both", "jump_if")
    if unwanted is not None:
        return not _is_true(inputs, "jump_unless", unwanted, stage)
    return wanted is None or _is_true(inputs, "jump_if", wanted, stage)


def _is_true(inputs: InputReader, key: str, expression: str, stage: StageExecution) -> bool:
    seen = ChainMap(stage.outputs, stage.context)
    used = names_in(expression)
    # All names are loaded only for the error that lists them.
    names = {name: seen[name] for name in used} if all(name in seen for name in used) else dict(seen)
    try:
        return evaluate_condition(expression, names)
    except ConditionError as error:
        raise inputs.refusal(f"`{key}`: {error}", key) from None
