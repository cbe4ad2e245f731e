"""What does a worker cost that has nothing to do? Beside a plain Celery worker, over the same seconds.

The state has a server of its own: all that reaches it is ours. On the broker, ours is what exceeds the plain worker's.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import redis

from benchmarks.backends import QUIET, eventually, worker_process
from benchmarks.peers.processes import own_cpu_s
from benchmarks.shapes import chain
from stabilize_celery import Client
from tests.servers import RedisServer

__all__ = ["MAX_COMMANDS", "MAX_CPU", "MAX_ROUND_TRIPS", "Idle", "measure_idle", "table"]

MAX_ROUND_TRIPS, MAX_COMMANDS, MAX_CPU = 5.0, 100.0, 0.02
"""Per second, per second, share of one core: an idle worker stays below."""
SETTLE_S = 4.0


@dataclass(frozen=True, slots=True)
class Idle:
    """What one idle worker costs beyond Celery's own, per second; its processor time is its own and Celery's."""

    finished_workflows: int
    """Kept in Redis until their retention is over."""
    round_trips: float
    commands: float
    cpu: float
    """Share of a core, main process."""
    plain_cpu: float
    """The same of a plain Celery worker."""

    @property
    def is_within(self) -> bool:
        """Whether all figures are below their limits."""
        return self.round_trips < MAX_ROUND_TRIPS and self.commands < MAX_COMMANDS and self.cpu < MAX_CPU

    def as_json(self) -> dict[str, Any]:
        """Return everything measured, with the limits."""
        limits = {"round_trips": MAX_ROUND_TRIPS, "commands": MAX_COMMANDS, "cpu": MAX_CPU}
        return {**asdict(self), "limits": limits, "is_within": self.is_within}


class _Watched:
    """Counters of the servers and the process of one worker. INFO's own question is not counted."""

    def __init__(self, pid: int, clients: list[redis.Redis]) -> None:
        self._pid = pid
        self._clients = clients
        self._since, self._before = time.monotonic(), self._read()

    def _read(self) -> Mapping[str, float]:
        infos: list[Any] = [client.info() for client in self._clients]
        return {
            "cpu": own_cpu_s(self._pid),
            "round_trips": sum(info["total_reads_processed"] for info in infos),
            "commands": sum(info["total_commands_processed"] for info in infos),
        }

    def per_second(self) -> dict[str, float]:
        """Return what has come together since the beginning."""
        after, seconds = self._read(), time.monotonic() - self._since
        own = {"round_trips": len(self._clients), "commands": len(self._clients), "cpu": 0}
        return {name: (after[name] - self._before[name] - own[name]) / seconds for name in after}


def measure_idle(seconds: float, finished_workflows: int = 0) -> Idle:
    """Return the costs of an idle worker, after it has run so many small workflows."""
    with ExitStack() as stack:
        plain_broker, broker, state = (stack.enter_context(RedisServer()) for _ in range(3))
        options = ("-P", "prefork", "-c", "2", *QUIET)
        plain = stack.enter_context(worker_process(plain_broker.url, None, *options))
        ours = stack.enter_context(worker_process(broker.url, state.url, *options))
        with Client(state.url, broker.url) as client:
            eventually(client.store.fleet)
            _finish_workflows(client, finished_workflows)
        time.sleep(SETTLE_S)
        connect = redis.Redis.from_url
        with connect(plain_broker.url) as one, connect(broker.url) as two, connect(state.url) as three:
            watched_plain, watched = _Watched(plain.pid, [one]), _Watched(ours.pid, [two, three])
            time.sleep(seconds)
            celerys, all_of_it = watched_plain.per_second(), watched.per_second()
    return Idle(
        finished_workflows,
        all_of_it["round_trips"] - celerys["round_trips"],
        all_of_it["commands"] - celerys["commands"],
        all_of_it["cpu"],
        celerys["cpu"],
    )


def _finish_workflows(client: Client, number: int) -> None:
    handles = client.start_many(chain(1, "same_key") for _ in range(number))
    for handle in handles:
        handle.wait(timeout_s=300)


def table(rows: list[Idle]) -> str:
    """Return the rows as people read them."""
    head = (
        f"{'idle worker, per second':<32} {'round trips':>12} {'commands':>9} {'core':>7} {'plain Celery':>13}  below "
        f"{MAX_ROUND_TRIPS:g}, {MAX_COMMANDS:g}, {MAX_CPU:.0%}"
    )
    return "\n".join([head, *map(_line, rows)])


def _line(row: Idle) -> str:
    kept = f"{row.finished_workflows} finished workflows kept"
    costs = f"{row.round_trips:>12.1f} {row.commands:>9.1f} {row.cpu:>7.2%} {row.plain_cpu:>13.2%}"
    return f"{kept:<32} {costs}  {'yes' if row.is_within else 'NO'}"
