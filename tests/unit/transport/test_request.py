"""What a worker's main process tells of a delivery whose process goes on with other messages."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.exceptions import WorkerLostError
from celery.worker import state

from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.consumed_queues import ConsumedQueues
from stabilize_celery.transport.reports import Report
from stabilize_celery.transport.request import AttemptRequest, LedgerRequest, SubmitRequest
from stabilize_celery.transport.running_attempts import running_attempts
from stabilize_celery.transport.turns import Delivered, Turns
from stabilize_celery.transport.waiting import Waiting
from stabilize_celery.transport.worker_steps import worker_step

TASK_ID = "wf/Start:a"
PID = 123
DONE = Delivered(TASK_ID, "'applied'", 0.25, PID)


class World:
    """A worker's main process with one delivery."""

    def __init__(self) -> None:
        self.app = Celery("test", broker="memory://", set_as_current=False)
        self.stabilize = Stabilize(self.app, redis_url="redis://127.0.0.1:1/0")
        self.events: list[tuple[str, str]] = []
        self.acknowledged: list[str] = []
        self.stabilize.waiting = Waiting(ConsumedQueues(()))
        self.step: Any = worker_step(self.stabilize).__new__(worker_step(self.stabilize))
        self.request: AttemptRequest = self.delivered()

    def delivered(
        self, kind: type[LedgerRequest] = AttemptRequest, name: str = "stabilize.StartStage", **kwargs: Any
    ) -> Any:
        """Return a delivery of the message, which may be one of several."""
        request = kind(
            self._message(name, kwargs or {"workflow_id": "wf"}),
            app=self.app,
            task=self.app.tasks[name],
            hostname="worker@here",
            eventer=SimpleNamespace(enabled=True, send=lambda kind, uuid, **_: self.events.append((kind, uuid))),
            on_ack=lambda *_: self.acknowledged.append(TASK_ID),
        )
        state.task_reserved(request)
        return request

    def tell(self, pid: int = PID) -> None:
        """A child tells that its delivery is done."""
        assert self.stabilize.waiting is not None
        self.stabilize.waiting.tell(Delivered(TASK_ID, "'applied'", 0.25, pid))
        self.step._on_delivered()

    def _message(self, name: str, kwargs: dict[str, Any]) -> Any:
        told = self.app.amqp.as_task_v2(TASK_ID, name, (), kwargs)
        return SimpleNamespace(
            headers=told.headers,
            properties=told.properties,
            body=told.body,
            payload=told.body,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info={},
        )


@pytest.fixture(name="world")
def made_world() -> Any:
    """One delivery, forgotten afterwards."""
    yield World()
    state.reset_state()


def test_it_is_told_as_done_at_once_and_acknowledged_at_the_end_of_the_turn(world: World) -> None:
    """Until then Celery fetches no other message for its process, and a cold shutdown ends that."""
    world.request.on_accepted(PID, 0.0)

    world.request.delivery_is_done(DONE)

    assert world.events == [("task-started", TASK_ID), ("task-succeeded", TASK_ID)]
    assert world.request in state.active_requests
    assert running_attempts() == []
    assert world.acknowledged == []
    world.request.on_success((0, "'applied'", 3.0))
    assert world.acknowledged == [TASK_ID]
    assert len(world.events) == 2


def test_it_may_be_told_as_done_before_it_is_known_to_have_begun(world: World) -> None:
    """Two pipes: what comes first through one may be read after what comes later through the other."""
    world.tell()
    assert world.events == []

    world.request.on_accepted(PID, 0.0)

    assert world.events == [("task-started", TASK_ID), ("task-succeeded", TASK_ID)]
    assert running_attempts() == []


def test_of_two_deliveries_of_one_message_the_one_is_done_that_was_told_of(world: World) -> None:
    """An attempt that has lost its lease comes back while the one in its place runs: that keeps its own."""
    again = world.delivered()
    world.request.on_accepted(PID, 0.0)
    again.on_accepted(PID + 1, 0.0)

    world.tell(PID)
    assert (world.request.is_done, again.is_done) == (True, False)
    world.request.on_success((0, "'applied'", 3.0))
    world.tell(PID + 1)
    assert again.is_done


