"""One world per test."""

import pytest

from tests.unit.client.world import World


@pytest.fixture
def world() -> World:
    return World()
