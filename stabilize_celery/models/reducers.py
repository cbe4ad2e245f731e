"""Reducers: how the outputs of branches that meet become one value.

Without a reducer the latest value of a key wins, and all others are lost. A stage asks for one by name:
`output_reducers={"candidate": "collect", "score": "sum"}`, or for all names of which branches bring different values:
`{"*": "join_lists"}`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stabilize_celery.models.evaluation import EvaluationError

__all__ = [
    "ANY",
    "Reducer",
    "ReducerError",
    "apply_output_reducers",
    "get_reducer",
    "reduce",
    "reducer_names",
    "register_reducer",
]

Reducer = Callable[[list[Any]], Any]
"""Folds the branches' values, in the branches' order, into one."""


ANY = "*"
"""In place of an output's name: any that has no reducer of its own."""


class ReducerError(EvaluationError):
    """A reducer that can't combine what the branches brought; the text names it and that."""


def _collect(values: list[Any]) -> list[Any]:
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def _given(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _extend(values: list[Any]) -> list[Any]:
    return _collect(_given(values))


def _join_lists(values: list[Any]) -> Any:
    """Return what is in all of them, once each; the newest value where not all are lists."""
    if not all(isinstance(value, list) for value in values):
        return values[-1]
    joined: list[Any] = []
    for item in (item for value in values for item in value):
        if item not in joined:
            joined.append(item)
    return joined


def _sum(values: list[Any]) -> Any:
    return sum(_given(values))


def _max(values: list[Any]) -> Any:
    return max(_given(values), default=None)


def _min(values: list[Any]) -> Any:
    return min(_given(values), default=None)


def _merge(values: list[Any]) -> dict[str, Any]:
    return {key: item for value in values if isinstance(value, dict) for key, item in value.items()}


def _first(values: list[Any]) -> Any:
    return values[0] if values else None


def _last(values: list[Any]) -> Any:
    return values[-1] if values else None


_BUILT_IN: dict[str, Reducer] = {
    "append": _collect,
    "collect": _collect,
    "extend": _extend,
    "first": _first,
    "join_lists": _join_lists,
    "last": _last,
    "max": _max,
    "merge": _merge,
    "min": _min,
    "sum": _sum,
}
_CUSTOM: dict[str, Reducer] = {}


def register_reducer(name: str, reducer: Reducer) -> None:
    """Make `reducer` known as `name` in this process; a built-in of that name is hidden."""
    _CUSTOM[name] = reducer


def get_reducer(name: str) -> Reducer | None:
    """Return the reducer known as `name`, or None."""
    return _CUSTOM.get(name) or _BUILT_IN.get(name)


def reduce(name: str, values: list[Any]) -> Any:
    """Return the values of several branches as one, by a reducer's name; the last one if nobody knows that here.

    Raises:
        ReducerError: the reducer can't.

    """
    reducer = get_reducer(name)
    try:
        return reducer(values) if reducer else values[-1]
    except Exception as error:
        told = f"output_reducers: {name!r} can't combine {repr(values)[:200]}: {error}"
        raise ReducerError(told) from error


def reducer_names() -> list[str]:
    """Return every known name, sorted."""
    return sorted({*_BUILT_IN, *_CUSTOM})


def apply_output_reducers(reducers: Mapping[str, str], branch_outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one value for each key of `reducers` that some branch has among its outputs.

    Args:
        reducers: Output key -> reducer name.
        branch_outputs: The outputs of each branch, in the order in which reducers see them.

    Raises:
        ValueError: A reducer's name is unknown; the text lists the known ones.

    """
    reduced: dict[str, Any] = {}
    for key, name in reducers.items():
        reducer = get_reducer(name)
        if reducer is None:
            msg = f"output_reducers[{key!r}]: unknown reducer {name!r}; use one of {', '.join(reducer_names())}"
            raise ValueError(msg)
        values = [outputs[key] for outputs in branch_outputs if key in outputs]
        if values:
            reduced[key] = reducer(values)
    return reduced
