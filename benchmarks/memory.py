"""What a stage takes in Redis while it waits, while it runs and when it has ended; and a message that is owed.

Measured on a server of its own that keeps nothing else: the growth of `used_memory`, so that Redis' own tables count.
"""

from collections.abc import Iterator
from typing import Any

import redis

from benchmarks.backends import InProcess
from benchmarks.peers import PEERS
from benchmarks.peers.process import PeerProcess, TooLongError
from benchmarks.plan import MODES
from benchmarks.shapes import chain, fan_in
from stabilize_celery import Workflow
from tests.servers import RedisServer

__all__ = ["weigh", "worker_memory"]

_WORKER_S = 3_600.0


def weigh(stages: int) -> Iterator[dict[str, Any]]:
    """Yield bytes in Redis per stage, message and workflow, from workflows of so many stages."""
    yield _row("waiting_stage", "waiting stage (a chain whose first stage runs)", _weighed(chain(stages, "noop")))
    total, ledger, due, owed = _weighed_messages(fan_in(stages, "noop"))
    yield _row("running_stage", "running stage, with its owed RunTask", total)
    yield _row(
        "owed_message", f"owed message: its entry ({ledger:.0f}) and its place in `due` ({due:.0f})", ledger + due
    )
    yield {
        "key": "owed_messages",
        "what": f"owed messages while {stages:,} stages run",
        "value": owed,
        "unit": "messages",
    }
    total, events = _weighed_to_the_end([fan_in(stages, "noop")])
    yield _row("finished_stage", f"finished stage, of which its events {events / stages:.0f}", total / stages)
    total, _ = _weighed_to_the_end([chain(1, "noop") for _ in range(stages)])
    yield _row("finished_workflow", "finished workflow of one stage", total / stages)


def worker_memory(messages: int) -> Iterator[dict[str, Any]]:
    """Yield, for each mode that there is, what a worker's processes take more after so many messages."""
    for entry in PEERS:
        if entry.name not in MODES:
            continue
        with PeerProcess(entry) as process:
            try:
                told = process.ask({"kind": "worker_memory", "sizes": [messages]}, _WORKER_S)
            except TooLongError as error:
                told = {"cannot": str(error)}
        if "cannot" in told:
            continue
        first, last = told["rss_bytes"][0], told["rss_bytes"][-1]
        span = f"from {messages // 10:,} to {messages:,} messages, from {first / 2**20:.0f} MiB"
        what = f"worker ({entry.name}): growth {span}"
        row = {"key": f"worker_growth_{entry.name}", "what": what, "value": (last - first) / 2**20, "unit": "MiB"}
        yield {**row, "rss_bytes": told["rss_bytes"]}


def _row(key: str, what: str, value: float) -> dict[str, Any]:
    return {"key": key, "what": what, "value": value, "unit": "bytes"}


class _Weighed:
    """A runtime on an empty server, and what has come into it since."""

    def __init__(self, url: str) -> None:
        self.redis: Any = redis.Redis.from_url(url)
        self.backend = InProcess(url)
        self.go_through([chain(5, "noop")], until="")
        self.before = self._used()

    def _used(self) -> int:
        self.redis.execute_command("MEMORY", "PURGE")
        return int(self.redis.info("memory")["used_memory"])

    def grown(self) -> int:
        return self._used() - self.before

    def go_through(self, workflows: list[Workflow], until: str) -> None:
        """Handle messages, but none of the kind `until`."""
        for workflow in workflows:
            self.backend.runtime.submit(workflow)
        self.backend.handle_all(leaving=until)

    def bytes_of(self, pattern: str) -> tuple[int, int]:
        """Return the bytes and the number of the keys of a pattern."""
        keys = list(self.redis.scan_iter(pattern, count=1_000))
        return sum(int(self.redis.memory_usage(key, samples=0) or 0) for key in keys), len(keys)

    def close(self) -> None:
        self.backend.store.close()
        self.redis.close()


def _weighed(workflow: Workflow) -> float:
    with RedisServer() as server:
        weighed = _Weighed(server.url)
        weighed.go_through([workflow], until="RunTask")
        grown = weighed.grown() / len(workflow.stages)
        weighed.close()
    return grown


def _weighed_messages(workflow: Workflow) -> tuple[float, float, float, int]:
    with RedisServer() as server:
        weighed = _Weighed(server.url)
        weighed.go_through([workflow], until="RunTask")
        grown = weighed.grown() / len(workflow.stages)
        ledger, messages = weighed.bytes_of("stabilize:{p*}:*:m:*")
        due, _ = weighed.bytes_of("stabilize:{p*}:due")
        weighed.close()
    return grown, ledger / messages, due / messages, messages


def _weighed_to_the_end(workflows: list[Workflow]) -> tuple[float, float]:
    with RedisServer() as server:
        weighed = _Weighed(server.url)
        weighed.go_through(workflows, until="")
        grown = weighed.grown()
        events, _ = weighed.bytes_of("stabilize:{p*}:*:ev")
        weighed.close()
    return grown, events
