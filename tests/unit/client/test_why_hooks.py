"""What `why` says while a task's hooks are asked or owed: `on_timeout`, `on_cancel`, verification, finalizers."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.client import Reason, WorkflowHandle
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.cancellation import current_cancellation_token
from stabilize_celery.tasks.task import Task, Wait
from stabilize_celery.tasks.verification import VerifyResult
from tests.unit.client.world import World, gate, stage, workflow

Body = Callable[[StageExecution], TaskResult]


class Hooked(Task):
    """A task with both hooks, which only look at what `why` says of them."""

    def __init__(self, body: Body, look: Callable[[], None] = lambda: None) -> None:
        self.body, self.look = body, look

    def execute(self, found: StageExecution) -> TaskResult:
        return self.body(found)

    def waits_for(self, found: StageExecution) -> Wait:
        return Wait("go", found.context.get("deadline_ms"))

    def on_timeout(self, found: StageExecution) -> TaskResult | None:
        self.look()
        return TaskResult.success()

    def on_cancel(self, found: StageExecution) -> TaskResult | None:
        self.look()
        return None


def polling(_found: StageExecution) -> TaskResult:
    return TaskResult.running()


def plain(reason: Reason) -> tuple[str, str, str]:
    """Times of day differ with the reader's time zone."""
    text, detail = (re.sub(r"\d\d:\d\d:\d\d", "T", words) for words in (reason.text, reason.detail))
    return reason.kind, text, detail


def only(handle: WorkflowHandle, ref_id: str = "a") -> tuple[str, str, str]:
    (reason,) = [reason for reason in handle.why() if reason.ref_id == ref_id]
    return plain(reason)


def until(there: World, handle: WorkflowHandle, words: str) -> tuple[str, str, str]:
    """Let the fleet go on until a reason says this."""
    for _ in range(2_000):
        for reason in handle.why():
            if words in reason.text:
                return plain(reason)
        there.fleet.step()
    raise AssertionError(handle.why())


OVER = "Its time is over: the stage timed out after "


def test_an_on_timeout_that_is_owed():
    """Between two polls the time ran out: it is in a queue, and what happens if nobody answers is said."""
    there = World(job=Hooked(polling))
    there.announce("job")
    handle = there.start(stage("a", does="job", context={"stageTimeoutMs": 3_000}))

    kind, text, detail = until(there, handle, "on_timeout")

    assert (kind, text.partition(" is ")[0]) == ("queued", "the on_timeout of task job")
    assert re.match(rf"{OVER}[\d.]+ s; without an answer by T it fails\. 1 worker on that queue", detail)


def test_an_on_timeout_that_is_asked():
    """A worker executes it now."""
    found: list[tuple[str, str, str]] = []
    there = World(job=Hooked(polling, lambda: found.append(only(handle))))
    there.fleet.runtime.worker_id = "simulated:1"
    there.announce("job")
    handle = there.start(stage("a", does="job", context={"stageTimeoutMs": 3_000}))
    there.settle(10)

    (kind, text, detail), *_ = found

    assert (kind, text) == ("running", "the on_timeout of task job runs on simulated")
    assert detail.startswith(OVER)


def test_an_on_timeout_that_nobody_here_can_be_asked():
    """No worker knows the type any more: the time that is left for an answer is said."""
    there = World(job=Hooked(polling))
    there.announce("other")
    handle = there.start(stage("a", does="job", context={"stageTimeoutMs": 3_000}))

    kind, _, detail = until(there, handle, "no running worker knows the task type 'job'")
    while "Its time is over" not in detail:
        there.fleet.step()
        kind, _, detail = only(handle)

    assert kind == "unknown_task"
    assert "without an answer by T it fails" in detail


def test_an_on_timeout_that_waits_for_the_code_to_return():
    """Under a mutex the code of the task comes first, and `why` says that it is that which is waited for."""
    found: list[tuple[str, str, str]] = []

    def slow(_found: StageExecution) -> TaskResult:
        if not found:
            there.fleet.meanwhile(5_000)
            found.append(only(handle))
        return TaskResult.running()

    there = World(job=Hooked(slow, lambda: found.append(only(handle))))
    there.fleet.runtime.worker_id = "simulated:1"
    there.announce("job")
    handle = there.client.start(workflow(stage("a", does="job", mutex_key="dock", context={"stageTimeoutMs": 3_000})))
    there.settle(30)

    waits, asked, *_ = found
    assert waits[:2] == (
        "time_over",
        "the on_timeout of task job is asked when the task's code on simulated has returned: it runs under a mutex",
    )
    assert asked[:2] == ("running", "the on_timeout of task job runs on simulated")


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({}, "it ends TERMINAL"),
        ({"failPipeline": False}, "it ends STOPPED"),
        ({"continuePipelineOnFailure": True}, "it ends FAILED_CONTINUE"),
    ],
)
def test_what_becomes_of_a_wait_that_nobody_ends(context: dict[str, Any], words: str):
    """The stage's own settings say how it fails."""
    handle = World().start(gate("a", context={"deadline_s": 3600, **context}))

    assert only(handle)[2] == f"Nobody has sent it; {words} if nobody does"


