"""Expressions under upstream's names: the language of conditions, in which what is missing is an error."""

from collections.abc import Mapping
from typing import Any

from stabilize_celery.models.expressions import ConditionError, evaluate

__all__ = ["ExpressionError", "evaluate_expression"]

ExpressionError = ConditionError


def evaluate_expression(expression: str, context: Mapping[str, Any]) -> Any:
    """Return the value of an expression over a context.

    Raises:
        ExpressionError: it can't be parsed or evaluated.

    """
    return evaluate(expression, context)
