"""The tasks that wait without holding a worker: approval and sub_workflow."""

from typing import Any

import pytest

from stabilize_celery.errors import ContextError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.tasks.approval import ApprovalTask
from stabilize_celery.tasks.call import SubWorkflowOutcome, bind_call
from stabilize_celery.tasks.sub_workflow import SubWorkflowTask
from stabilize_celery.tasks.task import SubWorkflowCall, Wait, wait_of
from stabilize_celery.tasks.wait import WaitTask
from tests.unit.tasks.support import call_with, stage_with


def approve(context: dict[str, Any], **call: Any) -> TaskResult:
    with bind_call(call_with(**call)):
        return ApprovalTask().execute(stage_with(**context))


def call_workflow(context: dict[str, Any], outcome: SubWorkflowOutcome | None = None) -> TaskResult:
    with bind_call(call_with(sub_workflow=outcome)):
        return SubWorkflowTask().execute(stage_with(**context))


def test_approval_suspends_until_its_signal() -> None:
    """It waits by name, and no longer than its deadline."""
    stage = stage_with(signal="release", deadline_s=1.5)

    assert approve(stage.context).status is WorkflowStatus.SUSPENDED
    assert wait_of(ApprovalTask(), stage) == Wait("release", 1_500)


def test_approval_gives_the_signal_and_its_payload() -> None:
    """Executed again after the signal, it succeeds."""
    result = approve({"signal": "release"}, signal="release", signal_payload={"by": "ann"})

    assert result == TaskResult.success({"signal": "release", "payload": {"by": "ann"}})


def test_a_named_approval_does_not_judge_the_name() -> None:
    """A stage that waits for a signal named reject succeeds when it comes."""
    assert approve({"signal": "reject"}, signal="reject").status is WorkflowStatus.SUCCEEDED


def test_an_approval_without_a_name_is_approved_or_rejected() -> None:
    """As upstream's: approve succeeds with the payload as `approval`, reject fails, or lets the pipeline go on."""
    approved = approve({}, signal="approve", signal_payload={"by": "ann"})

    assert wait_of(ApprovalTask(), stage_with()) == Wait("")
    assert approved.outputs["approval"] == {"by": "ann"}
    assert approve({}, signal="reject").status is WorkflowStatus.TERMINAL
    assert approve({}, signal="reject").context["error"] == "rejected"
    assert approve({"approval_reject_continues": True}, signal="reject").status is WorkflowStatus.FAILED_CONTINUE


@pytest.mark.parametrize("seconds", [1e15, 1e300, 1.7e308])
def test_a_time_beyond_what_can_be_counted_is_refused(seconds: float) -> None:
    """Later it would be nobody's error, and come again and again."""
    with pytest.raises(ContextError, match="`deadline_s` must be a number of seconds of at most 4503599627370; not"):
        ApprovalTask().waits_for(stage_with(signal="go", deadline_s=seconds))
    with bind_call(call_with()), pytest.raises(ContextError, match="`waitTime` must be a number of seconds of at most"):
        WaitTask().execute(stage_with(waitTime=seconds))


def test_a_deadline_that_is_none_is_refused_before_waiting() -> None:
    """The error names the key."""
    with pytest.raises(ContextError, match="`deadline_s` must be a number of 0 or more; not 'soon'"):
        ApprovalTask().waits_for(stage_with(signal="go", deadline_s="soon"))


@pytest.mark.parametrize(
    ("workflow", "call"),
    [
        ("nightly", SubWorkflowCall(name="nightly", context={"n": 1})),
        ({"stages": [1]}, SubWorkflowCall(definition={"stages": [1]}, context={"n": 1})),
    ],
)
def test_an_inner_workflow_is_called_by_name_or_definition(workflow: Any, call: SubWorkflowCall) -> None:
    """The task suspends, and tells the engine what to run."""
    stage = stage_with(workflow=workflow, context={"n": 1})

    assert call_workflow(stage.context).status is WorkflowStatus.SUSPENDED
    assert SubWorkflowTask().calls_workflow(stage) == call


def test_the_inner_outputs_become_the_stages() -> None:
    """With the id of the inner workflow beside them."""
    outcome = SubWorkflowOutcome("w2", "SUCCEEDED", {"total": 5})

    assert call_workflow({"workflow": "nightly"}, outcome) == TaskResult.success({"total": 5, "workflow_id": "w2"})


@pytest.mark.parametrize(
    ("status", "ends"), [("TERMINAL", WorkflowStatus.TERMINAL), ("CANCELED", WorkflowStatus.CANCELED)]
)
def test_an_inner_workflow_that_failed_gives_its_reason(status: str, ends: WorkflowStatus) -> None:
    """A canceled inner workflow cancels the task, anything else but a success fails it."""
    result = call_workflow({"workflow": "nightly"}, SubWorkflowOutcome("w2", status, reason="stage b: no disk"))

    assert (result.status, result.outputs) == (ends, {"workflow_id": "w2"})
    assert result.context["error"] == f"the inner workflow w2 ended {status}: stage b: no disk"


@pytest.mark.parametrize("context", [{}, {"workflow": ""}, {"workflow": 3}, {"workflow": "x", "context": [1]}])
def test_a_call_of_nothing_is_refused_before_waiting(context: dict[str, Any]) -> None:
    """The first execution already says what is wrong."""
    with pytest.raises(ContextError, match=r"stage 'a': sub_workflow task: `(workflow|context)` must be"):
        call_workflow(context)