def test_a_wait_with_an_on_timeout():
    there = World(job=Hooked(lambda _: TaskResult.suspend()))
    handle = there.start(stage("a", does="job", context={"deadline_ms": 60_000}))

    assert only(handle)[2] == "Nobody has sent it; its on_timeout is asked if nobody does"


def test_an_on_cancel_that_is_owed():
    """A stage was cancelled between two polls: that its code is still to be told is no secret, also after the end."""
    there = World(job=Hooked(polling))
    there.announce("job")
    handle = there.start(stage("a", does="job"), gate("beside"))
    handle.cancel_stage("a")

    kind, text, _ = only(handle)
    assert (kind, text.partition(" is ")[0]) == ("hook", "was cancelled; the on_cancel of task job")
    handle.cancel()
    assert only(handle)[0] == "hook"
    there.settle(40)
    assert [reason.ref_id for reason in handle.why()] == [""]


def test_an_on_cancel_beside_the_code():
    """The process that executes the body is told first; another one would come after half a minute."""
    found: list[tuple[str, str, str]] = []

    def slow(_found: StageExecution) -> TaskResult:
        handle.cancel_stage("a")
        found.append(only(handle))
        assert current_cancellation_token() is not None
        return TaskResult.success()

    there = World(job=Hooked(slow))
    handle = there.client.start(workflow(stage("a", does="job"), gate("beside")))
    there.settle(60)

    (owed,) = found
    assert owed[:2] == (
        "hook",
        "was cancelled; the on_cancel of task job is called by the process that executes it, or by another one in 30 s",
    )
    assert [reason.ref_id for reason in handle.why()] == ["beside"]


def test_an_on_cancel_of_an_instance():
    """By its index."""
    there = World(job=Hooked(polling))
    handle = there.start(stage("a", does="job", mi_config=MultiInstanceConfig(count=2)), gate("beside"))
    handle.cancel_stage("a")

    told = [reason.text for reason in handle.why() if reason.ref_id == "a"]

    assert [text.partition(" is ")[0] for text in told] == [
        "instance 0 was cancelled; the on_cancel of task job",
        "instance 1 was cancelled; the on_cancel of task job",
    ]


def test_a_verification_that_is_made_again():
    """The work is done and is not repeated: what comes is the next check."""
    there = World()
    there.fleet.registry.verifiers.register("check", lambda _: VerifyResult.retry("not yet"))
    verification = {"callable": "check", "max_retries": 3, "retry_delay_seconds": 600}
    handle = there.start(stage("a", context={"verification": verification}))

    told = "task work has succeeded; its outputs did not pass 1 check so far, and are checked again at T (in 10:00 min)"
    assert only(handle) == ("verification", told, "")


def test_a_verification_that_runs():
    found: list[tuple[str, str, str]] = []

    def check(_found: StageExecution) -> VerifyResult:
        found.append(only(handle))
        return VerifyResult.retry("not yet")

    there = World()
    there.fleet.runtime.worker_id = "simulated:1"
    there.announce("work")
    there.fleet.registry.verifiers.register("check", check)
    handle = there.client.start(workflow(stage("a", context={"verification": "check"})))
    there.settle(1.5)

    body, second, *_ = found
    assert body[1].startswith("task work runs on simulated")
    assert second == (
        "running",
        "the verification of task work runs on simulated",
        "The task itself has succeeded; its outputs did not pass 1 check so far",
    )


def test_finalizers_that_are_owed():
    """The stage has ended, its clean-up has not."""
    there = World()
    there.announce("work")
    ended = stage("a", finalizer_names=["tidy"])
    handle = there.client.start(workflow(ended, gate("beside")))

    _, text, _ = until(there, handle, "finalizers")

    assert text.startswith("has ended; the message for its finalizers is ")
