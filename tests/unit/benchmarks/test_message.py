"""The cost of a stage: what is counted, and where."""

from __future__ import annotations

import pytest

from benchmarks.backends import InProcess
from benchmarks.message import PARTS, Cost, cost_of, part_of, table
from stabilize_celery.settings import CONTINUATION


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("/src/stabilize_celery/engine/handlers/run_task.py", "engine"),
        ("/src/stabilize_celery/store/resp.py", "store"),
        ("/venv/site-packages/redis/connection.py", "redis-py"),
        ("/usr/lib/python3.11/contextlib.py", "the rest"),
        ("/src/stabilize_celery/transport/process.py", "the rest"),
    ],
)
def test_a_call_counts_where_it_is_made(file: str, part: str) -> None:
    """By the folder of its source."""
    assert part_of(file) == part


def test_a_table_has_a_column_for_each_part() -> None:
    """A part that was not called has none."""
    told = table([Cost("fused", "chain", 1.234, 0.5, 30.4, 3.0, {"engine": 700.0, "store": 300.0})])

    head, _, line = told.splitlines()
    assert head.count("|") == line.count("|") == 8 + len(PARTS)
    assert line.startswith("| `fused` | chain | 1.23 | 0.50 | 30 | 3.0 | 1,000 | 700 | 300 | 0 |")


def test_the_cost_of_a_stage_is_measured(redis_url: str) -> None:
    """In a mode in which a chain needs one round trip per stage."""
    backend = InProcess(redis_url, CONTINUATION)
    try:
        cost = cost_of(backend, CONTINUATION, "chain of 50", 1)
    finally:
        backend.store.close()

    assert 1 <= cost.round_trips < 1.5
    assert cost.commands < 30
    assert min(cost.calls[part] for part in ("engine", "store", "runtime")) > 0
