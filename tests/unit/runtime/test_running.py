"""A body at work in this process: it is asked to stop with the reason, and told of a cancellation once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
import pytest

from stabilize_celery.engine import outside
from stabilize_celery.engine.handlers import time_out
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Hash, workflow_slot
from stabilize_celery.errors import TaskTimeoutError, UnreachableError
from stabilize_celery.models.messages import MESSAGE_TYPES, Message
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.leases import Leases
from stabilize_celery.runtime.ports import Body, Claim, Outcome, Outgoing
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import MODES, Settings
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.tasks.cancellation import (
    CancellationToken,
    current_cancellation_token,
    raise_if_cancellation_requested,
)
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.tasks.task import Task
from tests.unit.runtime.world import START_MS, RecordingPublisher


class Job(Task):
    """Does in its body what the test says."""

    def __init__(self, body: Callable[[StageExecution], TaskResult | None]) -> None:
        self.body = body
        self.told = threading.Semaphore(0)
        self.tellings: list[tuple[str, str]] = []

    def execute(self, stage: StageExecution) -> TaskResult:
        return self.body(stage) or TaskResult.success({"late": True})

    def on_cancel(self, stage: StageExecution) -> None:
        self.tellings.append((stage.ref_id, threading.current_thread().name))
        self.told.release()


class Watcher:
    """A process whose body is watched by hand."""

    is_stopping = False

    def __init__(
        self,
        body: Callable[[Watcher], TaskResult | None],
        task: Callable[[Any], Any] = Job,
        *,
        pause_ms: Callable[[float], None] = lambda _: None,
        mode: str = "per_message",
        **options: Any,
    ) -> None:
        self.now_ms = START_MS
        self.store = MemoryStore(lambda: self.now_ms * 1000, partitions=2)
        self.publisher = RecordingPublisher()
        registry = TaskRegistry()
        self.job = task(lambda _: body(self))
        registry.register("job", self.job, options=TaskOptions(**options))
        self.settings = Settings(mode=mode)
        self.runtime = Runtime(
            self.store,
            registry,
            self.publisher,
            self.settings,
            "me",
            pause_ms=pause_ms,
            clock_us=lambda: self.now_ms * 1000,
        )
        self.runtime.runner = self
        self.body: Body | None = None
        self.claim: Claim | None = None
        self.token: CancellationToken | None = None

    def began(self, claim: Claim, body: Body) -> None:
        self.claim, self.body, self.token = claim, body, current_cancellation_token()

    def ended(self, claim: Claim) -> None:
        assert claim == self.claim

    def going_on(self, message: Message) -> AbstractContextManager[Outcome]:
        return nullcontext(Outcome())

    def run(self, **more: Any) -> Watcher:
        stage = StageExecution(ref_id="a", type="t", name="a", tasks=[TaskExecution.create("job", "job")], **more)
        self.id = self.runtime.submit(Workflow(application="tests", name="w", stages=[stage]))
        self.deliver_all()
        return self

    def deliver_all(self) -> None:
        while batch := self.publisher.take():
            for message in batch:
                self.deliver(message)

    def deliver(self, message: Outgoing) -> str:
        return self.runtime.handle(msgspec.convert(dict(message.kwargs), MESSAGE_TYPES[message.kind]))

    def ask(self, event: Callable[..., Any], *args: Any) -> None:
        assert self.runtime.ask(self.id, lambda: event(self.id, "event", *args)).took_effect

    def stop(self) -> str:
        """Look at the claim, as the process' watch does; return why the body was asked to stop."""
        assert self.body is not None
        assert self.token is not None
        self.body.stop()
        return str(self.token.reason)


@pytest.mark.parametrize("what", ["stage", "workflow"])
def test_a_cancelled_body_is_told_once_on_a_thread_of_its_own(what: str) -> None:
    """A whole workflow is cleared from here if nobody else has: the message may wait behind this very body."""
    why: list[str] = []

    def body(watcher: Watcher) -> None:
        event: tuple[Any, ...] = (outside.cancel_stage, "a") if what == "stage" else (outside.cancel, "enough", "ann")
        watcher.ask(*event)
        why.extend((watcher.stop(), watcher.stop()))
        assert watcher.job.told.acquire(timeout=10)

    watcher = Watcher(body).run()

    assert set(why) == {"cancelled: cancelled stage 'a' from outside" if what == "stage" else "cancelled: enough"}
    assert watcher.job.tellings == [("a", "stabilize-on-cancel")]
    assert watcher.runtime.read(watcher.id).stages[0].outputs == {}


@pytest.mark.parametrize("mode", MODES)
def test_a_body_that_returns_before_anybody_saw_that_it_was_cancelled_is_told_at_once(mode: str) -> None:
    """Here, where what it has begun lies; the message that owes it may get to another machine. Once all the same."""
    watcher = Watcher(lambda watcher: watcher.ask(outside.cancel_stage, "a"), mode=mode)
    work = [StageExecution(ref_id="a", type="t", name="a", tasks=[TaskExecution.create("job", "job")])]
    watcher.id = watcher.runtime.submit(Workflow(application="tests", name="w", stages=work))
    owed: list[Outgoing] = []
    while watcher.claim is None:
        owed += watcher.publisher.take()
        watcher.deliver(owed.pop(0))

    assert watcher.job.tellings == [("a", "MainThread")]
    watcher.deliver_all()
    assert len(watcher.job.tellings) == 1


