"""The URLs of state servers are URLs of brokers, too, as far as Celery can use them."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from kombu import Connection

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.transport.broker import broker_settings
from tests.servers import RedisServer

SOCKET = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0, "socket_keepalive": True}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://host:6379/2", "redis://host:6379/2"),
        ("rediss://host/0", "rediss://host/0"),
        ("rediss://u:p%40@h/1?ssl_cert_reqs=required&socket_timeout=3", "rediss://u:p%40@h/1?ssl_cert_reqs=required"),
        ("redis://host?db=2", "redis://host/2"),
        ("redis://a/0;redis://b/0", "redis://a/0;redis://b/0"),
        ("amqp://guest@host//", "amqp://guest@host//"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("sentinel://a:1,b/4?master=shop", "sentinel://a:1/4;sentinel://b:26379/4"),
    ],
)
def test_a_broker_url_in_kombus_words(url: str, told: str) -> None:
    """What Celery knows is left as it is; a socket and sentinels are spelled otherwise there."""
    assert broker_settings(url, 5.0)["broker_url"] == told


def test_a_sentinel_that_is_away_costs_a_connection_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is asked at once: a machine that is lost takes its sentinel with it, often beside the master."""
    pauses: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", pauses.append)
    with RedisServer() as master, RedisServer(sentinel=[f"monitor shop 127.0.0.1 {master.port} 1"]) as sentinel:
        found = broker_settings(f"sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/1?master=shop", 5.0)
        with Connection(found["broker_url"], transport_options=found["broker_transport_options"]) as connection:
            assert connection.default_channel.client.ping()

        assert pauses == []


def test_sentinels() -> None:
    """All of them, the master's name, and the password of either kind of server."""
    found = broker_settings("sentinel://me:p%40ss@a:1,b/4?master=shop&sentinel_password=other&ssl=true", 5.0)

    assert found["broker_url"] == "sentinel://me:p%40ss@a:1/4;sentinel://me:p%40ss@b:26379/4"
    assert found["broker_use_ssl"] is True
    options = found["broker_transport_options"]
    assert options == SOCKET | {"master_name": "shop", "sentinel_kwargs": ANY}
    asking = options["sentinel_kwargs"]
    assert asking == SOCKET | {"password": "other", "retry": asking["retry"]}
    assert asking["retry"].get_retries() == 0


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis+cluster://:secret@host:6379", "Cluster, which Celery can't use"),
        ("localhost:6379", r"has no scheme, .*: write redis://host:6379/0, sentinel://…, or amqp://host"),
        ("user:secret@localhost", "has no scheme"),
        ("sentinel://:secret@a:26379;sentinel://b:26379", r"sentinel://host:26379,host:26379/0\?master=name"),
    ],
)
def test_what_celery_cannot_use(url: str, told: str) -> None:
    """One error that says what to write instead, without the password."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        broker_settings(url, 5.0)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:secret@host/0?visibility_timeout=40", "visibility_timeout"),
        ("redis://:secret@host/0?socket_timeout=soon", "can't read the Redis URL"),
        ("redis://:secret@host/shop", "its database is not a number"),
        ("redis://:secret@host:99999/0", "its port"),
        ("redis://:secret/x@host/0", "its port"),
        ("stabilize_celery.no_such_transport:Transport://:secret@host", "no_such_transport"),
    ],
)
def test_what_kombu_would_stumble_over(url: str, told: str) -> None:
    """It would at the first message: the workflow would be started, and its producer told of a bug."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        broker_settings(url, 5.0)
    assert "secret" not in str(caught.value)


def test_what_a_url_says_of_sockets_reaches_kombu() -> None:
    """A URL that serves for the state serves for the broker, too: it is the default for it."""
    found = broker_settings("redis://host?db=2&socket_timeout=3&health_check_interval=5", 5.0)

    assert found["broker_transport_options"] == SOCKET | {"socket_timeout": 3.0, "health_check_interval": 5}


def test_only_redis_gets_options_of_redis() -> None:
    """Other transports would not know them."""
    assert broker_settings("redis://h", 5.0)["broker_transport_options"] == SOCKET
    assert "broker_transport_options" not in broker_settings("amqp://h", 5.0)


def test_further_options_are_the_apps_own() -> None:
    """A producer that has only URLs reaches the lists that an app's options give other names."""
    found = broker_settings("redis://h", 5.0, '{"global_keyprefix": "shop:", "priority_steps": [0, 9]}')

    assert found["broker_transport_options"] == SOCKET | {"global_keyprefix": "shop:", "priority_steps": [0, 9]}


@pytest.mark.parametrize("text", ["{", "[1]", "7", "global_keyprefix=shop:"])
def test_options_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="STABILIZE_BROKER_OPTIONS"):
        broker_settings("redis://h", 5.0, text)