def test_what_was_told_early_is_of_the_delivery_to_that_process(world: World) -> None:
    """The process may get the message a second time: that delivery runs."""
    again = world.delivered()
    world.tell(PID)
    again.on_accepted(PID + 1, 0.0)
    assert not again.is_done

    world.request.on_accepted(PID, 0.0)
    third = world.delivered()
    third.on_accepted(PID, 0.0)

    assert (world.request.is_done, third.is_done) == (True, False)


def test_inspect_tells_what_its_process_is_at(world: World) -> None:
    """A message that takes long is seen, whoever took it."""
    world.stabilize.turns = Turns()
    world.request.on_accepted(os.getpid(), 0.0)
    assert world.request.info()["id"] == TASK_ID
    world.request.delivery_is_done(DONE)

    with world.stabilize.turns.going_on("wf/Run:b..0", "charge", "RunTask"):
        told = world.request.info()

    assert (told["id"], told["name"]) == ("wf/Run:b..0", "stabilize.RunTask")
    assert told["time_start"] > 0


def test_revoking_what_is_done_ends_nothing_else(world: World) -> None:
    """Its process is busy with another message by then."""
    world.request.on_accepted(PID, 0.0)
    world.request.delivery_is_done(DONE)
    pool = SimpleNamespace(terminate_job=lambda *_: pytest.fail("it was ended"))

    world.request.terminate(pool, signal="KILL")

    assert world.request in state.active_requests


def test_it_has_not_failed_when_its_process_dies_later_in_the_turn(world: World) -> None:
    """What is lost is what the process went on with: that it died is reported."""
    world.request.on_accepted(PID, 0.0)
    world.request.delivery_is_done(DONE)

    try:
        raise WorkerLostError("signal 9")
    except WorkerLostError:
        world.request.on_failure(ExceptionInfo())

    assert [kind for kind, _ in world.events] == ["task-started", "task-succeeded"]
    assert world.acknowledged == [TASK_ID]
    assert world.stabilize.reports.waiting() == (Report(TASK_ID, 123, is_lost=True, died="signal 9"),)


def test_what_its_process_went_on_with_is_seen_before_that_is_stopped(world: World) -> None:
    """Stopping it makes it forget: at a cold shutdown that is handed back, too."""
    world.stabilize.turns = Turns()
    world.request.on_accepted(os.getpid(), 0.0)
    world.request.delivery_is_done(DONE)

    with world.stabilize.turns.going_on("wf/Run:b..0", "charge", "RunTask"):
        world.request.cancel(SimpleNamespace(terminate_job=lambda *_: None), emit_retry=False)

    assert world.stabilize.reports.waiting() == (Report(TASK_ID, os.getpid(), is_lost=False, going=("wf/Run:b..0",)),)


@pytest.mark.parametrize("soft", [True, False])
def test_only_a_time_limit_that_ends_the_process_loses_the_attempt(world: World, soft: bool) -> None:
    """At a soft limit the body is told, and goes on: another worker must not begin beside it."""
    world.request.on_accepted(PID, 0.0)

    world.request.on_timeout(soft, 5)

    told = () if soft else (Report(TASK_ID, PID, is_lost=True, died="Celery's time limit of 5 s ended it"),)
    assert world.stabilize.reports.waiting() == told


@pytest.mark.parametrize("safe", [True, False])
def test_nobody_who_looks_at_a_worker_sees_what_was_submitted(world: World, safe: bool) -> None:
    """Neither in events nor where `inspect` asks for all: a definition may hold secrets."""
    definition = {"application": "shop", "name": "order", "stages": [{"context": {"password": "4711-0815"}}]}
    request = world.delivered(SubmitRequest, "stabilize.SubmitWorkflow", definition=definition, idempotency_key="k")

    told = str(request.info(safe=safe))

    assert "4711-0815" not in told
    assert "application=shop name=order stages=1 idempotency_key=k" in told
