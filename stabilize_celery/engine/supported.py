"""What a definition may not use yet: refused when it is submitted, rather than run wrongly."""

from collections.abc import Iterator

from stabilize_celery.models.problems import Problem
from stabilize_celery.models.stage.enums import JoinMode
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
    if stage.join_mode is JoinMode.CANCELLING:
        yield "join_mode"
    used = {
        "deferred_choice_group": stage.deferred_choice_group,
        "milestone_ref_id": stage.milestone_ref_id,
        "mutex_section": stage.mutex_section,
        "cancels_regions": stage.cancels_regions,
        "choose_after_ms": stage.choose_after_ms,
    }
    yield from (name for name, value in used.items() if value)
