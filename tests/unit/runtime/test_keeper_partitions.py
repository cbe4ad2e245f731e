"""How keepers share partitions, and how often they look."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from stabilize_celery.engine.steps import Slot
from stabilize_celery.runtime.keeper import FULL_BATCH_PAUSE_MS
from stabilize_celery.runtime.probes import Probes
from stabilize_celery.store.contract import partition_slot
from tests.unit.runtime.world import START_MS, WORK, RecordingPublisher, World

W, RUN = "01HWORKFLOW", "Run:t..0"


@pytest.fixture
def world() -> World:
    return World()


def test_a_keeper_looks_often_only_while_something_is_due_soon(world: World) -> None:
    """Idle: one look per second, in one round trip; due within a second: four looks per second."""
    world.keeper.tick()
    before = world.store.round_trips
    assert world.keeper.tick() == world.settings.keeper_idle_ms
    assert world.store.round_trips == before + 1

    world.owe(W, RUN, due_ms=world.now_ms + 900)
    assert world.keeper.tick() == world.settings.keeper_busy_ms


def test_more_than_one_look_takes_is_followed_by_the_next_at_once() -> None:
    """At most `keeper_batch` entries per partition and look."""
    world = World(keeper_batch=10)
    for n in range(100):
        world.owe(W, f"Run:{n}..0", pub=0)
    world.now_ms += 2_000

    assert world.keeper.tick() == FULL_BATCH_PAUSE_MS
    assert len(world.publisher.take()) == 10
    world.run_for(1)
    assert len(world.publisher.take("RunTask")) == 90


def test_one_keeper_per_partition_and_the_next_takes_over(world: World) -> None:
    """Another keeper gets nothing while leases are renewed; once they are not, or are given back, it gets all."""
    other = world.new_keeper("worker-2")
    assert [world.keeper.held, other.held] == [(0, 1), ()]

    world.now_ms += world.keeper.lease_ms - 1
    world.keeper.renew()
    other.renew()
    assert other.held == ()

    world.now_ms += world.keeper.lease_ms + 1
    other.renew()
    assert other.held == (0, 1)

    other.give_back()
    world.keeper.renew()
    assert [world.keeper.held, other.held] == [(0, 1), ()]


def test_a_dead_keeper_is_replaced_before_the_tasks_of_its_worker_fall_due(world: World) -> None:
    """Its partitions are free, and somebody has tried to take them, within a task's lease."""
    assert world.keeper.lease_ms * 4 / 3 <= world.settings.lease_ms


def test_a_keeper_without_partitions_asks_nothing(world: World) -> None:
    """It costs no round trip."""
    other = world.new_keeper("worker-2")
    before = world.store.round_trips

    assert other.tick() == world.settings.keeper_idle_ms
    assert world.store.round_trips == before


def test_two_keepers_on_one_partition_publish_once(world: World) -> None:
    """The loser of the race finds the score moved on."""
    world.owe(W, RUN, pub=0)
    other = world.new_keeper("worker-2")
    other._held = [0, 1]
    world.now_ms += 2_000

    world.keeper.tick()
    other.tick()

    assert len(world.publisher.take()) == 1


def test_a_backlog_does_not_multiply() -> None:
    """1,000 tasks wait for an hour behind a queue that takes one in 3.6 s: hardly a copy, and all of them are done."""
    world = World()
    queue = _SlowQueue(world)
    for n in range(1_000):
        world.owe(f"W{n}", RUN)
        queue.waiting.append((f"W{n}/{RUN}", 0))

    for _ in range(3_700):
        world.run_for(1)
        queue.fill(world.publisher)
        queue.drain_for(1.0)

    assert queue.done == {f"W{n}/{RUN}" for n in range(1_000)}
    assert world.keeper.stats.again <= 20
    assert queue.probes <= 60


def test_probes_are_sent_less_and_less_often_until_one_comes_back() -> None:
    """1, 2, 4 .. 300 s apart; a return resets it."""
    probes = Probes("worker-1")
    sent = [now for now in range(0, 3_600_000, 500) if probes.wanted(WORK, START_MS + now, 0)]
    pauses = [later - sooner for sooner, later in pairwise(sent)]

    assert pauses[:9] == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000]
    assert set(pauses[9:]) == {300_000}

    back = START_MS + sent[-1]
    assert probes.wanted(WORK, back + 900, back) is None
    assert probes.wanted(WORK, back + 1_000, back) is not None


class _SlowQueue:
    """A queue with one worker that needs 3.6 s for each task, and handles probes at no cost."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.waiting: list[tuple[str, int]] = []
        self.done: set[str] = set()
        self.copies: Counter[str] = Counter()
        self.probes = 0
        self._time_s = 0.0

    def fill(self, publisher: RecordingPublisher) -> None:
        for message in publisher.take():
            self.copies[message.task_id] += 1
            self.waiting.append((message.task_id, message.kwargs.get("sent_ms", 0)))

    def drain_for(self, seconds: float) -> None:
        self._time_s += seconds
        while self.waiting and self._time_s > 0:
            task_id, sent_ms = self.waiting.pop(0)
            if sent_ms:
                self.probes += 1
                self.world.store.probe_came_back(WORK, sent_ms)
            elif task_id not in self.done:
                workflow_id, _, name = task_id.partition("/")
                self.world.forget(workflow_id, name)
                self.done.add(task_id)
                self._time_s -= 3.6


def test_a_partition_that_fails_does_not_hold_up_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is raised, for the log, after all partitions have been looked at."""
    names = [next(n for n in (f"W{i}" for i in range(99)) if world.store.partition_of(n) == p) for p in (0, 1)]
    for name in names:
        world.owe(name, RUN, pub=0)
    world.now_ms += 2_000
    session = world.store.session

    def broken(slot: Slot) -> Any:
        if slot == partition_slot(0):
            raise ZeroDivisionError("a bug")
        return session(slot)

    monkeypatch.setattr(world.store, "session", broken)
    with pytest.raises(ZeroDivisionError):
        world.keeper.tick()

    assert [message.task_id for message in world.publisher.take()] == [f"{names[1]}/{RUN}"]
