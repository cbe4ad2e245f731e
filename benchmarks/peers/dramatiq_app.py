"""The actors of `dramatiq_actors`."""

import os
from functools import cache
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.group_callbacks import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend

from benchmarks.stamps import begun, ended

__all__ = ["broker", "in_order", "last", "noop", "stamped", "stamped_in_order", "together"]

_URL = os.environ["BENCH_BROKER"]

# Dramatiq is only partly typed.
_broker_class: Any = RedisBroker
_group_class: Any = dramatiq.group
broker = _broker_class(url=_URL)
broker.add_middleware(GroupCallbacks(RedisBackend(url=_URL)))
dramatiq.set_broker(broker)


@cache
def _redis() -> "redis.Redis":
    return redis.Redis.from_url(_URL)


@dramatiq.actor
def noop(*_: object) -> None:
    """Do nothing."""


@dramatiq.actor
def last(*_: object) -> None:
    """Count what is done."""
    _redis().incr("done")


@dramatiq.actor
def stamped(name: str) -> None:
    """Write down begin and end."""
    begun(name)
    ended(name)


stamped_in_order = stamped


def in_order(messages: list[Any]) -> Any:
    """Return a pipeline."""
    return dramatiq.pipeline(messages)


def together(messages: list[Any], callback: Any) -> Any:
    """Return a group that sends the callback when all of it is done."""
    group = _group_class(messages)
    group.add_completion_callback(callback)
    return group
