"""What goes over the broker, and what a broker that is away looks like."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

import pytest
import redis
from celery import Celery

from stabilize_celery.errors import QueueError
from stabilize_celery.models.messages import RunTask
from stabilize_celery.runtime.ports import Outgoing, outgoing
from stabilize_celery.transport.publish import CeleryPublisher
from tests.servers import free_port

MESSAGE = RunTask(workflow_id="01HW", ref_id="pay/now:1", thread="abc", task_index=0, task_type="charge")


def waiting(url: str, queue: str) -> list[dict[str, Any]]:
    with redis.Redis.from_url(url) as client:
        return [json.loads(item) for item in reversed(client.lrange(queue, 0, -1))]


def publisher(url: str, **conf: Any) -> CeleryPublisher:
    app = Celery("test", broker=url, set_as_current=False)
    app.conf.update(conf)
    return CeleryPublisher(app)


def test_a_message_reads_well_in_flower(redis_url: str) -> None:
    """Its id is workflow and ledger name; its kwargs show the workflow's id and the stage's ref_id, whole."""
    publisher(redis_url).publish([outgoing(MESSAGE, "stabilize.work")])

    (message,) = waiting(redis_url, "stabilize.work")
    headers = message["headers"]
    assert headers["task"] == "stabilize.RunTask"
    assert headers["id"] == "01HW/Run:abc..0"
    assert "'workflow_id': '01HW'" in headers["kwargsrepr"]
    assert "'ref_id': 'pay/now:1'" in headers["kwargsrepr"]
    assert headers["ignore_result"]


def test_only_ids_are_sent(redis_url: str) -> None:
    """The body is the message's own fields, and no more."""
    publisher(redis_url).publish([outgoing(MESSAGE, "stabilize.work")])

    (message,) = waiting(redis_url, "stabilize.work")
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert args == []
    assert kwargs == {
        "workflow_id": "01HW",
        "ref_id": "pay/now:1",
        "thread": "abc",
        "task_index": 0,
        "task_type": "charge",
    }


def test_a_batch_arrives_whole_and_in_order(redis_url: str) -> None:
    """Each in its own queue, also where the app creates no queues by itself."""
    batch = [
        Outgoing("Probe", f"probe/{n}", {"queue": "q", "sent_ms": n}, "even" if n % 2 == 0 else "odd")
        for n in range(1_200)
    ]
    publisher(redis_url, task_create_missing_queues=False, task_queues={"x": {}}).publish(batch)

    for queue, first in (("even", 0), ("odd", 1)):
        ids = [message["headers"]["id"] for message in waiting(redis_url, queue)]
        assert ids == [f"probe/{n}" for n in range(first, 1_200, 2)]


def test_an_apps_routes_do_not_take_our_messages_away(redis_url: str) -> None:
    """A catch-all route of the app is for the app's own tasks."""
    publisher(redis_url, task_routes={"*": {"queue": "elsewhere"}}).publish([outgoing(MESSAGE, "stabilize.work")])
    assert len(waiting(redis_url, "stabilize.work")) == 1


def test_nothing_to_publish_needs_no_broker() -> None:
    """An empty batch does not connect."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        soon = {"socket_timeout": 1, "socket_connect_timeout": 1}
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        publisher(url, broker_transport_options=soon).publish([])

        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("count", [1, 3])
def test_a_broker_that_is_away_is_one_error(count: int) -> None:
    """Soon, with the broker's URL but not its password."""
    broker = publisher(f"redis://:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(QueueError, match=r"127\.0\.0\.1") as caught:
        broker.publish([outgoing(MESSAGE, "stabilize.work")] * count)
    assert "secret" not in str(caught.value)


def test_it_goes_on_when_the_broker_is_back(redis_url: str) -> None:
    """The pooled connection is made anew."""
    broker = publisher(redis_url)
    broker.publish([outgoing(MESSAGE, "stabilize.work")])
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)

    broker.publish([outgoing(MESSAGE, "stabilize.work")])

    assert len(waiting(redis_url, "stabilize.work")) == 2
