"""Where the lists of a broker are, as the store calls it: only where that can be told for sure."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from stabilize_celery.transport.broker import broker_settings
from stabilize_celery.transport.broker_place import databases_of_one_server, lists_url


def app_of(broker: str, **conf: Any) -> Celery:
    """An app with that broker, as Celery takes it."""
    app = Celery("test", set_as_current=False)
    app.conf.update({"broker_url": broker, **conf})
    return app


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:secret@host:6379/3",
        "rediss://host:6379/0",
        "rediss://host:6379/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem",
        "unix:///run/redis.sock?db=3",
        "unix://user:secret@/run/redis.sock?db=0",
        "sentinel://a:1,b:2/4?master=shop",
        "sentinel://me:p%40ss@a:1,b:2/0?master=the%20shop&sentinel_username=u&sentinel_password=p%26s",
    ],
)
def test_what_celery_is_told_of_a_redis_leads_back_to_it(url: str) -> None:
    """From the store's words to kombu's and back."""
    app = Celery("test", set_as_current=False)
    app.conf.update(broker_settings(url, 5.0))

    assert lists_url(app) == url
    assert databases_of_one_server(app, url) is not None


@pytest.mark.parametrize(
    ("url", "conf"),
    [
        ("redis://host:6379/0?ssl_cert_reqs=none", {}),
        ("redis://host:6379/0?socket_timeout=1", {}),
        ("rediss://host:6379/0?ssl_cert_reqs=CERT_REQUIRED", {}),
        ("rediss://host:6379/0?ssl_check_hostname=", {}),
        ("rediss://host:6379/0", {"broker_use_ssl": {"ssl_ca_certs": "/ca.pem"}}),
        ("redis://host:6379/0;redis://other:6379/0", {}),
        ("redis+socket:///run/redis.sock?virtual_host=1&socket_timeout=3", {}),
        ("amqp://host", {}),
        ("", {}),
        ("redis://host:6379/0", {"broker_transport_options": {"global_keyprefix": "x:"}}),
        ("sentinel://a:1/0;sentinel://b:2/0", {}),
        ("sentinel://a:1/0;sentinel://b:2/1", {"broker_transport_options": {"master_name": "shop"}}),
        ("sentinel://u:p@a:1/0;sentinel://b:2/0", {"broker_transport_options": {"master_name": "shop"}}),
        ("sentinel://a:1/0;redis://b:2/0", {"broker_transport_options": {"master_name": "shop"}}),
        ("sentinel://a/0", {"broker_transport_options": {"master_name": "shop"}}),
        ("sentinel://a:1/0", {"broker_transport_options": {"master_name": "shop", "sentinel_kwargs": {"ssl": True}}}),
        ("sentinel://a:1/0", {"broker_transport_options": {"master_name": "shop"}, "broker_use_ssl": True}),
    ],
)
def test_of_any_other_broker_workers_get_their_messages_through_celery(url: str, conf: dict[str, Any]) -> None:
    """Lists of other names, or options that we might understand otherwise than Celery does."""
    assert lists_url(app_of(url, **conf)) is None


def test_sentinels_that_a_program_has_told_celery_of_itself() -> None:
    """Not by us; with the options that are usual."""
    options = {"master_name": "shop", "sentinel_kwargs": {"password": "p", "socket_timeout": 1}}
    app = app_of("sentinel://:x@a:1;sentinel://:x@b:2", broker_transport_options=options)

    assert lists_url(app) == "sentinel://:x@a:1,b:2?master=shop&sentinel_password=p"


@pytest.mark.parametrize(
    ("broker", "state", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/1", (0, 1)),
        ("redis://h:1", "redis://h:1", (0, 0)),
        ("redis://u:p@h:1/2", "redis://u:p@h:1/2", (2, 2)),
        ("redis://u:p@h:1/2", "redis://v:p@h:1/2", None),
        ("redis://h:1/0", "redis://h:2/0", None),
        ("rediss://h:1/0", "redis://h:1/0", None),
        ("rediss://h:1/0?ssl_ca_certs=a", "rediss://h:1/1?ssl_ca_certs=a", (0, 1)),
        ("rediss://h:1/0?ssl_ca_certs=a", "rediss://h:1/1?ssl_ca_certs=b", None),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock", (1, 0)),
        ("unix:///run/redis.sock", "unix:///run/other.sock", None),
        ("amqp://h:1//", "redis://h:1/0", None),
        ("sentinel://a:1,b:2/0?master=m", "sentinel://b:2,a:1/1?master=m", (0, 1)),
        ("sentinel://a:1,b:2/0?master=m", "sentinel://a:1,b:2/0?master=n", None),
        ("redis://h:1/0;redis://g:1/0", "redis://h:1/0", None),
        ("redis://h:1/0", "", None),
        ("redis://h:1/0", "redis+cluster://h:1", None),
    ],
)
def test_a_commit_sends_only_where_one_server_has_both(
    broker: str, state: str, expected: tuple[int, int] | None
) -> None:
    """By name, port and user: what can't be told from the URLs is not assumed."""
    app = app_of("")
    app.conf.update(broker_settings(broker, 5.0))

    assert databases_of_one_server(app, state) == expected
