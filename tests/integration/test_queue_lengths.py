"""How long queues are, on the broker as an app's own configuration tells of it."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery

from stabilize_celery.client import Client
from stabilize_celery.errors import QueueError
from stabilize_celery.settings import Settings
from stabilize_celery.transport.queues import lengths_on, queue_lengths
from tests.unit.client.world import stage, workflow


def test_lists_with_a_prefix_are_found(redis_url: str) -> None:
    """A worker's metrics tell of the lists that it reads, whatever its app's options call them."""
    options = {"global_keyprefix": "theirs:"}
    with Celery(broker=redis_url, set_as_current=False) as app:
        app.conf.broker_transport_options = options
        for _ in range(3):
            app.send_task("anything", queue="prefixed")

        assert lengths_on(app, Settings(), ["prefixed", "other"]) == {"prefixed": 3, "other": 0}
        assert queue_lengths(redis_url, Settings(), ["prefixed"]) == {"prefixed": 0}


def test_a_client_sends_to_the_lists_that_prefixed_workers_read(redis_url: str) -> None:
    """It has only URLs: a setting tells it what the app's options call them."""
    options = {"global_keyprefix": "theirs:"}
    with Celery(broker=redis_url, set_as_current=False) as app:
        app.conf.broker_transport_options = options
        settings = Settings(redis_url=redis_url, broker_options='{"global_keyprefix": "theirs:"}')
        with Client(settings=settings) as client:
            client.start(workflow(stage("a")))

        assert lengths_on(app, Settings(), ["stabilize.control"]) == {"stabilize.control": 1}
        assert queue_lengths(redis_url, Settings(), ["stabilize.control"]) == {"stabilize.control": 0}
        assert queue_lengths(redis_url, settings, ["stabilize.control"]) == {"stabilize.control": 1}


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("redis", {}),
        ("redis", {"socket_timeout": 3_600, "global_keyprefix": "theirs:"}),
        ("sentinel", {"master_name": "mine"}),
        ("sentinel", {"master_name": "mine", "sentinel_kwargs": {"password": "x"}}),
    ],
)
def test_a_broker_that_hangs_is_not_waited_for(scheme: str, options: dict[str, object]) -> None:
    """Whatever the app's options say: who scrapes a worker's metrics waits some seconds at most."""
    with socket.create_server(("127.0.0.1", 0)) as silent, Celery(set_as_current=False) as app:
        app.conf.broker_url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/0"
        app.conf.broker_transport_options = options
        pool = ThreadPoolExecutor(1)
        asked = pool.submit(lengths_on, app, Settings(socket_timeout_ms=200), ["any"])
        try:
            with pytest.raises(QueueError):
                asked.result(5)
        finally:
            # Who waits without end is let go.
            silent.close()
            pool.shutdown(wait=False)
