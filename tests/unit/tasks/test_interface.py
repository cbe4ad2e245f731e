"""The interface of tasks: hooks, kinds of tasks, and what functions may return."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from stabilize_celery.errors import ContextError, PermanentError
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.tasks.call import bind_call
from stabilize_celery.tasks.interface import (
    CallableTask,
    NoOpTask,
    OverridableTimeoutRetryableTask,
    RetryableTask,
    SkippableTask,
    TaskResult,
    Wait,
    WaitTask,
    wait_of,
)
from tests.unit.tasks.support import call_with, stage_with


class Poller(OverridableTimeoutRetryableTask):
    @override
    def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
        return timedelta(seconds=1) + duration

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.running()


class OnlyWhenFlagged(SkippableTask):
    @override
    def is_enabled(self, stage: StageExecution) -> bool:
        return bool(stage.context.get("flag"))

    @override
    def do_execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.success({"done": True})


def test_hooks_say_nothing_unless_a_task_defines_them() -> None:
    """A plain task leaves timeout, cancel, poll, wait and inner workflow to the engine."""
    task, stage = NoOpTask(), stage_with()

    task.on_cleanup(stage)

    assert task.execute(stage) == TaskResult.success()
    assert task.aliases == []
    assert [
        task.on_timeout(stage),
        task.on_cancel(stage),
        task.poll_after_ms(stage),
        task.waits_for(stage),
        task.calls_workflow(stage),
    ] == [None] * 5


def test_a_polled_task_tells_its_pause_in_ms_from_its_back_off() -> None:
    """`get_backoff_period` is given the time since the first start, and becomes the pause."""
    with bind_call(call_with(started_ms=1_000, now_ms=3_500)):
        assert Poller().poll_after_ms(stage_with()) == 3_500


def test_a_polled_task_may_run_four_hours_in_all_and_as_long_in_one_call() -> None:
    """The time limit of one call is that of the whole, unless a task says otherwise."""
    task: RetryableTask = Poller()

    assert task.get_timeout() == timedelta(hours=4)
    assert task.get_execution_timeout(stage_with()) == timedelta(hours=4)


def test_a_stage_may_override_the_time_limit() -> None:
    """`stageTimeoutMs` replaces the limit in all, and so that of one call."""
    stage = stage_with(stageTimeoutMs=1_500)

    assert Poller().get_dynamic_timeout(stage) == timedelta(milliseconds=1_500)
    assert Poller().get_execution_timeout(stage) == timedelta(milliseconds=1_500)


@pytest.mark.parametrize(("flag", "status"), [(True, WorkflowStatus.SUCCEEDED), (False, WorkflowStatus.SKIPPED)])
def test_a_skippable_task_is_skipped_where_it_is_not_enabled(flag: bool, status: WorkflowStatus) -> None:
    """`is_enabled` decides between `do_execute` and SKIPPED."""
    assert OnlyWhenFlagged().execute(stage_with(flag=flag)).status is status


@pytest.mark.parametrize(
    ("returned", "outputs"), [(None, {}), ({"x": 1}, {"x": 1}), (TaskResult.success({"y": 2}), {"y": 2})]
)
def test_a_function_may_return_a_result_a_mapping_or_nothing(
    returned: TaskResult | Mapping[str, Any] | None, outputs: dict[str, Any]
) -> None:
    """A mapping is the outputs of a success, None a success without outputs."""
    assert CallableTask(lambda _stage: returned).execute(stage_with()) == TaskResult.success(outputs)


def test_a_function_that_returns_something_else_fails_by_name() -> None:
    """The error names the task, what it returned, and what it may return."""
    task = CallableTask(lambda _stage: 3, "count")  # type: ignore[arg-type,return-value]

    with pytest.raises(PermanentError, match="task 'count' returned int; return a TaskResult"):
        task.execute(stage_with())


def test_a_function_task_is_called_as_the_function() -> None:
    """Without a name given, the function's own is used."""

    def charge(_stage: StageExecution) -> None:
        return None

    assert CallableTask(charge).name == "charge"


@pytest.mark.parametrize(("context", "wait"), [({"signal": "go"}, Wait("go")), ({}, Wait(""))])
def test_a_suspended_task_waits_for_the_stages_signal_or_any(context: dict[str, Any], wait: Wait) -> None:
    """A task without `waits_for` waits for `context["signal"]`, else for a signal of any name."""
    assert wait_of(NoOpTask(), stage_with(**context)) == wait


@pytest.mark.parametrize("key", ["seconds", "waitTime"])
def test_wait_asks_to_be_asked_again_exactly_when_its_time_is_over(key: str) -> None:
    """The first execution answers RUNNING with the whole duration, the second one succeeds."""
    task, stage = WaitTask(), stage_with(**{key: 1.5})

    with bind_call(call_with(now_ms=1_000)):
        assert (task.execute(stage).status, task.poll_after_ms(stage)) == (WorkflowStatus.RUNNING, 1_500)
    with bind_call(call_with(now_ms=2_499, polls=1)):
        assert (task.execute(stage).status, task.poll_after_ms(stage)) == (WorkflowStatus.RUNNING, 1)
    with bind_call(call_with(now_ms=2_500, polls=2)):
        assert task.execute(stage) == TaskResult.success()


def test_wait_of_no_time_is_over_at_once() -> None:
    """`seconds: 0` succeeds on its first execution."""
    with bind_call(call_with()):
        assert WaitTask().execute(stage_with(seconds=0)) == TaskResult.success()


@pytest.mark.parametrize(
    ("context", "found"),
    [
        ({}, "it is missing"),
        ({"seconds": -1}, "not -1"),
        ({"seconds": "soon"}, "not 'soon'"),
        ({"seconds": True}, "not True"),
    ],
)
def test_wait_refuses_what_is_no_duration(context: dict[str, Any], found: str) -> None:
    """The error names stage, task and key, and what was found."""
    with bind_call(call_with()), pytest.raises(ContextError, match=f"stage 'a': wait task: `seconds` must .*{found}"):
        WaitTask().execute(stage_with(**context))
