"""The arithmetic of docs/scaling.md."""

import pytest

from benchmarks.capacity import (
    BUSY,
    Costs,
    balance,
    capacity,
    costs_of,
    fullest_share,
    need,
    needs,
    rate_of_one_redis,
    recovery,
    recovery_s,
)

COSTS = Costs("fused", redis_ms=0.5, worker_ms=2.0, broker_ms=0.1, finished_bytes=2_000)


def test_one_redis_carries_what_its_thread_has_time_for() -> None:
    """Half a millisecond a stage, and no more than the planned share of a second."""
    assert rate_of_one_redis(COSTS) == pytest.approx(2_000 * BUSY)


def test_a_rate_needs_servers_and_cores_in_proportion() -> None:
    """Counts are rounded up: nobody runs half a server. That of the state is as if it had the messages, too."""
    one = need(COSTS, 1_000_000 / 60)

    assert one.state_servers == 14  # 16,667/s x 0.5 ms = 8.33 busy seconds a second; / 0.6
    assert one.broker_servers == 3
    assert one.worker_cores == 56
    assert need(COSTS, 1).state_servers == 1


def test_memory_grows_with_what_is_kept() -> None:
    """A stage a second is 86,400 a day."""
    assert need(COSTS, 1).memory_gib_per_day == pytest.approx(86_400 * 2_000 / 2**30)


def test_the_fullest_master_never_carries_less_than_its_share() -> None:
    """More partitions level a cluster; one master carries everything there is."""
    assert fullest_share(16, 1) == 1.0
    assert all(fullest_share(partitions, 6) >= 1.0 for partitions in (16, 64, 256, 1024))
    assert fullest_share(1024, 6) < fullest_share(16, 6)


def test_keepers_share_what_was_lost() -> None:
    assert recovery_s(10_000, keepers=4, keeper_rate=500) == 5.0


def _results(mode: str) -> dict:
    ours = {"redis_cpu_ms_per_stage": 0.5, "worker_cpu_ms_per_stage": 2.0}
    bare = {"redis_cpu_ms_per_stage": 0.1}
    peers = {mode: {"median_of": ours}, "celery_tasks": {"median_of": bare}}
    memory = [{"key": "finished_stage", "value": 2_000}, {"key": "keeper_messages_per_s", "value": 1_000}]
    return {"shapes": {"many_200x3": {"peers": peers}}, "memory": memory}


def test_costs_come_from_results_and_a_mode_that_was_not_measured_has_none() -> None:
    """Three messages a stage go over the broker message by message, one in the other modes."""
    memory = _results("fused")["memory"]
    per_message = costs_of(_results("per_message"), memory, "per_message")

    assert costs_of(_results("fused"), memory, "fused") == COSTS
    assert per_message is not None
    assert per_message.broker_ms == pytest.approx(0.3)
    assert costs_of(_results("fused"), memory, "continuation") is None


def test_the_tables_say_what_they_rest_on() -> None:
    """Inputs, each rate, cluster and recovery."""
    results = _results("fused")

    assert "| 1,000,000 | 16,667 | 14 | 3 | 56 |" in needs(results, results["memory"])
    assert "| fused | 0.500 | 0.100 | 2.00 | 2,000 | 1,200 |" in capacity(results, results["memory"])
    assert "| 256 partitions |" in balance()
    assert "| 100,000 | 100 s | 25.0 s |" in recovery(results["memory"])
