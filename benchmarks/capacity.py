"""How many stages a second one Redis carries, and what a given rate needs: arithmetic on measured costs.

The tables of docs/scaling.md. The formulas are small and stand here once; what they leave out stands in that page.
"""

import binascii
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.arithmetic import scaled
from benchmarks.plan import MODES

__all__ = [
    "Costs",
    "Need",
    "balance",
    "capacity",
    "costs_of",
    "fullest_share",
    "need",
    "needs",
    "rate_of_one_redis",
    "recovery",
    "recovery_s",
]

Memory: TypeAlias = Sequence[Mapping[str, Any]]
"""What was weighed, as results have it."""

BUSY = 0.6
"""Share of a server's one thread, and of a worker's core, that is planned with; the rest is for bursts and failures."""
RATES_PER_MINUTE = (6_000, 60_000, 300_000, 1_000_000)
SHAPE = "many_200x3"
"""Many small workflows at once: what a busy system looks like."""
_SLOTS = 16_384
_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Costs:
    """What one stage costs in one mode, measured."""

    mode: str
    redis_ms: float
    """Processor time of Redis, state and broker together (ms)."""
    worker_ms: float
    """Processor time of the worker, its main process and its pool (ms)."""
    broker_ms: float
    """What as many plain Celery tasks as a stage has messages cost a Redis that has nothing else (ms)."""
    finished_bytes: float
    """In Redis, until the retention is over."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a rate needs. Counts are rounded up."""

    stages_per_s: float
    state_servers: int
    broker_servers: int
    worker_cores: int
    memory_gib_per_day: float


def rate_of_one_redis(costs: Costs) -> float:
    """Return the stages a second that one server carries, state and broker together, at `BUSY`."""
    return 1000 * BUSY / costs.redis_ms


def need(costs: Costs, stages_per_s: float) -> Need:
    """Return what a rate needs, with state and broker on servers of their own."""
    return Need(
        stages_per_s,
        # As if it had the messages, too: what the state alone costs is not measured, and not more than that.
        max(1, math.ceil(stages_per_s * costs.redis_ms / 1000 / BUSY)),
        max(1, math.ceil(stages_per_s * costs.broker_ms / 1000 / BUSY)),
        max(1, math.ceil(stages_per_s * costs.worker_ms / 1000 / BUSY)),
        stages_per_s * _DAY_S * costs.finished_bytes / 2**30,
    )


def fullest_share(partitions: int, masters: int) -> float:
    """Return how much more than its fair share the fullest master of a cluster carries (1: exactly the fair share).

    Computed from the hash tags `{pNN}` as they are, with the slots shared out evenly and in order, as
    `redis-cli --cluster create` does; workflows spread evenly over partitions.
    """
    held = Counter(_slot(f"p{number:02d}") * masters // _SLOTS for number in range(partitions))
    return max(held.values()) * masters / partitions


def _slot(tag: str) -> int:
    return binascii.crc_hqx(tag.encode(), 0) % _SLOTS


def recovery_s(owed: int, keepers: int, keeper_rate: float) -> float:
    """Return how long keepers need to publish so many messages again that were lost at once (s)."""
    return owed / (keepers * keeper_rate)


def costs_of(results: Mapping[str, Any], memory: Memory, mode: str) -> Costs | None:
    """Return what a stage costs in a mode; None if the results do not have it. `memory`: what was weighed in Redis."""
    peers = results["shapes"].get(SHAPE, {}).get("peers", {})
    ours, bare = peers.get(mode, {}).get("median_of"), _bare(peers).get("median_of")
    weighed = {one["key"]: one["value"] for one in memory if "value" in one}
    if not ours or not bare or "finished_stage" not in weighed:
        return None
    messages = 3 if mode == "per_message" else 1
    return Costs(
        mode,
        ours["redis_cpu_ms_per_stage"],
        ours["worker_cpu_ms_per_stage"],
        messages * bare["redis_cpu_ms_per_stage"],
        weighed["finished_stage"],
    )


def _bare(peers: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = peers.get("celery_tasks", {})
    return found


def capacity(results: Mapping[str, Any], memory: Memory) -> str:
    """Return what one Redis carries, by mode, with what was measured for it."""
    return _inputs(_known(results, memory))


def needs(results: Mapping[str, Any], memory: Memory) -> str:
    """Return what rates need, by mode."""
    return "\n\n".join(map(_needs, _known(results, memory)))


def _known(results: Mapping[str, Any], memory: Memory) -> list[Costs]:
    return [costs for mode in MODES if (costs := costs_of(results, memory, mode))]


def _inputs(known: Sequence[Costs]) -> str:
    head = (
        "| measured per stage | Redis, ms | as many plain Celery tasks, ms | workers, ms | finished, bytes "
        "| one Redis carries, stages/s |"
    )
    rows = [
        f"| {one.mode} | {scaled(one.redis_ms)} | {scaled(one.broker_ms)} | {scaled(one.worker_ms)} | "
        f"{one.finished_bytes:,.0f} | {rate_of_one_redis(one):,.0f} |"
        for one in known
    ]
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def _needs(costs: Costs) -> str:
    head = (
        f"| {costs.mode}: stages a minute | stages/s | Redis for state | Redis for the broker | worker cores "
        "| GiB kept per day |"
    )
    rows = []
    for per_minute in RATES_PER_MINUTE:
        one = need(costs, per_minute / 60)
        rows.append(
            f"| {per_minute:,} | {one.stages_per_s:,.0f} | {one.state_servers} | {one.broker_servers} | "
            f"{one.worker_cores} | {scaled(one.memory_gib_per_day)} |"
        )
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def balance() -> str:
    """Return how evenly partitions lie on the masters of a cluster."""
    masters = (2, 3, 6, 12, 24)
    head = f"| fullest master ÷ fair share | {' | '.join(f'{count} masters' for count in masters)} |"
    rows = [
        f"| {partitions} partitions | "
        + " | ".join(f"{fullest_share(partitions, count):.2f}" if partitions >= count else "-" for count in masters)
        + " |"
        for partitions in (16, 32, 64, 128, 256, 512, 1024)
    ]
    return "\n".join([head, "|---" * (len(masters) + 1) + "|", *rows])


def recovery(memory: Memory) -> str:
    """Return how long keepers need for messages that were lost with their queue."""
    keeper_rate = next(one["value"] for one in memory if one["key"] == "keeper_messages_per_s")
    counts = (1, 4, 16)
    head = f"| messages lost with their queue | {' | '.join(f'{count} keepers' for count in counts)} |"
    rows = [
        f"| {owed:,} | " + " | ".join(f"{scaled(recovery_s(owed, count, keeper_rate))} s" for count in counts) + " |"
        for owed in (1_000, 10_000, 100_000, 1_000_000)
    ]
    told = f"One keeper brings back {keeper_rate:,.0f} messages a second (measured)."
    return "\n".join([told, "", head, "|---|---|---|---|", *rows])
