"""Where children of a Celery worker may wait for messages themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency import prefork, solo, thread

from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.pools import may_take, may_wait, prefetched_per_process, telling_queues


@pytest.fixture(name="app")
def made_app() -> Celery:
    """An app with our tasks."""
    app = Celery("test", broker="memory://", set_as_current=False)
    Stabilize(app, redis_url="redis://127.0.0.1:1/0")
    return app


def worker(**fields: Any) -> SimpleNamespace:
    """A worker as Celery makes it by default, with these fields."""
    usual = {
        "pool_cls": prefork.TaskPool,
        "use_eventloop": True,
        "time_limit": None,
        "soft_time_limit": None,
        "max_tasks_per_child": None,
        "max_concurrency": None,
    }
    return SimpleNamespace(**{**usual, **fields})


def test_children_of_a_prefork_pool_may_wait(app: Celery) -> None:
    """The main process goes on meanwhile."""
    assert may_wait(worker(), app)


@pytest.mark.parametrize(
    "fields",
    [
        {"pool_cls": solo.TaskPool},
        {"pool_cls": thread.TaskPool},
        {"use_eventloop": False},
        {"time_limit": 60},
        {"soft_time_limit": 60},
        {"max_tasks_per_child": 100},
        {"max_concurrency": 10},
    ],
)
def test_not_where_celery_counts_or_clocks_deliveries(app: Celery, fields: dict[str, Any]) -> None:
    """To it a turn is one; and other pools have no children."""
    assert not may_wait(worker(**fields), app)


@pytest.mark.parametrize(("most", "may"), [(None, True), (0, True), (1, False), (100, False)])
def test_nothing_is_taken_where_celery_replaces_children_after_so_many_tasks(most: int | None, may: bool) -> None:
    """A body may need a process in which no other one has run."""
    assert may_take(worker(max_tasks_per_child=most)) is may


@pytest.mark.parametrize("limit", ["time_limit", "soft_time_limit"])
def test_not_where_our_tasks_have_a_limit_of_celery(app: Celery, limit: str) -> None:
    """An annotation may give them one."""
    setattr(app.tasks["stabilize.RunTask"], limit, 30)

    assert not may_wait(worker(), app)


class _Consumer:
    """What is changed of a Celery consumer."""

    def __init__(self, queues: list[str]) -> None:
        self.app = SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=queues)))

    def add_task_queue(self, queue: str, **_: Any) -> None:
        self.app.amqp.queues.consume_from.append(queue)

    def cancel_task_queue(self, queue: str) -> None:
        self.app.amqp.queues.consume_from.remove(queue)


def test_each_change_of_what_is_consumed_is_told() -> None:
    """After it was made."""
    told: list[list[str]] = []
    consumer = telling_queues(_Consumer, lambda queues: told.append(list(queues)))(["a"])

    consumer.add_task_queue("b", exchange="b")
    consumer.cancel_task_queue("a")

    assert told == [["a", "b"], ["b"]]


@pytest.mark.parametrize(
    ("chosen", "has_loop", "waits", "fetched"),
    [
        (4, True, False, 1),
        (4, False, False, 4),
        (10, True, False, 10),
        (10, False, False, 10),
        (0, True, False, 0),
        (4, True, True, 1),
        (10, True, True, 1),
    ],
)
def test_how_much_a_worker_fetches(chosen: int, has_loop: bool, waits: bool, fetched: int) -> None:
    """No more than its processes can do, unless it was told, or would sleep once it has that much (gevent)."""
    made = worker(prefetch_multiplier=chosen, use_eventloop=has_loop)

    assert prefetched_per_process(made, waits=waits) == fetched
