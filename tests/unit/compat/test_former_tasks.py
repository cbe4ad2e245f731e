"""Ready-made tasks that a program executes by itself answer as they did; tokens that it registers itself, too."""

from __future__ import annotations

from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest

from stabilize_celery.compat import (
    ApprovalTask,
    DockerTask,
    HighwayTask,
    HTTPTask,
    PythonTask,
    RetryableTask,
    ShellTask,
    SSHTask,
    StageExecution,
    SubWorkflowTask,
    Task,
    TaskCancelledError,
    TaskExecution,
    TaskNotFoundError,
    TaskRegistry,
    TaskResult,
    TransientError,
    WaitTask,
    Workflow,
    WorkflowStatus,
    bind_current_token,
    cancel_task,
    current_cancellation_token,
    get_signal,
    get_token,
    is_cancellation_requested,
    raise_if_cancellation_requested,
    register_token,
    reset_cancellation_state,
    reset_current_token,
    unregister_token,
)
from stabilize_celery.testing import run_workflow


def stage(kind: str = "it", **context: Any) -> StageExecution:
    return StageExecution(ref_id="s", context=context, tasks=[TaskExecution.create("it", kind)])


@pytest.mark.parametrize(
    ("task", "context", "said"),
    [
        (ShellTask(), {}, "`command` must be a text"),
        (PythonTask(), {"script": "x", "module": "y"}, "give one, and only one, of `script`"),
        (PythonTask(), {"module": "json"}, "`function` must be a text"),
        (HTTPTask(), {}, "`url`"),
        (SSHTask(), {"command": "ls"}, "`host` must be a text"),
        (DockerTask(), {"image": "x", "timeout": "soon"}, ""),
    ],
)
def test_a_refused_setting_is_a_result(task: Task, context: dict[str, Any], said: str) -> None:
    """TERMINAL, with what is wrong as its error."""
    result = task.execute(stage(**context))

    assert result.status is WorkflowStatus.TERMINAL
    assert said in result.context["error"]


def test_a_request_without_an_answer_is_a_result() -> None:
    """Nobody tries again what a program executes by itself."""
    silent = stage(url="http://127.0.0.1:9/", allow_private_urls=True)

    result = HTTPTask().execute(silent)

    assert result.status is WorkflowStatus.TERMINAL
    assert "no answer" in result.context["error"]
    assert "retries" not in silent.context


def test_what_a_failed_command_said_stands_in_the_context() -> None:
    """Where unit tests of a program look for it; a failure that the pipeline bears has it, too."""
    script = "import sys; print('half'); raise ValueError('no')"

    failed = PythonTask().execute(stage(script=script))
    borne = ShellTask().execute(stage(command="echo half; exit 3", continue_on_failure=True))

    assert (failed.context["exit_code"], failed.context["stdout"]) == (1, "half")
    assert "ValueError: no" in failed.context["stderr"]
    assert (borne.status, borne.context["returncode"]) == (WorkflowStatus.FAILED_CONTINUE, 3)


def test_within_a_workflow_the_inputs_stay_what_they_were() -> None:
    """So a restarted stage finds them again."""
    [ended] = run_workflow(
        Workflow.create("app", "w", [stage("sh", command="echo half; exit 3")]), {"sh": ShellTask}
    ).stages

    assert "stdout" not in ended.context
    assert ended.outputs["stdout"] == "half"


def test_a_failure_that_is_tried_again_is_raised() -> None:
    """As a program expects of `restart_on_failure`."""
    with pytest.raises(TransientError):
        ShellTask().execute(stage(command="exit 3", restart_on_failure=True))


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_tokens() -> Any:
    yield
    reset_cancellation_state()


def test_code_in_a_thread_stops_at_its_token(no_tokens: None) -> None:
    """It is raised from elsewhere, by the id under which it was registered."""
    register_token("job")
    began, stopped = Event(), Event()

    def work() -> None:
        bound = bind_current_token(get_token("job"))
        began.set()
        while not is_cancellation_requested():
            stopped.wait(0.001)
        stopped.set()
        with pytest.raises(TaskCancelledError):
            raise_if_cancellation_requested()
        reset_current_token(bound)
        assert current_cancellation_token() is None

    thread = Thread(target=work)
    thread.start()
    assert began.wait(30)
    assert cancel_task("job")
    assert stopped.wait(30)
    thread.join(30)


