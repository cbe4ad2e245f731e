"""What a process goes on with is known to the worker's main process, and lost with its process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import pytest
from billiard import get_context
from celery import Celery

from stabilize_celery.models.messages import RunTask
from stabilize_celery.transport.turns import TaskEvents, Turns


def _go_on(turns: Turns, has_begun: object, may_end: object) -> None:
    with turns.going_on("wf/Run:a..0", "charge", "RunTask"):
        has_begun.set()  # type: ignore[attr-defined]
        may_end.wait(60)  # type: ignore[attr-defined]


def test_the_main_process_sees_what_a_child_goes_on_with() -> None:
    """For as long as it does, and until it is reported lost."""
    context, turns = get_context("fork"), Turns()
    has_begun, may_end = context.Event(), context.Event()
    child = context.Process(target=_go_on, args=(turns, has_begun, may_end))
    child.index = 3
    child.start()
    try:
        assert has_begun.wait(60)
        (seen,) = turns.all()
        assert (seen.task_id, seen.task_type, seen.pid) == ("wf/Run:a..0", "charge", child.pid)
        assert turns.lost(os.getpid()) == []
        assert turns.lost(child.pid) == [seen]
        assert turns.all() == []
    finally:
        may_end.set()
        child.join(60)


def test_it_is_forgotten_when_the_task_has_ended() -> None:
    """Threads of the main process are seen, too: not every pool forks."""
    turns = Turns()

    with turns.going_on("wf/Run:a..0", "charge", "RunTask"):
        assert [one.task_id for one in turns.all()] == ["wf/Run:a..0"]

    assert turns.all() == []


def test_one_may_begin_inside_another() -> None:
    """The first has ended by then: only the newest is at work."""
    turns = Turns()

    with turns.going_on("wf/Run:a..0", "charge", "RunTask"), turns.going_on("wf/Run:b..0", "charge", "RunTask"):
        assert [one.task_id for one in turns.all()] == ["wf/Run:b..0"]

    assert turns.all() == []


def test_what_can_not_be_told_does_not_stop_the_work() -> None:
    """A broker that is away costs those who watch their view, and nobody else anything."""
    app = Celery("test", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.broker_transport_options = {"max_retries": 0}
    message = RunTask(workflow_id="w", ref_id="a", thread="t", task_index=0, task_type="charge")

    with TaskEvents(app, "worker@here").around(message):
        done = True

    assert done


def _in_child(act: Callable[[], None]) -> None:
    child = get_context("fork").Process(target=act)
    child.start()
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.parametrize("run", [_in_child, lambda act: act()], ids=["child", "main"])
def test_a_task_that_is_gone_on_with_is_seen_like_a_delivery(
    redis_url: str, run: Callable[[Callable[[], None]], None]
) -> None:
    """Received, started, succeeded, under its own id: what Flower shows."""
    app = Celery("test", broker=redis_url, set_as_current=False)
    message = RunTask(workflow_id="w", ref_id="a", thread="t", task_index=0, task_type="charge")
    seen: list[tuple[str, str]] = []

    with app.connection() as connection:
        receiver = app.events.Receiver(
            connection, handlers={"*": lambda event: seen.append((event["type"], event["uuid"]))}
        )
        with receiver.consumer_context() as (own, _, _):
            with suppress(TimeoutError):
                own.drain_events(timeout=0.2)  # subscribes
            events = TaskEvents(app, "worker@here")

            def handle() -> None:
                with events.around(message):
                    pass

            run(handle)
            while len(seen) < 3:
                own.drain_events(timeout=30)

    assert seen == [(kind, "w/Run:t..0") for kind in ("task-received", "task-started", "task-succeeded")]
