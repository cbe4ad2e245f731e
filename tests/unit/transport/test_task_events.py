"""What was not delivered is told like a delivery: to who asks for events, together, from a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from billiard import get_context
from celery import Celery

from stabilize_celery.models.messages import RunTask
from stabilize_celery.transport import task_events
from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.surroundings import Surroundings
from stabilize_celery.transport.task_events import TaskEvents

RUN = RunTask(workflow_id="w", ref_id="a", thread="t", task_index=0, task_type="charge")
RUN_ID = "w/Run:t..0"
SOON_S = 30.0


def app_with_tasks(broker: str) -> Celery:
    """An app whose tasks are ours."""
    app = Celery("test", broker=broker, set_as_current=False)
    Stabilize(app, redis_url="redis://127.0.0.1:1/0")
    return app


class Heard:
    """The events of an app, and how many messages of the broker they were in."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self.messages: list[list[dict[str, Any]]] = []

    def take(self, body: Any, _: Any) -> None:
        self.messages.append(body if isinstance(body, list) else [body])

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for message in self.messages for event in message]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        while len(self.events) < count:
            self._own.drain_events(timeout=SOON_S)
        return self.events


@contextmanager
def listening(app: Celery) -> Iterator[Heard]:
    """Hear what an app tells, inside."""
    with app.connection() as connection:
        receiver = app.events.Receiver(connection)
        heard = Heard(connection)
        with receiver.consumer_context() as (own, _, consumers):
            consumers[0].callbacks[:] = [heard.take]
            heard._own = own
            with suppress(TimeoutError):
                own.drain_events(timeout=0.2)  # subscribes
            yield heard


def _in_child(act: Callable[[], None]) -> None:
    child = get_context("fork").Process(target=act)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def _raise() -> None:
    raise ValueError("broken")


@pytest.mark.parametrize("run", [_in_child, lambda act: act()], ids=["child", "main"])
@pytest.mark.parametrize(("act", "end"), [(lambda: None, "task-succeeded"), (_raise, "task-failed")])
def test_it_is_seen_like_a_delivery(
    redis_url: str, run: Callable[[Callable[[], None]], None], act: Callable[[], None], end: str
) -> None:
    """Received, started, and how it ended, under its own id: what Flower shows. Nothing where nobody asks for events."""
    surroundings = Surroundings(app := app_with_tasks(redis_url), "worker@here")

    def handle() -> None:
        with suppress(ValueError), surroundings.around(RUN, RUN_ID) as outcome:
            act()
            outcome.note = "SUCCEEDED"
        surroundings.events.send_now()

    with listening(app) as heard:
        run(handle)
        # Set by the main process after the fork, too.
        surroundings.events.are_wanted = True
        run(handle)
        seen = heard.wait_for(3)

    assert [(one["type"], one["uuid"]) for one in seen] == [
        (kind, RUN_ID) for kind in ("task-received", "task-started", end)
    ]
    assert [one["hostname"] for one in seen] == ["worker@here"] * 3
    assert seen[2].get("result", "'SUCCEEDED'") == "'SUCCEEDED'"
    assert seen[2].get("exception", "ValueError('broken')") == "ValueError('broken')"


def test_what_takes_long_is_seen_while_it_runs(redis_url: str) -> None:
    """Nobody has to ask for it to be sent; its time is that of its beginning."""
    events = TaskEvents(app := app_with_tasks(redis_url), "worker@here")

    with listening(app) as heard:
        before = time.time()
        events.begun(RUN_ID, "stabilize.RunTask", {"ref_id": "a"})
        after = time.time()
        received, started = heard.wait_for(2)

    assert (received["type"], started["type"]) == ("task-received", "task-started")
    assert (received["name"], received["kwargs"]) == ("stabilize.RunTask", "{'ref_id': 'a'}")
    assert before <= received["timestamp"] <= started["timestamp"] <= after


def test_what_happens_within_a_moment_is_one_message(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, and no more at once than a reader bears."""
    monkeypatch.setattr(task_events, "_TOGETHER_S", SOON_S)
    monkeypatch.setattr(task_events, "_MOST", 300)
    events = TaskEvents(app := app_with_tasks(redis_url), "worker@here")

    with listening(app) as heard:
        for number in range(200):
            events.begun(f"w/{number}", "stabilize.RunTask", {})
            events.succeeded(f"w/{number}", "'SUCCEEDED'", 0.1)
        events.send_now()
        seen = heard.wait_for(600)

    assert [len(message) for message in heard.messages] == [300, 300]
    assert [one["uuid"] for one in seen[::3]] == [f"w/{number}" for number in range(200)]
    assert [one["clock"] for one in seen] == sorted(one["clock"] for one in seen)


def test_what_can_not_be_told_is_said_once_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """A broker that is away costs those who watch their view, and nobody else anything."""
    app = app_with_tasks("redis://127.0.0.1:1/0")
    app.conf.broker_transport_options = {"max_retries": 0}
    events = TaskEvents(app, "worker@here")
    events.begun(RUN_ID, "stabilize.RunTask", {})

    events.send_now()
    events.send_now()

    assert caplog.text.count("events of tasks could not be sent") == 1
