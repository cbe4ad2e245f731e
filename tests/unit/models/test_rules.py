"""The decision tables of a stage's status, a test per row."""

import pytest

from stabilize_celery.models.stage import StageExecution, SyntheticStageOwner
from stabilize_celery.models.stage.rules import DETERMINE_STATUS
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow

S = WorkflowStatus


def determined(own: str, before: str, tasks: str, after: str, **context: object) -> tuple[str, Workflow]:
    """Build a stage from the names of its parts' statuses and return what it is determined to be."""
    stage = StageExecution(
        ref_id="s",
        status=WorkflowStatus[own],
        context=context,
        tasks=[TaskExecution(status=WorkflowStatus[name]) for name in tasks.split()],
    )
    workflow = Workflow(stages=[stage])
    for owner, names in ((SyntheticStageOwner.STAGE_BEFORE, before), (SyntheticStageOwner.STAGE_AFTER, after)):
        for name in names.split():
            part = StageExecution.create_synthetic("t", name, stage, owner)
            part.status = WorkflowStatus[name]
            workflow.add_stage(part)
    return stage.determine_status().name, workflow


ROWS = [
    # row, own status, before stages, tasks, after stages, result
    ("1", "RUNNING", "", "", "NOT_STARTED", "RUNNING"),
    ("1", "RUNNING", "", "", "TERMINAL RUNNING", "RUNNING"),
    ("2", "RUNNING", "", "", "TERMINAL SUCCEEDED", "TERMINAL"),
    ("3", "RUNNING", "", "", "", "SUCCEEDED"),
    ("3", "RUNNING", "", "", "SUCCEEDED", "SUCCEEDED"),
    ("4", "NOT_STARTED", "", "", "", "NOT_STARTED"),
    ("4", "SUSPENDED", "", "", "RUNNING", "NOT_STARTED"),
    ("5", "RUNNING", "", "TERMINAL STOPPED CANCELED", "", "TERMINAL"),
    ("5", "RUNNING", "TERMINAL", "NOT_STARTED", "", "TERMINAL"),
    ("6", "RUNNING", "", "CANCELED STOPPED", "", "STOPPED"),
    ("7", "RUNNING", "", "PAUSED CANCELED", "", "CANCELED"),
    ("8", "RUNNING", "", "BUFFERED PAUSED", "", "PAUSED"),
    ("9", "RUNNING", "", "SUSPENDED BUFFERED", "", "BUFFERED"),
    ("10", "RUNNING", "", "RUNNING SUSPENDED", "", "SUSPENDED"),
    ("11", "RUNNING", "", "SUCCEEDED NOT_STARTED", "", "RUNNING"),
    ("11", "RUNNING", "RUNNING", "", "TERMINAL", "RUNNING"),
    ("12", "RUNNING", "", "REDIRECT", "", "RUNNING"),
    ("13 terminal", "RUNNING", "", "SUCCEEDED", "CANCELED STOPPED TERMINAL", "TERMINAL"),
    ("13 stopped", "RUNNING", "", "SUCCEEDED", "CANCELED STOPPED", "STOPPED"),
    ("13 canceled", "RUNNING", "", "SUCCEEDED", "CANCELED RUNNING", "CANCELED"),
    ("14", "RUNNING", "", "SUCCEEDED", "RUNNING", "RUNNING"),
    ("14", "RUNNING", "", "FAILED_CONTINUE", "NOT_STARTED", "RUNNING"),
    ("15", "RUNNING", "", "SUCCEEDED FAILED_CONTINUE", "SUCCEEDED", "FAILED_CONTINUE"),
    ("16", "RUNNING", "SUCCEEDED", "SUCCEEDED SKIPPED", "SUCCEEDED", "SUCCEEDED"),
    ("16", "RUNNING", "", "SKIPPED", "", "SUCCEEDED"),
    ("16", "RUNNING", "", "SUCCEEDED", "FAILED_CONTINUE PAUSED SUSPENDED", "SUCCEEDED"),
]


@pytest.mark.parametrize(("row", "own", "before", "tasks", "after", "wanted"), ROWS)
def test_a_stage_is_what_its_row_of_the_table_says(
    row: str, own: str, before: str, tasks: str, after: str, wanted: str
) -> None:
    """The first matching row decides."""
    result, _workflow = determined(own, before, tasks, after)

    assert result == wanted, f"row {row}"


def test_failed_planning_of_before_stages_is_a_failure() -> None:
    """Row 2b: an idle stage whose planning failed takes its failure status, unless after stages decide first."""
    assert determined("RUNNING", "", "", "", beforeStagePlanningFailed=True)[0] == "TERMINAL"
    assert determined("RUNNING", "", "", "", beforeStagePlanningFailed=True, failPipeline=False)[0] == "STOPPED"
    assert determined("RUNNING", "", "", "RUNNING", beforeStagePlanningFailed=True)[0] == "RUNNING"
    assert determined("RUNNING", "", "SUCCEEDED", "", beforeStagePlanningFailed=True)[0] == "SUCCEEDED"


def test_every_row_has_a_test() -> None:
    """No row of the table goes unproven."""
    assert {row for row, *_ in ROWS} | {"2b"} == {row for row, *_ in DETERMINE_STATUS}


@pytest.mark.parametrize(
    ("context", "default", "wanted"),
    [
        ({}, S.TERMINAL, S.TERMINAL),
        ({}, S.CANCELED, S.CANCELED),
        ({"failPipeline": True}, S.TERMINAL, S.TERMINAL),
        ({"failPipeline": False}, S.TERMINAL, S.STOPPED),
        ({"continuePipelineOnFailure": True}, S.TERMINAL, S.FAILED_CONTINUE),
        ({"continuePipelineOnFailure": True, "failPipeline": False}, S.TERMINAL, S.FAILED_CONTINUE),
        ({"continuePipelineOnFailure": False}, S.TERMINAL, S.TERMINAL),
    ],
)
def test_a_failing_stage_becomes_what_its_switches_say(
    context: dict[str, object], default: WorkflowStatus, wanted: WorkflowStatus
) -> None:
    """The table of failure statuses holds, and applies where a task fails."""
    stage = StageExecution(context=context, tasks=[TaskExecution(status=S.TERMINAL)])

    assert stage.failure_status(default) is wanted
    assert stage.determine_status() is stage.failure_status()
