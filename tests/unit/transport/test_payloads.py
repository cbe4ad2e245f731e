"""Messages made without Celery are those that Celery makes; and they can be part of a commit."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis
from celery import Celery
from celery.signals import before_task_publish
from kombu.entity import Queue

from stabilize_celery.engine.steps import Hash, SetFields, workflow_slot
from stabilize_celery.errors import QueueError
from stabilize_celery.models.messages import RunTask, StartStage
from stabilize_celery.runtime.lanes import lane_of
from stabilize_celery.runtime.ports import outgoing
from stabilize_celery.store.contract import Transaction
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.transport.payloads import Payloads, readable
from stabilize_celery.transport.publish import CeleryPublisher

QUEUE = "stabilize.work"
AWKWARD = RunTask(
    workflow_id="01HW", ref_id='späte "Zahlung"\\1', thread="abc", task_index=0, task_type="stabilize.id", instance=3
)
PLAIN = StartStage(workflow_id="01HW", ref_id="a", thread="abc")
VARIES = {"delivery_tag", "reply_to"}


def app(url: str, **conf: Any) -> Celery:
    made = Celery("test", broker=url, set_as_current=False)
    made.conf.update(conf)
    return made


def waiting(url: str, queue: str = QUEUE) -> list[dict[str, Any]]:
    with redis.Redis.from_url(url) as client:
        return [json.loads(item) for item in reversed(client.lrange(queue, 0, -1))]


def essence(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what is drawn at random, its body decoded."""
    properties = {name: value for name, value in message["properties"].items() if name not in VARIES}
    return {**message, "properties": properties, "body": json.loads(base64.b64decode(message["body"]))}


@pytest.mark.parametrize("message", [PLAIN, AWKWARD], ids=["plain", "awkward"])
@pytest.mark.parametrize("conf", [{}, {"task_default_priority": None, "task_default_exchange": "x"}])
@pytest.mark.parametrize("priority", [0, 4, 9])
def test_a_message_is_the_one_that_celery_makes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, message: RunTask | StartStage, conf: dict[str, Any], priority: int
) -> None:
    """Header by header, property by property, and on the same list; but for what is drawn at random for each."""
    publisher, lane = CeleryPublisher(app(redis_url, **conf)), lane_of(QUEUE, priority)
    publisher.publish([outgoing(message, lane)])
    with monkeypatch.context() as patched:
        patched.setattr(Payloads, "is_fit", lambda _: False)
        publisher.publish([outgoing(message, lane)])

    ours, celerys = waiting(redis_url, lane)
    assert essence(ours) == essence(celerys)
    assert ours["properties"]["delivery_tag"] != celerys["properties"]["delivery_tag"]


@pytest.mark.parametrize("conf", [{"task_send_sent_event": True}, {"task_compression": "gzip"}, {"task_protocol": 1}])
def test_what_is_not_plain_goes_through_celery(redis_url: str, conf: dict[str, Any]) -> None:
    """Whatever the app wants of messages, it gets."""
    publisher = CeleryPublisher(app(redis_url, **conf), redis_url)

    assert publisher.riding([outgoing(PLAIN, QUEUE)]) is None
    publisher.publish([outgoing(PLAIN, QUEUE)])
    assert len(waiting(redis_url)) == 1


def test_who_listens_to_messages_being_sent_hears_of_them(redis_url: str) -> None:
    """Tracing of Celery works by this signal."""
    seen: list[str] = []

    def note(sender: str, **_: Any) -> None:
        seen.append(sender)

    before_task_publish.connect(note)
    try:
        CeleryPublisher(app(redis_url)).publish([outgoing(PLAIN, QUEUE)])
    finally:
        before_task_publish.disconnect(note)

    assert seen == ["stabilize.StartStage"]


@pytest.mark.parametrize("option", [{"priority_steps": [0, 5]}, {"sep": ":"}, {"global_keyprefix": "x"}])
def test_lists_with_names_of_their_own_are_left_to_kombu(redis_url: str, option: dict[str, Any]) -> None:
    """It knows how an app's broker calls them."""
    publisher = CeleryPublisher(app(redis_url, broker_transport_options=option), redis_url)

    assert publisher.riding([outgoing(PLAIN, lane_of(QUEUE, 9))]) is None


@pytest.mark.parametrize("options", [{"max_priority": 5}, {"expires": 60.0}, {"routing_key": "other"}])
def test_a_queue_with_rules_of_its_own_is_left_to_kombu(redis_url: str, options: dict[str, Any]) -> None:
    """A list of its name might not be what is consumed."""
    queue = Queue(QUEUE, **options)  # type: ignore[no-untyped-call]
    publisher = CeleryPublisher(app(redis_url, task_queues=[queue]), redis_url)

    assert publisher.riding([outgoing(PLAIN, QUEUE)]) is None


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    made = RedisStore(f"{redis_url.rsplit('/', 1)[0]}/1")
    yield made
    made.close()


def test_a_commit_sends_what_follows_from_it(redis_url: str, store: RedisStore) -> None:
    """In one EXEC, though broker and state are different databases; and the connection finds its own again."""
    base = redis_url.rsplit("/", 1)[0]
    publisher = CeleryPublisher(app(f"{base}/0"), f"{base}/1")
    publisher.publish([outgoing(PLAIN, QUEUE)])
    posts = publisher.riding([outgoing(PLAIN, QUEUE)])
    assert posts is not None

    with store.session(workflow_slot("w")) as session:
        assert session.commit(Transaction([SetFields("h", {"a": "1"})], posts=posts)) == [None]
        assert session.read((Hash("h"),)).hash("h") == {"a": b"1"}

    assert [message["headers"]["id"] for message in waiting(f"{base}/0")] == ["01HW/Start:abc"] * 2


def test_no_commit_sends_to_a_database_that_was_not_reached_yet(redis_url: str) -> None:
    """SELECT of one that there is not would fail amid the commit, and what it sends would lie among the state."""
    base = redis_url.rsplit("/", 1)[0]
    publisher = CeleryPublisher(app(f"{base}/99"), f"{base}/1")
    for _ in range(2):
        assert publisher.riding([outgoing(PLAIN, QUEUE)]) is None
        with pytest.raises(QueueError, match="out of range"):
            publisher.publish([outgoing(PLAIN, QUEUE)])


def test_a_commit_that_is_not_applied_sends_nothing(redis_url: str, store: RedisStore) -> None:
    """Somebody else was first."""
    base = redis_url.rsplit("/", 1)[0]
    (post,) = CeleryPublisher(app(f"{base}/1"), f"{base}/1").riding([outgoing(PLAIN, QUEUE)]) or ()
    posts = [msgspec.structs.replace(post, databases=(0, 1))]
    slot = workflow_slot("w")

    with store.session(slot) as session, store.session(slot) as other:
        session.read((Hash("h"),), ("h",))
        other.commit(Transaction([SetFields("h", {"a": "1"})]))
        assert session.commit(Transaction([SetFields("h", {"a": "2"})], posts=posts)) is None

    assert waiting(f"{base}/0") == []


def test_the_stage_is_shown_first() -> None:
    """Flower cuts its column after some thirty characters, which an id alone fills."""
    shown = readable({"workflow_id": "01HW", "ref_id": "pay", "thread": "t", "task_type": "charge"})

    assert shown == "{'ref_id': 'pay', 'task_type': 'charge', 'workflow_id': '01HW', 'thread': 't'}"
    assert readable({"workflow_id": "01HW"}) == "{'workflow_id': '01HW'}"
