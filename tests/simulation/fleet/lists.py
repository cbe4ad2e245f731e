"""The broker's lists on the server that also has the state: commits send to them and take from them (decision 015)."""

import base64
from collections.abc import Callable
from random import Random

import msgspec

from stabilize_celery.runtime.lanes import queue_and_step
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.store.memory_database import MemoryDatabase
from stabilize_celery.store.wire import Reply
from stabilize_celery.transport.publish import task_name
from stabilize_celery.transport.turns import Delivered
from stabilize_celery.transport.waiting import Recall, Waiting
from tests.simulation.fleet.broker import SimulatedBroker

__all__ = ["ListsDatabase", "SimulatedWaiting", "message_of_text", "text_of"]

_RECALLS = 0.01
"""How often, of all looks, a worker calls its processes back: at a shutdown, or since it has something for them."""


def text_of(message: Outgoing) -> str:
    """Return a message as Celery writes it, as far as who takes it looks."""
    body = base64.b64encode(msgspec.json.encode(([], message.kwargs, {}))).decode()
    headers = {"task": task_name(message.kind), "id": message.task_id}
    told = {"headers": headers, "content-type": "application/json", "properties": {"body_encoding": "base64"}}
    return msgspec.json.encode({**told, "body": body}).decode()


def message_of_text(lane: str, text: bytes) -> Outgoing:
    """Return what `text_of` made of a message."""
    told = msgspec.json.decode(text)
    _, kwargs, _ = msgspec.json.decode(base64.b64decode(told["body"]))
    return Outgoing(told["headers"]["task"].rpartition(".")[2], told["headers"]["id"], kwargs, lane)


class ListsDatabase(MemoryDatabase):
    """The state's keys, and the lists of the broker: these are where the simulated broker keeps its messages."""

    def __init__(self, clock_us: Callable[[], int], broker: SimulatedBroker, queues: frozenset[str]) -> None:
        super().__init__(clock_us)
        self._broker = broker
        self._queues = queues

    def _cmd_lpush(self, arguments: list[bytes]) -> Reply:
        lane, *texts = arguments
        self._broker.post([message_of_text(lane.decode(), text) for text in texts])
        return len(texts)

    def _cmd_rpush(self, arguments: list[bytes]) -> Reply:
        lane = arguments[0].decode()
        if queue_and_step(lane)[0] not in self._queues:
            return super()._cmd_rpush(arguments)
        self._broker.put_back(message_of_text(lane, arguments[1]))
        return 1

    def _cmd_brpop(self, arguments: list[bytes]) -> Reply:
        *lanes, _wait_s = arguments
        message = self._broker.pop([lane.decode() for lane in lanes])
        return None if message is None else [message.queue.encode(), text_of(message).encode()]

    def _cmd_exists(self, arguments: list[bytes]) -> Reply:
        there = {message.queue for message in self._broker.waiting}
        return len(there.intersection(lane.decode() for lane in arguments))


class SimulatedWaiting(Waiting):
    """What the processes of a worker see of it: it calls them back now and then, as a matter of course."""

    is_here = True
    is_orphan = False

    def __init__(self, random: Random, queues: tuple[str, ...]) -> None:
        self._random = random
        self._seen = Recall(0, 0)
        self._consumed = queues

    def recall(self) -> Recall:
        """Return how often processes were called back so far."""
        drawn, seen = self._random.random(), self._seen
        if drawn < _RECALLS:
            self._seen = Recall(seen.at_once + 1, seen.gently)
        elif drawn < 2 * _RECALLS:
            self._seen = Recall(seen.at_once, seen.gently + 1)
        return self._seen

    def queues(self) -> tuple[str, ...]:
        """Return the queues that the worker consumes."""
        return self._consumed

    def tell(self, delivered: Delivered) -> None:
        """Nobody listens."""
