"""Lists that several branches put out under one name: in upstream the stage behind them sees all, joined."""

from stabilize_celery.models.reducers import ANY
from stabilize_celery.models.workflow import Workflow

__all__ = ["join_list_outputs"]


def join_list_outputs(workflow: Workflow) -> None:
    """Let each join see them so, unless it says otherwise for all names."""
    for stage in workflow.stages:
        if len(stage.requisite_stage_ref_ids) > 1:
            stage.output_reducers.setdefault(ANY, "join_lists")
