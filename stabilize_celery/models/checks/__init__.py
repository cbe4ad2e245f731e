"""What the shape of a definition can't say: names that must exist, edges that must fit, contradictions."""

from stabilize_celery.models.checks.rules import GRAPH_RULES, RULES
from stabilize_celery.models.checks.view import Rule, View

__all__ = ["GRAPH_RULES", "RULES", "Rule", "View"]
