"""Expressions under upstream's names, with what conditions of stages don't have.

Those are attributes, `x if c else y`, and `and` and `or` that give a truth value.
"""

import ast
from collections.abc import Mapping
from typing import Any

from stabilize_celery.models.expressions import ConditionError, evaluate, names_in

__all__ = ["ExpressionError", "evaluate_expression"]

ExpressionError = ConditionError
_TRUTHS = {"0": False, "1": True}
"""Numbers that are the whole expression and stand for a truth value."""


def evaluate_expression(expression: str, context: Mapping[str, Any]) -> Any:
    """Return the value of an expression over a context; a name that is not there is None.

    Raises:
        ExpressionError: it can't be parsed or evaluated.

    """
    if (literal := _TRUTHS.get(expression.strip())) is not None:
        return literal
    ours = _translated(expression)
    return evaluate(ours, {**dict.fromkeys(names_in(ours)), **context})


class _Translator(ast.NodeTransformer):
    """Writes `a.b` as `a["b"]`, `x if c else y` as `(c and [x] or [y])[0]`, and makes a truth of `x and y`."""

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        joined = ast.BoolOp(node.op, [self.visit(value) for value in node.values])
        return ast.UnaryOp(ast.Not(), ast.UnaryOp(ast.Not(), joined))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Subscript(self.visit(node.value), ast.Constant(node.attr), ast.Load())

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        test, body, other = (self.visit(part) for part in (node.test, node.body, node.orelse))
        chosen = ast.BoolOp(ast.And(), [test, ast.List([body], ast.Load())])
        either = ast.BoolOp(ast.Or(), [chosen, ast.List([other], ast.Load())])
        return ast.Subscript(either, ast.Constant(0), ast.Load())


def _translated(expression: str) -> str:
    """Return the expression as the engine takes it; as it is where it can't be parsed: the engine says why."""
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        if not any(isinstance(node, ast.Attribute | ast.BoolOp | ast.IfExp) for node in ast.walk(tree)):
            return expression
        return ast.unparse(_Translator().visit(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return expression
