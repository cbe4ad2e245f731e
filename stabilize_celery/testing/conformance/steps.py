"""The actions of a task, flat: a place in them is one number, also inside an `if`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Step", "compile_steps"]

_WORDS = ("succeed", "fail", "fail_continue", "skip")
_VERBS = ("retry", "sleep", "outputs", "record", "wait_for", "jump_to", "add_instance")


@dataclass(frozen=True, slots=True)
class Step:
    """One action. `if`: goes on at the step `otherwise` where `argument`, an expression, is false."""

    verb: str
    argument: Any = None
    otherwise: int = 0


def compile_steps(actions: Sequence[Any]) -> tuple[Step, ...]:
    """Return actions as steps.

    Raises:
        ValueError: one is no action; the text shows it.

    """
    return tuple(_steps(actions, 0))


def _steps(actions: Sequence[Any], first: int) -> Iterator[Step]:
    at = first
    for action in actions:
        for step in _action(action, at):
            yield step
            at += 1


def _action(action: Any, at: int) -> Iterator[Step]:
    if isinstance(action, str) and action in _WORDS:
        yield Step(action)
    elif isinstance(action, Mapping) and set(action) == {"if", "do"} and isinstance(action["do"], list):
        inner = list(_steps(action["do"], at + 1))
        yield Step("if", action["if"], at + 1 + len(inner))
        yield from inner
    elif isinstance(action, Mapping) and len(action) == 1 and _is_sound(*next(iter(action.items()))):
        verb, argument = next(iter(action.items()))
        yield Step(verb, argument)
    else:
        raise ValueError(f"{action!r} is not an action of a task")


def _is_sound(verb: str, argument: Any) -> bool:
    match verb:
        case "retry" | "sleep":
            return isinstance(argument, int) and argument >= 0
        case "outputs" | "add_instance":
            return isinstance(argument, Mapping)
        case "wait_for":
            return isinstance(argument, str)
        case "jump_to":
            return isinstance(argument, Mapping) and "target" in argument and set(argument) <= {"target", "times", "if"}
        case _:
            return verb in _VERBS
