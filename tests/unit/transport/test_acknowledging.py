"""Acknowledgements that a broker refuses are given again (docs/decisions/008)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import ReadOnlyError

from stabilize_celery.transport.acknowledging import give_again_what_is_refused
from tests.servers import RedisServer

logger = logging.getLogger(__name__)


class Refusing:
    """A message whose first `refused` acknowledgements fail."""

    def __init__(self, refused: int, error: Exception) -> None:
        self.refused, self.error, self.acknowledged = refused, error, False
        self.channel = SimpleNamespace(closed=False)

    def ack_log_error(self, _log: Any, _errors: Any, multiple: bool = False) -> None:
        if self.refused:
            self.refused -= 1
            raise self.error
        self.acknowledged = not multiple

    reject_log_error = ack_log_error


def given(message: Any, method: str = "ack_log_error") -> list[tuple[float, Callable[[], None]]]:
    """Acknowledge once; return what is to happen later."""
    later: list[tuple[float, Callable[[], None]]] = []
    give_again_what_is_refused(message, (ReadOnlyError,), lambda s, do: later.append((s, do)))
    getattr(message, method)(logger, (OperationalError, ReadOnlyError))
    return later


@pytest.mark.parametrize("method", ["ack_log_error", "reject_log_error"])
def test_it_is_given_until_the_broker_takes_it(method: str) -> None:
    """Once a second, and not after that."""
    message = Refusing(2, ReadOnlyError("replica"))
    later = given(message, method)
    for _ in range(2):
        ((after_s, do),) = later
        later.clear()
        assert (after_s, message.acknowledged) == (1.0, False)
        do()

    assert message.acknowledged
    assert not later


def test_a_connection_that_was_closed_ends_it() -> None:
    """The channel counts nothing any more; the message goes to somebody else."""
    message = Refusing(9, ReadOnlyError("replica"))
    ((_, do),) = later = given(message)
    message.channel.closed = True
    later.clear()
    do()

    assert (message.refused, later) == (8, [])


def test_a_lost_connection_is_celerys_business() -> None:
    with pytest.raises(OperationalError):
        given(Refusing(1, OperationalError("gone")))


def test_a_replica_that_becomes_the_master_again_gets_it() -> None:
    """With kombu and a real server: the message counts as unacknowledged as long as it is refused, and no longer."""
    with RedisServer() as server, Redis(port=server.port) as admin:
        app = Celery("t", broker=server.url, set_as_current=False)
        app.send_task("any", queue="q")
        with app.connection_for_read() as connection, connection.channel() as channel:
            message = app.amqp.queues["q"](channel).get(no_ack=False)
            admin.replicaof("127.0.0.1", "1")
            later: list[Callable[[], None]] = []
            refusals = connection.channel_errors
            give_again_what_is_refused(message, refusals, lambda _, do: later.append(do))
            message.ack_log_error(logger, (*connection.connection_errors, *refusals))
            assert (admin.hlen("unacked"), len(later)) == (1, 1)

            admin.replicaof("NO", "ONE")
            later[0]()

            assert (admin.hlen("unacked"), len(later)) == (0, 1)
            assert message.acknowledged
        app.close()