def test_a_body_that_lost_its_claim_is_only_asked_to_stop() -> None:
    """Another worker has the task, and its result counts."""
    why: list[str] = []

    def body(watcher: Watcher) -> None:
        if why:
            return
        assert watcher.claim is not None
        leases = Leases(watcher.store, watcher.publisher, watcher.settings, "me")
        assert leases.report_lost(watcher.id, watcher.claim.name, watcher.claim.owner)
        why.append("")
        first, token = watcher.body, watcher.token
        watcher.deliver_all()
        watcher.body, watcher.token = first, token
        why[0] = watcher.stop()

    watcher = Watcher(body).run()

    assert why == ["claim lost: the task was given to another worker"]
    assert watcher.job.tellings == []
    assert watcher.runtime.read(watcher.id).status.name == "SUCCEEDED"


@pytest.mark.parametrize("how", ["cancelled", "raises"])
def test_what_a_body_says_that_was_asked_to_stop_ends_nothing(how: str) -> None:
    """Its claim was taken back, and nobody has begun anew yet: the stop was not what its task came to."""
    executions: list[str] = []

    def body(watcher: Watcher) -> TaskResult | None:
        executions.append("")
        if len(executions) > 1:
            return None
        assert watcher.claim is not None
        leases = Leases(watcher.store, watcher.publisher, watcher.settings, "me")
        assert leases.report_lost(watcher.id, watcher.claim.name, watcher.claim.owner)
        watcher.stop()
        if how == "raises":
            raise_if_cancellation_requested()
        return TaskResult.canceled()

    watcher = Watcher(body).run()

    assert len(executions) == 2
    assert watcher.runtime.read(watcher.id).status.name == "SUCCEEDED"


def test_a_body_whose_stage_timed_out_is_asked_to_stop() -> None:
    """With the reason; that is no cancellation."""
    why: list[str] = []

    def body(watcher: Watcher) -> None:
        watcher.now_ms += 6_000
        stored = watcher.store.first_due(range(2), 10)[1]
        (name,) = [entry.name for entries in stored.values() for entry in entries if entry.name.startswith("TO:")]
        slot = workflow_slot(watcher.id)
        entry = ENTRY.decode(watcher.store.look(slot, [Hash(ledger(name))]).hash(ledger(name)))
        timer = message_of(entry, watcher.id)
        assert timer is not None
        watcher.runtime.unit.run(slot, lambda n: time_out.handle(timer, watcher.runtime.attempts.rules, n), name)  # type: ignore[arg-type]
        why.append(watcher.stop())

    watcher = Watcher(body).run(context={"stageTimeoutMs": 5_000})

    assert why == ["timed out: the stage timed out after 6.0 s"]
    assert watcher.job.tellings == []
    assert watcher.runtime.read(watcher.id).status.name == "TERMINAL"


@pytest.mark.parametrize(("retry_on", "starts"), [((), 1), ((TaskTimeoutError,), 2)])
def test_an_execution_that_takes_too_long_fails_or_is_tried_again(retry_on: tuple[Any, ...], starts: int) -> None:
    """Its own process says so; what the body returns later does not count."""
    begun: list[int] = []

    def body(watcher: Watcher) -> None:
        begun.append(1)
        if len(begun) == 1:
            assert watcher.body is not None
            assert watcher.body.limit_s == 7.0
            assert watcher.body.take_too_long()
            assert watcher.token is not None
            assert watcher.token.reason == "timed out: one execution took longer than 7 s"
            assert watcher.body.take_too_long()

    watcher = Watcher(body, timeout_s=7.0, retry_on=retry_on, backoff_s=0.0).run()
    watcher.deliver_all()
    if retry_on:
        assert watcher.runtime.read(watcher.id).stages[0].outputs == {}
        run = next(m for m in _runs(watcher))
        watcher.deliver(run)
        watcher.deliver_all()

    assert len(begun) == starts
    assert watcher.runtime.read(watcher.id).status.name == ("SUCCEEDED" if retry_on else "TERMINAL")


def test_a_state_server_that_is_away_still_asks_the_body_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is owed stays owed."""
    why: list[str] = []

    def body(watcher: Watcher) -> None:
        def away(*_: Any) -> Any:
            raise UnreachableError("redis", "redis://nowhere", "start it")

        with monkeypatch.context() as patched:
            patched.setattr(watcher.store, "look", away)
            with pytest.raises(UnreachableError):
                watcher.stop()
        assert watcher.token is not None
        why.append(str(watcher.token.reason))

    Watcher(body).run()

    assert why == ["claim lost: its claim is gone"]


def test_code_that_cannot_be_made_fails_its_task() -> None:
    """A task class whose constructor raises is the task's failure, with its words; no dead letter."""

    class Broken(Task):
        def __init__(self) -> None:
            raise RuntimeError("no licence")

        def execute(self, stage: StageExecution) -> TaskResult:
            return TaskResult.success()

    watcher = Watcher(lambda _: None)
    watcher.runtime.registry.register("job", Broken)
    watcher.run()

    found = watcher.runtime.read(watcher.id)
    assert found.status.name == "TERMINAL"
    assert "no licence" in found.stages[0].tasks[0].task_exception_details["message"]


def _runs(watcher: Watcher) -> list[Outgoing]:
    """The RunTask of the workflow as the keeper would publish it."""
    stored = watcher.store.first_due(range(2), 10)[1]
    names = [entry.name for entries in stored.values() for entry in entries if entry.name.startswith("Run:")]
    thread = names[0].removeprefix("Run:").removesuffix("..0")
    kwargs = {"workflow_id": watcher.id, "ref_id": "a", "thread": thread, "task_index": 0, "task_type": "job"}
    return [Outgoing("RunTask", f"{watcher.id}/{names[0]}", kwargs, "q")]
