"""Mutexes and semaphores across workflows, under faults and cancels (PROTOCOL 8)."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import MutexScope
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
    """Some workflows want one key; while a body runs the rest of the fleet goes on, and some are cancelled."""

    def __init__(self, seed: int, limit: int, faults: Faults, cancels: float, width: int = 3) -> None:
        self.random = Random(seed)
        self.cancels = cancels
        self.inside = 0
        self.most = 0
        self.tokens: list[int] = []
        self.asked = 0
        self.simulation = Simulation(seed, {"critical": self.critical}, faults=faults, settings=PATIENT)
        self.laws, self.lock = Laws(self.simulation), LockLaws(self.simulation, limit)
        self.ids = [self.simulation.start(self._definition(limit)) for _ in range(width)]

    def _definition(self, limit: int) -> Workflow:
        mutex: dict[str, Any] = {"does": "critical", "mutex_key": "k", "mutex_limit": limit}
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
@pytest.mark.parametrize(("limit", "width"), [(1, 3), (2, 3), (3, 6)])
def test_a_lock_has_at_most_its_limit_of_holders_whatever_breaks(seed: int, limit: int, width: int) -> None:
    """Storms and cancels: holders and bodies within the limit, in line, and everyone ends."""
    contest = Contest(seed, limit, STORMY, cancels=0.1, width=width).run()

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


@pytest.mark.parametrize("limit", [2, 3])
def test_a_semaphore_is_used_to_its_limit(limit: int) -> None:
    """Over some schedules as many bodies as may were inside at once; tokens strictly grow by grant, each its own."""
    contests = [Contest(seed, limit, CALM, cancels=0, width=6).run() for seed in range(5)]

    assert max(contest.most for contest in contests) == limit
    for contest in contests:
        assert contest.lock.broken == []
        assert len(contest.tokens) == len(set(contest.tokens)) == 18


@pytest.mark.parametrize("seed", seeds(10))
def test_what_is_delivered_twice_hands_over_once(seed: int) -> None:
    """Every message comes at least twice, some inside the handling of the first: one body and one token per run."""
    contest = Contest(seed, 1, Faults(duplicate=1, lose=0, preempt=0.4, die=0), cancels=0).run()

    assert contest.lock.broken == []
    assert len(contest.tokens) == 9
    assert contest.tokens == sorted(set(contest.tokens))
    assert contest.simulation.store.locks() == []


class Rooms:
    """Bodies that take a while, and who was inside beside whom."""

    def __init__(self, seed: int, room_of: Callable[[StageExecution], str]) -> None:
        self.room_of = room_of
        self.inside: list[str] = []
        self.most = 0
        self.crowded: list[str] = []
        self.simulation = Simulation(seed, {"critical": self.critical}, settings=PATIENT)

    def critical(self, stage: StageExecution) -> TaskResult:
        room = self.room_of(stage)
        if room in self.inside:
            self.crowded.append(room)
        self.inside.append(room)
        self.most = max(self.most, len(self.inside))
        self.simulation.meanwhile(2_000)
        self.inside.remove(room)
        return TaskResult.success()

    def run(self, scope: MutexScope, applications: str) -> "Rooms":
        mutex = {"does": "critical", "mutex_key": "k", "mutex_scope": scope}
        ids = [
            self.simulation.start(replace(workflow(stage("a", **mutex), stage("b", **mutex)), application=name))
            for name in applications
        ]
        self.simulation.run(*ids)
        assert all(self.simulation.read(workflow_id).status.name == "SUCCEEDED" for workflow_id in ids)
        return self


def application_of(stage: StageExecution) -> str:
    return stage.execution.application


def workflow_of(stage: StageExecution) -> str:
    return stage.execution.id


@pytest.mark.parametrize(
    ("scope", "room_of", "most"),
    [
        (MutexScope.GLOBAL, lambda _stage: "all", 1),
        (MutexScope.APPLICATION, application_of, 2),
        (MutexScope.WORKFLOW, workflow_of, 3),
    ],
)
def test_a_key_is_shared_within_its_scope_and_not_beyond(
    scope: MutexScope, room_of: Callable[[StageExecution], str], most: int
) -> None:
    """Three workflows of two applications: all, those of an application, or the stages of one exclude each other."""
    rooms = [Rooms(seed, room_of).run(scope, "xxy") for seed in seeds(8)]

    assert [one.crowded for one in rooms if one.crowded] == []
    assert max(one.most for one in rooms) == most


@pytest.mark.parametrize("seed", seeds(10))
def test_a_lost_worker_does_not_lose_the_lock(seed: int) -> None:
    """Nobody else gets in between the attempts of the holder, and all of them have its token."""
    seen: list[tuple[str, int, int | None]] = []

    def critical(stage: StageExecution) -> TaskResult:
        call = current_call()
        seen.append((stage.execution.id, call.attempt, call.fencing_token))
        if len(seen) < 3:
            simulation.die()
        return TaskResult.success()

    simulation = Simulation(seed, {"critical": critical}, faults=Faults(die=0))
    ids = [simulation.start(workflow(stage("a", does="critical", mutex_key="k"))) for _ in range(3)]
    simulation.run(*ids)
    simulation.drain(until_ms=simulation.now_us // 1000 + 60_000)

    assert [workflow_id for workflow_id, _, _ in seen[:3]] == [seen[0][0]] * 3
    assert len({token for _, _, token in seen[:3]}) == 1
    assert len({workflow_id for workflow_id, _, _ in seen}) == 3
    assert simulation.store.locks() == []


@pytest.mark.parametrize("seed", seeds(20))
def test_different_limits_of_one_key_keep_nobody_out(seed: int) -> None:
    """In line and with growing tokens, never more than the highest of them, and everyone ends."""
    inside: list[str] = []
    most: list[int] = []

    def critical(_stage: StageExecution) -> TaskResult:
        inside.append("")
        most.append(len(inside))
        simulation.meanwhile(1_000)
        inside.pop()
        return TaskResult.success()

    simulation = Simulation(seed, {"critical": critical}, faults=STORMY, settings=PATIENT)
    laws, lock = Laws(simulation), LockLaws(simulation, 3)
    mutexes: list[dict[str, Any]] = [
        {"does": "critical", "mutex_key": "k", "mutex_limit": limit} for limit in (1, 3, 2, 1)
    ]
    ids = [simulation.start(workflow(stage("a", **mutex), stage("b", "a", **mutex))) for mutex in mutexes]
    simulation.run(*ids)
    simulation.drain(until_ms=simulation.now_us // 1000 + 3_700_000)

    assert lock.broken == []
    assert max(most) <= 3
    for workflow_id in ids:
        laws.require_the_end(workflow_id)


@pytest.mark.parametrize("seed", seeds(10))
def test_a_section_that_is_entered_again_asks_again(seed: int) -> None:
    """Three workflows loop through a section each: whatever breaks, one is inside, and everyone ends."""
    passes: dict[str, set[str]] = {}

    def again(stage: StageExecution) -> TaskResult:
        keys = passes.setdefault(stage.execution.id, set())
        keys.add(current_call().idempotency_key)
        return TaskResult.jump_to("in") if len(keys) < 4 else TaskResult.success()

    tasks = {"critical": lambda _stage: TaskResult.success(), "again": again}
    simulation = Simulation(seed, tasks, faults=STORMY, settings=PATIENT)
    laws, lock = Laws(simulation), LockLaws(simulation, 1)
    inner = {"does": "critical", "mutex_key": "k", "mutex_section": "section"}
    loop = (stage("in", **inner), stage("out", "in", **inner), stage("z", "out", does="again", jump_targets=["in"]))
    ids = [simulation.start(workflow(*loop)) for _ in range(3)]
    simulation.run(*ids)
    simulation.drain(until_ms=simulation.now_us // 1000 + 3_700_000)

    assert lock.broken == []
    assert simulation.store.locks() == []
    for workflow_id in ids:
        laws.require_the_end(workflow_id)


@pytest.mark.parametrize("seed", seeds(10))
@pytest.mark.parametrize("is_waiting", [False, True])
def test_a_section_does_not_outlive_its_workflow(seed: int, is_waiting: bool) -> None:
    """Cancelled while a join in it waits for a branch: who asks afterwards gets the lock, who waited before as well."""
    tasks = {"work": lambda _stage: TaskResult.success()}
    simulation = Simulation(seed, tasks, faults=Faults(die=0), settings=PATIENT)
    section = {"mutex_key": "k", "mutex_section": "section"}
    outside_it = stage("outside", does="approval", context={"signal": "go"})
    first = simulation.start(workflow(stage("in", **section), outside_it, stage("end", "in", "outside", **section)))
    simulation.drain(until_ms=simulation.now_us // 1000 + 1_000)
    ids = [simulation.start(workflow(stage("a", mutex_key="k"))) for _ in range(2 * is_waiting)]
    simulation.drain(until_ms=simulation.now_us // 1000 + 1_000)

    simulation.ask(first, lambda: outside.cancel(first, "c", "had enough", "test"))
    simulation.drain(until_ms=simulation.now_us // 1000 + 2_000)
    ids.append(simulation.start(workflow(stage("a", mutex_key="k"))))
    simulation.run(*ids)

    assert [simulation.read(workflow_id).status.name for workflow_id in ids] == ["SUCCEEDED"] * len(ids)
    simulation.drain(until_ms=simulation.now_us // 1000 + 60_000)
    assert simulation.store.locks() == []
