"""Connections that several threads share."""

from __future__ import annotations

from collections import deque
from typing import Any

from redis.connection import Connection, ConnectionPool

from stabilize_celery.store.connection import RedisWire
from stabilize_celery.store.pools import Pools


class _Overtaken(deque[Connection]):
    """Another thread takes what is there, just before this one does."""

    def pop(self) -> Connection:  # type: ignore[override]
        self.clear()
        return super().pop()


def test_a_lost_connection_is_told_though_other_threads_take_what_is_at_hand() -> None:
    """Whoever asked learns that the server is away, and nothing else."""
    pool = ConnectionPool()

    def make(_patience_s: float) -> Any:
        return Pools(lambda: pool)

    wire = RedisWire("redis://x", make)
    wire.here().at_hand[pool] = _Overtaken([Connection()])

    lost = wire.lost(ConnectionError("reset."), was_stale=False)

    assert (lost.reason, lost.was_stale) == ("reset", False)
