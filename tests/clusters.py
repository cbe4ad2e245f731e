"""A real Redis Cluster for tests: masters that share out the slots between them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import redis

from tests.servers import RedisServer

__all__ = ["ask", "cluster_of", "meet", "wait_for"]

_SLOTS = 16_384
_FORMED_S = 30.0


def ask(server: RedisServer, *command: str | int) -> object:
    """Carry out one command as an operator would."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return client.execute_command(*command)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a server's own state is as wanted; there is nobody who could tell us."""
    deadline = time.monotonic() + _FORMED_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def cluster_of(masters: int, *arguments: str, append_only: bool = False) -> Iterator[list[RedisServer]]:
    """Yield the masters of a cluster that works, each with its share of the slots.

    Args:
        masters: How many (count).
        arguments: More of them for each server program.
        append_only: Keep each write that was acknowledged.

    """
    options = ("--cluster-enabled", "yes", *arguments)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(RedisServer(*options, append_only=append_only, extra_ports=("--cluster-port",)))
            for _ in range(masters)
        ]
        for at, node in enumerate(nodes):
            ask(node, "CLUSTER", "ADDSLOTSRANGE", at * _SLOTS // masters, (at + 1) * _SLOTS // masters - 1)
        meet(nodes[0], *nodes[1:])
        yield nodes


def meet(first: RedisServer, *others: RedisServer) -> None:
    """Make nodes known to the first one, and wait until all know each other and each slot's master."""
    known = len(str(ask(first, "CLUSTER", "NODES")).splitlines()) + len(others)
    for node in others:
        ask(first, "CLUSTER", "MEET", "127.0.0.1", node.port, node.other_ports["--cluster-port"])
    for node in (first, *others):
        wait_for(lambda one=node: _works(one, known), "the cluster does not form")  # type: ignore[misc]


def _works(node: RedisServer, known: int) -> bool:
    info = str(ask(node, "CLUSTER", "INFO"))
    return "cluster_state:ok" in info and f"cluster_known_nodes:{known}" in info
