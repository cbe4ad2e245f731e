"""How many lost messages a second one keeper brings back: it reads, judges, commits and publishes them again."""

import time
from typing import Any

from benchmarks.backends import InProcess
from benchmarks.shapes import fan_in
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.lanes import lanes
from stabilize_celery.settings import Settings
from stabilize_celery.transport.producer import ProducerPublisher
from tests.servers import RedisServer

__all__ = ["keeper_rate"]

_PATIENCE_S = 120.0


def keeper_rate(messages: int) -> dict[str, Any]:
    """Return the rate at which one keeper publishes so many RunTasks again that nobody has received.

    Raises:
        TimeoutError: it has not brought all of them back within two minutes.

    """
    settings = Settings()
    with RedisServer() as state, RedisServer() as broker:
        backend = InProcess(state.url)
        publisher = ProducerPublisher(broker.url, settings)
        try:
            backend.runtime.submit(fan_in(messages, "noop"))
            backend.handle_all(leaving="RunTask")
            keeper = Keeper(backend.store, publisher, settings, "keeper")
            keeper.renew()
            seconds = _bring_back(keeper, backend, settings, messages)
        finally:
            publisher.close()
            backend.store.close()
    what = f"lost messages that one keeper brings back, of {messages:,}"
    return {"key": "keeper_messages_per_s", "what": what, "value": messages / seconds, "unit": "messages/s"}


def _bring_back(keeper: Keeper, backend: InProcess, settings: Settings, messages: int) -> float:
    # What was published is looked at after this time; none of it counts as lost before.
    time.sleep(settings.republish_ms / 1000 + 0.1)
    # As if a probe that was sent after them had come through each lane: so they are lost, and do not wait in it.
    for lane in lanes(settings.work_queue):
        backend.store.probe_came_back(lane, backend.store.time_ms())
    began, busy_s = time.perf_counter(), 0.0
    while keeper.stats.again + keeper.stats.published < messages:
        tick = time.perf_counter()
        pause_ms = keeper.tick()
        busy_s += time.perf_counter() - tick
        if time.perf_counter() - began > _PATIENCE_S:
            raise TimeoutError(f"the keeper brought back {keeper.stats.again} of {messages} in {_PATIENCE_S:g} s")
        time.sleep(pause_ms / 1000)
    return busy_s
