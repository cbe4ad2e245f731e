"""Deadlines, time-outs, scheduled starts and retention."""

from collections import Counter
from datetime import timedelta

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.variants import RetryableTask
from tests.simulation.stories import Story, stage, workflow


def test_a_wait_fails_at_its_deadline() -> None:
    """approval's `deadline_s`."""
    gate = stage("gate", does="approval", context={"signal": "approve", "deadline_s": 60})
    story = Story().start(gate).run()

    assert story.status == "TERMINAL"
    assert story.events("stage.timed_out") == ["gate"]


def test_a_stage_times_out() -> None:
    """stageTimeoutMs ends a stage that waits too long, with its reason."""
    gate = stage("gate", does="approval", context={"signal": "s", "stageTimeoutMs": 5_000})
    story = Story().start(gate, stage("b", "gate")).run()

    assert story.status == "TERMINAL"
    assert story.statuses == {"gate": "TERMINAL", "b": "SKIPPED"}


def test_a_workflow_times_out() -> None:
    """timeout_ms bounds the whole."""
    story = Story().start(stage("gate", does="approval", context={"signal": "s"}), timeout_ms=5_000).run()

    assert story.status == "TERMINAL"


def test_a_stage_does_not_start_before_its_scheduled_time() -> None:
    """scheduled_time, epoch ms."""
    story = Story()
    at_ms = story.simulation.now_us // 1000 + 30_000
    story.start(stage("a"), stage("b", "a", scheduled_time=at_ms)).run()

    started = story.workflow.stage_by_ref_id("b")
    assert started is not None
    assert started.start_time is not None
    assert started.start_time >= at_ms


def test_a_stage_whose_start_has_expired_is_bypassed() -> None:
    """start_time_expiry, epoch ms."""
    story = Story()
    story.start(stage("a"), stage("b", "a", start_time_expiry=1000), stage("c", "b")).run()

    assert story.statuses == {"a": "SUCCEEDED", "b": "SKIPPED", "c": "SUCCEEDED"}


@pytest.mark.parametrize("section", [None, "section"])
def test_a_stage_does_not_start_with_a_key_that_comes_after_its_expiry(section: str | None) -> None:
    """It is bypassed when the key is free at last, and leaves it to the next."""
    story = Story()
    expiry_ms = story.simulation.now_us // 1000 + 60_000
    gate = stage("gate", does="approval", context={"signal": "s"}, mutex_key="k")
    late = stage("late", "a", start_time_expiry=expiry_ms, mutex_key="k", mutex_section=section)
    story.start(gate, stage("a"), late, stage("next", "late", mutex_key="k"))
    story.simulation.pass_time(120_000)
    assert story.statuses == {"gate": "SUSPENDED", "a": "SUCCEEDED", "late": "BUFFERED", "next": "NOT_STARTED"}

    story.ask(outside.signal, "gate", "s", None)
    story.run()

    assert story.statuses == {"gate": "SUCCEEDED", "a": "SUCCEEDED", "late": "SKIPPED", "next": "SUCCEEDED"}
    assert story.bodies == Counter(a=1, next=1)


def test_a_workflow_whose_start_has_expired_is_cancelled() -> None:
    """start_time_expiry of the workflow, epoch ms: nothing runs."""
    story = Story().start(stage("a"), start_time_expiry=1000).run()

    assert story.status == "CANCELED"
    assert story.bodies == {}


def test_the_time_out_of_a_workflow_counts_from_the_scheduled_time_of_its_first_stages() -> None:
    """Waiting for a start is not running: the first hour is over long before it may begin."""
    story = Story()
    at_ms = story.simulation.now_us // 1000 + 7_200_000
    gates = [stage(ref, does="approval", context={"signal": "s"}) for ref in ("gate", "later")]
    gates[0].scheduled_time, gates[1].scheduled_time = at_ms, at_ms + 60_000
    story.start(*gates, timeout_ms=3_600_000)
    story.simulation.pass_time(7_200_000 + 3_590_000)
    assert story.status == "RUNNING"
    story.simulation.pass_time(20_000)

    assert story.status == "TERMINAL"


def test_a_first_stage_that_may_start_at_once_starts_the_time_out() -> None:
    story = Story()
    at_ms = story.simulation.now_us // 1000 + 7_200_000
    story.start(stage("a"), stage("late", scheduled_time=at_ms), timeout_ms=3_600_000)
    story.simulation.pass_time(3_610_000)

    assert story.statuses == {"a": "SUCCEEDED", "late": "CANCELED"}


def test_a_workflow_whose_start_expires_before_its_scheduled_time_is_cancelled() -> None:
    story = Story()
    now_ms = story.simulation.now_us // 1000
    story.start(stage("a", scheduled_time=now_ms + 10_000), start_time_expiry=now_ms + 5_000).run()

    assert (story.status, story.bodies) == ("CANCELED", {})
    assert story.workflow.cancellation_reason == "its start time expires before the scheduled time of its first stages"


def test_a_workflow_that_still_waits_for_its_slot_when_its_start_expires_is_cancelled() -> None:
    """Then, and not when its turn comes: whoever waits behind it moves up."""
    story = Story()
    now_ms = story.simulation.now_us // 1000
    one = {
        "pipeline_config_id": "p",
        "is_limit_concurrent": True,
        "max_concurrent_executions": 1,
        "keep_waiting_pipelines": True,
    }
    gate = stage("gate", does="approval", context={"signal": "go"})
    story.start(gate, **one)
    story.simulation.pass_time(1_000)
    late = story.simulation.start(workflow(stage("a"), **one, start_time_expiry=now_ms + 5_000))
    behind = story.simulation.start(workflow(stage("a"), **one))
    story.simulation.pass_time(3_000)
    assert story.simulation.read(late).status.name == "BUFFERED"
    story.simulation.pass_time(3_000)

    assert story.simulation.read(late).status.name == "CANCELED"
    assert [lock.waiters[0][0].partition("/")[0] for lock in story.simulation.store.locks()] == [behind]


def test_a_workflow_whose_start_expires_after_its_scheduled_time_runs() -> None:
    story = Story()
    now_ms = story.simulation.now_us // 1000
    story.start(stage("a", scheduled_time=now_ms + 10_000), start_time_expiry=now_ms + 15_000).run()

    assert story.status == "SUCCEEDED"


def test_retention_leaves_nothing_behind() -> None:
    """After the retention every key of the workflow is gone."""
    crowd = stage("e", "d", mi_config=MultiInstanceConfig(count=3, join_threshold=2))
    stages = stage("a"), stage("b", "a", mutex_key="k"), stage("c", "a"), stage("d", "b", "c"), crowd
    story = Story().start(*stages).run()
    day_ms = 24 * 3600 * 1000

    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 8 * day_ms)

    left = [key for key in story.simulation.store._wire.scan("*") if story.id.encode() in key]
    assert left == []


def test_a_retryable_task_times_out_over_all_its_attempts() -> None:
    """get_timeout bounds the task as a whole, polls included."""

    class Patient(RetryableTask):
        def execute(self, stage: StageExecution) -> TaskResult:
            return TaskResult.running()

        def get_timeout(self) -> timedelta:
            return timedelta(seconds=30)

        def get_backoff_period(self, stage: StageExecution, duration: timedelta) -> timedelta:
            return timedelta(seconds=5)

    story = Story(patient=Patient).start(stage("a", does="patient")).run()

    assert story.status == "TERMINAL"
    assert story.events("stage.timed_out") == ["a"]
