"""Fleets of real workers, each on a Redis of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.fleet import Fleet
from tests.servers import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server for one test."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def new_fleet(tmp_path: Path, server: RedisServer) -> Iterator[Callable[..., Fleet]]:
    """Make a fleet on `server`; all are stopped at the end."""
    fleets: list[Fleet] = []

    def make(**settings: str) -> Fleet:
        fleets.append(Fleet(server, tmp_path, **settings))
        return fleets[-1]

    try:
        yield make
    finally:
        for fleet in fleets:
            fleet.stop()
