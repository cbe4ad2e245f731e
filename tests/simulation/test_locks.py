"""Mutexes and semaphores across workflows, under faults and cancels (PROTOCOL 8)."""

from random import Random

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.settings import Settings
from stabilize_celery.tasks.call import current_call
from stabilize_celery.testing import Faults, Simulation
from tests.simulation.laws import Laws, LockLaws
from tests.simulation.stories import CALM, stage, workflow
from tests.simulation.tuning import seeds

STORMY = Faults(duplicate=0.2, lose=0.1, preempt=0.4, die=0.05)
PATIENT = Settings(lease_ms=3_600_000)
"""No body is given up while it runs: then bodies, too, are never more than the limit."""


class Contest:
    """Three workflows want one key; while a body runs the rest of the fleet goes on, and some are cancelled."""

    def __init__(self, seed: int, limit: int, faults: Faults, cancels: float) -> None:
        self.random = Random(seed)
        self.cancels = cancels
        self.inside = 0
        self.most = 0
        self.tokens: list[int] = []
        self.asked = 0
        self.simulation = Simulation(seed, {"critical": self.critical}, faults=faults, settings=PATIENT)
        self.laws, self.lock = Laws(self.simulation), LockLaws(self.simulation, limit)
        self.ids = [self.simulation.start(self._definition(limit)) for _ in range(3)]

    def _definition(self, limit: int) -> Workflow:
        mutex = {"does": "critical", "mutex_key": "k", "mutex_limit": limit}
        return workflow(stage("a", **mutex), stage("b", **mutex), stage("c", "a", **mutex))

    def critical(self, _stage: StageExecution) -> TaskResult:
        token = current_call().fencing_token
        assert token is not None
        self.tokens.append(token)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            for _ in range(self.random.randrange(3)):
                self._perhaps_cancel()
                self.simulation.meanwhile(self.random.randrange(3_000))
        finally:
            self.inside -= 1
        return TaskResult.success()

    def _perhaps_cancel(self) -> None:
        if self.random.random() < self.cancels:
            victim = self.random.choice(self.ids)
            self.asked += 1
            self.simulation.ask(victim, lambda: outside.cancel(victim, f"c{self.asked}", "had enough", "test"))

    def run(self) -> "Contest":
        self.simulation.run(*self.ids)
        self.simulation.drain(until_ms=self.simulation.now_us // 1000 + 3_700_000)
        return self


@pytest.mark.parametrize("seed", seeds(20))
@pytest.mark.parametrize("limit", [1, 2])
def test_a_lock_has_at_most_its_limit_of_holders_whatever_breaks(seed: int, limit: int) -> None:
    """Three workflows, storms and cancels: holders and bodies within the limit, in line, and everyone ends."""
    contest = Contest(seed, limit, STORMY, cancels=0.1).run()

    assert contest.lock.broken == []
    assert contest.most <= limit
    assert contest.simulation.store.locks() == []
    for workflow_id in contest.ids:
        contest.laws.require_the_end(workflow_id)


def test_in_a_calm_world_tokens_grow_in_the_order_of_the_bodies() -> None:
    """A storage that refuses older tokens accepts every holder in turn."""
    contest = Contest(3, 1, CALM, cancels=0).run()

    assert len(contest.tokens) == 9
    assert contest.tokens == sorted(set(contest.tokens))
