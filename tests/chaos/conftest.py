"""Servers and fleets of the chaos tests: each test has its own, and nothing is left of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.fleet import STATE_SERVER, ChaosFleet
from tests.servers import RedisServer


@pytest.fixture
def witness() -> Iterator[RedisServer]:
    """A server that bodies write to, and that nobody kills."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that keeps each write that it acknowledged."""
    with RedisServer(*STATE_SERVER, append_only=True) as server:
        yield server


@pytest.fixture
def new_fleet(server: RedisServer, witness: RedisServer, tmp_path: Path) -> Iterator[Callable[..., ChaosFleet]]:
    """Make the fleet of a test, with settings or URLs of its own."""
    with ExitStack() as stack:

        def make(**options: str) -> ChaosFleet:
            fleet = ChaosFleet(server, witness, tmp_path, **options)
            stack.callback(fleet.stop)
            return fleet

        yield make


@pytest.fixture
def fleet(new_fleet: Callable[..., ChaosFleet]) -> ChaosFleet:
    return new_fleet()
