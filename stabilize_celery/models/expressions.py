"""Conditions: expressions over names, without calls or attributes, bounded, failing closed (wcp 1.4).

Literals, names, indexing, list and dict literals, comparisons, `in`, `and`, `or`, `not`, `+ - * / // %`, unary minus;
`*` and `%` of numbers only.
"""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import simpleeval

from stabilize_celery.models.evaluation import EvaluationError
from stabilize_celery.models.problems import Suggester

__all__ = [
    "MAX_EXPRESSION_CHARS",
    "ConditionError",
    "UnknownNameError",
    "check_expression",
    "evaluate",
    "evaluate_condition",
    "names_in",
]

MAX_EXPRESSION_CHARS = 4_000
Constructs: TypeAlias = tuple[type[ast.AST], ...]
_NAMES_TOLD = 20


def _of_numbers(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return an operation that refuses text and lists: `"%099999d" % 1` or `[0] * n` would fill the memory."""

    def apply(left: Any, right: Any) -> Any:
        if not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise TypeError(f"* and % are for numbers, not for {type(left).__name__} and {type(right).__name__}")
        return operation(left, right)

    return apply


_OPERATORS = {
    kind: simpleeval.DEFAULT_OPERATORS[kind]
    for kind in (
        ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.Not, ast.Eq, ast.NotEq,
        ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    )
} | {ast.Mult: _of_numbers(operator.mul), ast.Mod: _of_numbers(operator.mod)}  # fmt: skip
_ALLOWED = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Subscript, ast.List, ast.Dict,
    ast.Compare, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.BinOp, *_OPERATORS,
)  # fmt: skip
_IDENTITY = {ast.Is: operator.is_, ast.IsNot: operator.is_not}
_LITERALS = (bool, int, float, str, type(None))
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}


class ConditionError(EvaluationError):
    """An expression that cannot be evaluated; the text says which and why."""


class UnknownNameError(ConditionError):
    """An expression looks up a name that is none; the text has the names that there are, up to twenty."""

    def __init__(self, expression: str, name: str, known: Iterable[str]) -> None:
        there = sorted(map(str, known))
        hint = Suggester(there).suggest(name) or ";"
        told = f"unknown name {name!r}{hint} known here: {', '.join(there[:_NAMES_TOLD]) or 'none'}"
        super().__init__(f"expression {expression!r}: {told}")
        self.expression, self.name = expression, name

    def among(self, known: Iterable[str]) -> "UnknownNameError":
        """Return the same error for who knows more of the names."""
        return UnknownNameError(self.expression, self.name, known)


def check_expression(expression: str) -> str | None:
    """Return what is wrong with an expression as text, or None. Does not look names up."""
    try:
        _parse(expression)
    except ConditionError as error:
        return str(error)
    return None


def names_in(expression: str, also: Constructs = ()) -> set[str]:
    """Return the names that an expression looks up; empty for one that does not parse."""
    try:
        tree = _parse(expression, also)
    except ConditionError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(_WORDS)


def evaluate(expression: str, names: Mapping[str, Any], also: Constructs = ()) -> Any:
    """Return the value of an expression; `also`: what it may have besides, for who is used to it (tuples, `is`).

    Raises:
        ConditionError: forbidden construct, unknown name, wrong type, too large, or any other error.

    """
    tree, operators = _parse(expression, also), _OPERATORS | _IDENTITY
    evaluator = simpleeval.EvalWithCompoundTypes(operators=operators, functions={}, names={**names, **_WORDS})
    try:
        return evaluator.eval(expression, previously_parsed=tree.body)
    except simpleeval.NameNotDefined as error:
        raise UnknownNameError(expression, str(error.name), names) from None
    except Exception as error:  # noqa: BLE001 - whatever user data does inside an expression, it fails closed
        raise ConditionError(f"expression {expression!r}: {type(error).__name__}: {error}") from None


def evaluate_condition(expression: str, names: Mapping[str, Any]) -> bool:
    """Return whether a condition holds, by Python's truth rules. Raises ConditionError as `evaluate` does."""
    return bool(evaluate(expression, names))


def _parse(expression: str, also: Constructs = ()) -> ast.Expression:
    if not expression.strip():
        raise ConditionError("an expression must not be empty")
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise ConditionError(f"expression of {len(expression)} characters; at most {MAX_EXPRESSION_CHARS} are allowed")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # Expressions are short: the parser's file name and line would only confuse.
        told = error.msg if isinstance(error, SyntaxError) else error
        raise ConditionError(f"expression {expression!r} does not parse: {told}") from None
    for node in ast.walk(tree):
        if not isinstance(node, also) and (refused := _refused_in(node)):
            raise ConditionError(f"expression {expression!r}: {refused} is not allowed in a condition")
    return tree


def _refused_in(node: ast.AST) -> str:
    """Return the name of what a node is that the language does not have; empty if it has it."""
    if not isinstance(node, _ALLOWED):
        return type(node).__name__
    if isinstance(node, ast.Constant) and not isinstance(node.value, _LITERALS):
        return f"a literal of type {type(node.value).__name__}"
    if isinstance(node, ast.Dict) and None in node.keys:
        return "unpacking with **"
    return ""
