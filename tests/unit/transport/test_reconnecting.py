"""How a worker's consumer lets go of a broken connection (docs/decisions/008)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker.consumer.consumer import Consumer
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError, OutOfMemoryError

from stabilize_celery.transport.reconnecting import close_channels, reconnecting


class Channel:
    """A channel whose first `failures` closings fail; as kombu's does while an answer is outstanding."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.is_closed = False

    def close(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OperationalError("connection closed by server")
        self.is_closed = True


class Connection:
    def __init__(self, *channels: Channel) -> None:
        self.transport = self
        self.channels = list(channels)


def made(kind: Any, broker: str) -> Any:
    controller = SimpleNamespace(use_eventloop=False)
    return kind(lambda _: None, app=Celery("t", broker=broker, set_as_current=False), controller=controller)


def test_a_channel_is_closed_at_the_second_try() -> None:
    """The first one only finds out that the answer it waits for will never come."""
    channels = [Channel(), Channel(1), Channel()]
    close_channels(Connection(*channels))
    assert [channel.is_closed for channel in channels] == [True, True, True]


def test_a_channel_that_does_not_close_holds_up_nobody() -> None:
    """The connection is given up in any case."""
    channels = [Channel(99), Channel()]
    close_channels(Connection(*channels))
    assert [channel.is_closed for channel in channels] == [False, True]


@pytest.mark.parametrize("transport", [SimpleNamespace(), SimpleNamespace(channels=None), SimpleNamespace(channels=())])
def test_a_transport_without_channels_is_left_to_celery(transport: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other transports than kombu's virtual ones keep none: Celery is told of the lost connection all the same."""
    told: list[BaseException] = []
    monkeypatch.setattr(Consumer, "on_connection_error_after_connected", lambda _, lost: told.append(lost))
    consumer = made(reconnecting(Consumer), "memory://")
    consumer.connection = SimpleNamespace(transport=transport)
    lost = OperationalError("connection reset")

    consumer.on_connection_error_after_connected(lost)

    assert told == [lost]


def test_a_refusal_of_redis_counts_as_a_lost_connection() -> None:
    """Out of memory, a replica: Celery would end the worker over it. Other brokers' refusals stay what they were."""
    ours = reconnecting("celery.worker.consumer:Consumer")

    assert issubclass(OutOfMemoryError, made(ours, "redis://localhost").connection_errors)
    assert made(ours, "memory://").connection_errors == made(Consumer, "memory://").connection_errors


def test_a_consumer_of_the_apps_own_stays_in_use() -> None:
    """The setting `worker_consumer` may name a class: ours is derived from it."""

    class Own(Consumer):
        pass

    assert isinstance(made(reconnecting(Own), "memory://"), Own)


def test_what_the_broker_refuses_is_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery names the error's class only: a worker without a right would try again for ever, and nobody knew why."""
    consumer = made(reconnecting(Consumer), "redis://127.0.0.1:1/0")
    consumer.connection = Connection()
    monkeypatch.setattr(Consumer, "on_connection_error_after_connected", lambda *_: None)

    consumer.on_connection_error_after_connected(NoPermissionError("no permissions to run the 'brpop' command"))
    consumer.on_connection_error_after_connected(OperationalError("connection reset"))

    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told == [
        "the broker refuses what this worker asks of it: no permissions to run the 'brpop' command",
    ]
