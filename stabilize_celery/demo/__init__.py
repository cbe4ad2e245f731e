"""The demo: an audit of a Python source tree, written as any user would write it.

`listing` finds the packages, `audit` measures one of them, `figures` is what is known at the end, `report` shows it,
`tasks` are the stages' tasks and `pipeline` is the graph.
"""

from stabilize_celery.demo.pipeline import audit_pipeline
from stabilize_celery.demo.tasks import TASKS, register

__all__ = ["TASKS", "audit_pipeline", "register"]
