"""Rules about the settings of ready-made jumps (tasks/jump.py), where the definition has them."""

from collections.abc import Iterator, Mapping

from stabilize_celery.models.checks.view import View
from stabilize_celery.models.problems import Problem, shown
from stabilize_celery.models.schema import StageDefinition

__all__ = ["jump_tasks"]

_JUMP = "jump"
_CONDITIONS = ("jump_if", "jump_unless")


def jump_tasks(view: View) -> Iterator[Problem]:
    """Require that a ready-made jump leads to one of its stage's jump_targets, on a condition that can be parsed.

    What is missing is not told: an earlier task of the stage may give it.
    """
    for at, stage in view.numbered():
        for place, settings in _settings_of(stage):
            yield from _of_target(view, at, (*place, "jump_to"), settings.get("jump_to"))
            for name in _CONDITIONS:
                expression = settings.get(name)
                wrong = view.what_is_wrong_with(expression) if isinstance(expression, str) else None
                if wrong is not None:
                    yield view.problem(at, (*place, name), wrong, "invalid_expression")


def _settings_of(stage: StageDefinition) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:
    jumps = [task.name for task in stage.tasks if task.implementing_class == _JUMP]
    own = stage.context.get("jumps")
    named = own if isinstance(own, dict) else {}
    for name in dict.fromkeys(jumps):
        if isinstance(named.get(name), dict):
            yield ("context", "jumps", name), named[name]
    if any(name not in named for name in jumps):
        yield ("context",), stage.context


def _of_target(view: View, at: int, place: tuple[str, ...], target: object) -> Iterator[Problem]:
    targets = view.stages[at].jump_targets
    if not isinstance(target, str) or target in targets:
        return
    if target not in view.positions:
        yield view.unknown(at, place, target)
    else:
        declared = ", ".join(map(shown, targets)) or "none"
        message = f"{shown(target)} is not among the stage's jump_targets ({declared}): add it there"
        yield view.problem(at, place, message, "undeclared_jump")
