"""A minute in which something breaks every other second, by the throw of dice that a seed repeats."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import redis

from stabilize_celery.client import WorkflowHandle
from stabilize_celery.errors import UnreachableError
from tests.chaos.crowds import Crowd
from tests.chaos.fleet import ChaosFleet
from tests.chaos.flows import SIGNAL, make, wants_signal
from tests.integration.fleet import Worker
from tests.servers import RedisServer

__all__ = ["Storm"]

T = TypeVar("T")

FROZEN_S = 12.0
"""How long a machine stands still (s): longer than a lease."""


class Storm(Crowd):
    """A crowd that is started bit by bit while workers, messages and servers are lost."""

    def __init__(self, fleet: ChaosFleet, server: RedisServer, seed: int) -> None:
        self._fleet = fleet
        self._server = server
        self._random = random.Random(seed)
        self._frozen: list[tuple[float, Worker]] = []
        self._lost: list[Worker] = []
        self._unsignalled: list[WorkflowHandle] = []
        self.runs: list[WorkflowHandle] = []
        self.broken: Counter[str] = Counter()
        """What was done, and how often."""
        self._blows: tuple[tuple[int, Callable[[], None]], ...] = (
            (4, self.lose_machine),
            (4, self.kill_child),
            (2, self.freeze_machine),
            (1, self.flush_broker),
            (1, self.kill_redis),
        )

    def rage(self, seconds: float, size: int) -> None:
        """Start `size` workflows over so many seconds, and break something every 1 to 3 s meanwhile."""
        began = blow_at = time.monotonic()
        while (passed := time.monotonic() - began) < seconds or len(self.runs) < size:
            while len(self.runs) < min(size, size * passed / seconds + 1):
                self._start(len(self.runs))
            self._send_a_signal()
            if time.monotonic() >= blow_at:
                blow_at = time.monotonic() + self._random.uniform(1, 3)
                self._strike()
            self._thaw(time.monotonic())
            time.sleep(0.05)
        self._thaw(float("inf"))
        while self._unsignalled:
            self._send_a_signal()

    def lose_machine(self) -> None:
        """Kill a worker with its pool; another one is started in its place."""
        victim = self._victim()
        victim.kill_group()
        self._lost.append(victim)
        self._fleet.add_worker(wait=False)

    def kill_child(self) -> None:
        """Kill one process of a pool; not while it starts: Celery ends a worker that loses one before its first loop."""
        victim = self._victim()
        if " succeeded in " not in victim.log:
            return
        children = self._fleet.children(victim)
        if children:
            self._fleet.kill(self._random.choice(children))

    def freeze_machine(self) -> None:
        """Stop a worker with its pool for longer than its leases; one at a time, so that somebody works."""
        if self._frozen:
            return
        victim = self._victim()
        victim.kill_group(signal.SIGSTOP)
        self._frozen.append((time.monotonic() + FROZEN_S, victim))

    def flush_broker(self) -> None:
        """Delete every message."""
        with redis.Redis.from_url(self._fleet.broker_url) as client:
            client.flushdb()

    def kill_redis(self) -> None:
        """Kill the server and start it again; its log has what it had acknowledged."""
        self._server.kill()
        self._server.start()

    def _strike(self) -> None:
        weights = [weight for weight, _ in self._blows]
        ((_, blow),) = self._random.choices(self._blows, weights)
        self.broken[blow.__name__] += 1
        blow()

    def _victim(self) -> Worker:
        away = [*self._lost, *(worker for _, worker in self._frozen)]
        living = [one for one in self._fleet.workers if one not in away]
        for worker in living:
            assert worker.process.poll() is None, worker.log[-3000:]
        return self._random.choice(living)

    def _thaw(self, until: float) -> None:
        for at, worker in list(self._frozen):
            if at <= until:
                worker.kill_group(signal.SIGCONT)
                self._frozen.remove((at, worker))

    def _start(self, number: int) -> None:
        workflow = make(number)
        run = self._insist(lambda: self._fleet.client.start(workflow))
        self.runs.append(run)
        if wants_signal(number):
            self._unsignalled.append(run)

    def _send_a_signal(self) -> None:
        if self._unsignalled and (len(self._unsignalled) > 10 or self._random.random() < 0.1):
            run = self._unsignalled.pop(0)
            self._insist(lambda: run.signal("ask", SIGNAL, {"by": "storm"}))

    def _insist(self, call: Callable[[], T]) -> T:
        """Try again while the server is away: a workflow has its id, so it is started once."""
        while True:
            try:
                return call()
            except UnreachableError:
                time.sleep(0.2)
