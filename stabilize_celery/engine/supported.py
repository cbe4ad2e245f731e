"""What a definition may not use yet: refused when it is submitted, rather than run wrongly."""

from collections.abc import Iterator

from stabilize_celery.models.problems import Problem
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["find_unsupported"]


def find_unsupported(workflow: Workflow) -> list[Problem]:
    """Return a problem for each field whose pattern this version does not run yet."""
    return [
        Problem(f"stages[{index}].{name}", "this pattern is not in this version yet (see CHANGELOG.md)")
        for index, stage in enumerate(workflow.stages)
        for name in _unsupported_fields(stage)
    ]


def _unsupported_fields(stage: StageExecution) -> Iterator[str]:
    if stage.mutex_section:
        yield "mutex_section"
