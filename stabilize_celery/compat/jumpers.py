"""Whether a task may jump: upstream's programs declare nothing, so their code is looked through (wcp 1.9).

The code of a task and of what it calls is read, never run: its classes, functions that it finds by a name of its module
or in a variable around it, and what its object holds. A task that hides the call from that must declare `jump_targets`.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from stabilize_celery.tasks.task import Task
from stabilize_celery.tasks.variants import CallableTask

__all__ = ["may_jump"]

_JUMPS = frozenset({"jump_to", "target_stage_ref_id"})
"""What names a jump: the method of a `TaskResult`, or the argument of it and of the class itself."""
_MOST = 2_000
"""So many functions and classes are looked at (count); those that are nearest to the task come first."""
_TABLES = (dict, list, tuple, set, frozenset)
_LARGE = 200
"""A table with more than so many members (count) is one of data, not of functions."""
_NOT_OF_PROGRAMS = frozenset({"stabilize_celery", "builtins", *sys.stdlib_module_names}) - {"__main__"}


def may_jump(task: Task) -> bool:
    """Return whether the code of a task names a jump, or that of something that it uses."""
    todo: deque[Any] = deque([task.func if isinstance(task, CallableTask) else task])
    seen: set[int] = set()
    while todo and len(seen) < _MOST:
        thing = _bare(todo.popleft())
        if id(thing) in seen or not (_is_of_a_program(thing) or isinstance(thing, _TABLES)):
            continue
        seen.add(id(thing))
        if isinstance(thing, FunctionType):
            names = set(_names(thing.__code__))
            if names & _JUMPS:
                return True
            todo.extend(_used(thing, names))
        else:
            todo.extend(_parts(thing))
    return False


def _bare(thing: Any) -> Any:
    """Return what is behind a method, a property or a `partial`."""
    if isinstance(thing, MethodType | staticmethod | classmethod):
        return thing.__func__
    if isinstance(thing, property):
        return thing.fget
    return thing.func if isinstance(thing, partial) else thing


def _is_of_a_program(thing: Any) -> bool:
    home = thing if isinstance(thing, FunctionType | type) else type(thing)
    return str(getattr(home, "__module__", None) or "").partition(".")[0] not in _NOT_OF_PROGRAMS


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function looks up, also in functions inside of it, and the texts that stand in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple):
            yield from (part for part in constant if isinstance(part, str))


def _used(function: FunctionType, names: set[str]) -> Iterator[Any]:
    """Yield what a function uses: by names of its module, by those of other modules, and from around it."""
    for name in names:
        found = function.__globals__.get(name)
        if isinstance(found, ModuleType):
            yield from (vars(found)[one] for one in names if one in vars(found))
        elif found is not None:
            yield found
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def _parts(thing: Any) -> Iterable[Any]:
    """Return what a class, an object or a small table consists of."""
    if isinstance(thing, _TABLES):
        return () if len(thing) > _LARGE else thing.values() if isinstance(thing, dict) else thing
    if isinstance(thing, type):
        return [value for base in thing.__mro__ if _is_of_a_program(base) for value in vars(base).values()]
    return [type(thing), *getattr(thing, "__dict__", {}).values()]