def test_only_what_was_registered_is_known(no_tokens: None) -> None:
    """A task that a workflow runs is not: it is cancelled with its stage."""
    token = register_token("job")

    assert register_token("job") is get_token("job") is token
    unregister_token("job")
    assert get_token("job") is None
    assert not cancel_task("job")
    assert not token.is_cancelled


def test_binary_output_is_bytes_where_nothing_stores_it() -> None:
    """Beside its text for JSON, which is all that there is of it within a workflow."""
    outputs = ShellTask().execute(stage(command="printf hello", binary=True)).outputs

    assert (outputs["stdout"], outputs["stdout_b64"]) == (b"hello", "aGVsbG8=")


# -- approvals and waits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "status", "outputs", "told"),
    [
        ({}, "SUSPENDED", {}, {}),
        ({"_signal_name": "other"}, "SUSPENDED", {}, {}),
        ({"_signal_name": "approve", "_signal_data": {"by": "me"}}, "SUCCEEDED", {"approved": True}, {}),
        ({"_signal_name": "reject"}, "TERMINAL", {}, {"approved": False, "approval": {}}),
        (
            {"_signal_name": "reject", "approval_reject_continues": True},
            "FAILED_CONTINUE",
            {"approved": False, "approval": {}},
            {},
        ),
    ],
)
def test_an_approval_executed_by_hand_finds_its_signal_in_the_context(
    context: dict[str, Any], status: str, outputs: dict[str, Any], told: dict[str, Any]
) -> None:
    """A rejection puts nothing out."""
    result = ApprovalTask().execute(stage(**context))

    assert result.status.name == status
    assert bool(result.outputs) == bool(outputs)
    assert outputs.items() <= {**result.outputs}.items()
    assert told.items() <= {**result.context}.items()


def test_the_signal_of_a_stage_made_by_hand_is_in_its_context() -> None:
    assert get_signal(stage()) == (None, {})
    assert get_signal(stage(_signal_name="go", _signal_data={"x": 1})) == ("go", {"x": 1})


def test_a_wait_executed_by_hand_says_when_it_began_and_ends_after_its_time() -> None:
    began = WaitTask().execute(stage(waitTime=5))

    assert began.status is WorkflowStatus.RUNNING
    assert WaitTask().execute(stage(waitTime=5, **began.context)).status is WorkflowStatus.RUNNING
    ended = WaitTask().execute(stage(waitTime=5, waitStartTime=began.context["waitStartTime"] - 6))
    assert ended.status is WorkflowStatus.SUCCEEDED
    assert ended.outputs["waitedSeconds"] >= 6


def test_tasks_that_wait_for_something_have_a_limit_and_a_pause() -> None:
    """As upstream's retryable tasks."""
    for task, hours in ((WaitTask(), 24), (SubWorkflowTask(), 0.5), (HighwayTask(), 0.5)):
        assert isinstance(task, RetryableTask)
        assert task.get_timeout() == timedelta(hours=hours)
        assert task.get_backoff_period(stage(), timedelta()) <= timedelta(seconds=5)


def test_a_registry_knows_upstreams_names() -> None:
    """Of its own tasks by their classes' names, and of verifiers."""
    registry = TaskRegistry()
    registry.register_verifier("sound", lambda _: True)  # type: ignore[arg-type, return-value]

    assert isinstance(registry.get("wait"), WaitTask)
    assert isinstance(registry.get("WaitTask"), WaitTask)
    assert isinstance(registry.get("approval"), ApprovalTask)
    assert registry.get("NoOpTask").execute(stage()).status is WorkflowStatus.SUCCEEDED
    with pytest.raises(TaskNotFoundError) as raised:
        registry.get("nothing")
    assert vars(raised.value)["task_type"] == "nothing"
    assert registry.has_verifier("sound")
    assert "sound" in registry.list_verifiers()


class Greet(Task):
    """Has other names of its own."""

    @property
    def aliases(self) -> list[str]:
        return ["hello", "hi"]

    def execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.success()


@pytest.mark.parametrize("task", [Greet, Greet()])
def test_a_task_is_known_by_its_own_aliases_too(task: Any) -> None:
    """Registered as a class or as an instance, beside the aliases that are given."""
    registry = TaskRegistry()
    registry.register("greet", task, ["greeting"])

    assert all(isinstance(registry.get(name), Greet) for name in ("greet", "greeting", "hello", "hi"))
