"""The refusal of what a database's keys refused: a second workflow of one id, a second stage of one name."""

import sqlite3
from collections import Counter

from stabilize_celery.errors import StabilizeError
from stabilize_celery.models.workflow import Workflow

__all__ = ["IntegrityError", "check_stored"]


class IntegrityError(StabilizeError, sqlite3.IntegrityError):
    """There is such a workflow or stage already. Programs that catch the database's error catch this one."""


def check_stored(workflow: Workflow, *, is_known: bool) -> None:
    """Check what is to be stored. Raises IntegrityError: its id, or the `ref_id` of two of its stages, is taken."""
    if is_known:
        raise IntegrityError(
            f"workflow {workflow.id} is stored already: change it by store_stage, add_stage and update_status, or make "
            "another one"
        )
    twice = [ref_id for ref_id, many in Counter(stage.ref_id for stage in workflow.stages).items() if many > 1]
    if twice:
        raise IntegrityError(f"workflow {workflow.id} has several stages with the ref_id {twice[0]!r}: name each once")
