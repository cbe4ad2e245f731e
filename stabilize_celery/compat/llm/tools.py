"""Functions of a program that a model may call: their schemas are read off their signatures."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Self, get_origin, get_type_hints, overload

__all__ = ["ToolRegistry", "ToolSpec", "tool"]

_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
_SPEC = "_tool_spec"


class ToolSpec:
    """A function, the name that a model calls it by, and its `schema`."""

    def __init__(self, func: Callable[..., Any], name: str = "", description: str = "") -> None:
        self.func = func
        self.name: str = name or getattr(func, "__name__", "tool")
        self.description = description or (inspect.getdoc(func) or "").strip() or self.name
        self.schema: dict[str, Any] = {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": _parameters(func)},
        }

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Return what the function returns."""
        return self.func(**arguments)


@overload
def tool(func: Callable[..., Any], /) -> Callable[..., Any]: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def tool(
    func: Callable[..., Any] | None = None, /, *, name: str | None = None, description: str | None = None
) -> Callable[..., Any]:
    """Decorate a function that a model may call, with or without arguments; it stays what it is."""

    def mark(one: Callable[..., Any]) -> Callable[..., Any]:
        setattr(one, _SPEC, ToolSpec(one, name or "", description or ""))
        return one

    return mark if func is None else mark(func)


class ToolRegistry:
    """The functions that a model may call."""

    def __init__(self) -> None:
        self._tools: dict[str, ToolSpec] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def __len__(self) -> int:
        return len(self._tools)

    def add(self, func: Callable[..., Any]) -> Self:
        """Add a function, decorated or not."""
        spec: ToolSpec = getattr(func, _SPEC, None) or ToolSpec(func)
        self._tools[spec.name] = spec
        return self

    def schemas(self) -> list[dict[str, Any]]:
        """Return what a model is told of them."""
        return [spec.schema for spec in self._tools.values()]

    def dispatch(self, tool_call: Mapping[str, Any]) -> Any:
        """Do what a model asks for and return what came of it; `arguments` may be JSON or its text.

        Raises:
            KeyError: there is no such function.
            ValueError: the arguments are no JSON.

        """
        asked = tool_call.get("function", tool_call)
        name, arguments = asked.get("name", ""), asked.get("arguments") or {}
        if name not in self._tools:
            raise KeyError(f"there is no tool {name!r}; there are: {', '.join(self._tools) or 'none'}")
        if isinstance(arguments, str):
            arguments = json.loads(arguments) if arguments.strip() else {}
        return self._tools[name].call(arguments)


def _parameters(func: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = get_type_hints(func)
    except (NameError, TypeError):
        hints = {}  # of a type that is only known to a type checker
    taken = [one for one in inspect.signature(func).parameters.values() if one.name not in ("self", "cls")]
    return {
        "type": "object",
        "properties": {one.name: {"type": _json_type(hints.get(one.name, str))} for one in taken},
        "required": [one.name for one in taken if one.default is inspect.Parameter.empty],
    }


def _json_type(hint: Any) -> str:
    return _JSON_TYPES.get(get_origin(hint) or hint, "string")
