"""The command that measures this machine."""

import json

import pytest

from stabilize_celery.cli.bench import summary
from stabilize_celery.settings import MODES
from tests.unit.cli.conftest import Program


def test_ratios_are_of_the_same_repetition() -> None:
    """To the first mode, which is its own reference."""
    rows = summary({"chain": {"per_message": [1.0, 10.0, 2.0], "fused": [0.5, 2.0, 1.0]}})

    assert [row["ratio"]["median"] for row in rows] == [1.0, 0.5]
    assert rows[1]["ratio"] == {"minimum": 0.2, "median": 0.5, "maximum": 0.5}
    assert rows[1]["seconds"] == {"minimum": 0.5, "median": 1.0, "maximum": 2.0}


def test_nobodys_server_is_measured(program: Program) -> None:
    """Thousands of workflows are nothing to leave in a server that others use."""
    said = program("bench", "--redis-url", "redis://localhost:1")

    assert said.code == 2
    assert "leaves nothing in yours" in said.text


def test_peers_need_the_repository(program: Program) -> None:
    said = program("bench", "--peers")

    assert said.code == 2
    assert "make bench" in said.text
    assert "benchmarks/requirements.txt" in said.text


@pytest.mark.real
def test_each_mode_is_measured_in_each_shape(program: Program) -> None:
    """On a server and workers of its own, also where a server is set for everything else."""
    said = program("bench", "--repetitions", "1", "--scale", "0.01", "--json")

    assert said.code == 0, said.text
    rows = json.loads(said.out)["measured"]
    assert [row["mode"] for row in rows] == list(MODES) * 3
    assert all(row["seconds"]["median"] > 0 for row in rows)
