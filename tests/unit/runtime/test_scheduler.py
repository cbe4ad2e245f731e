"""Schedules start their workflows once, whoever looks and whatever fails; on memory and on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.client.schedules import Schedules
from stabilize_celery.engine.outside import cancel
from stabilize_celery.errors import CommitConflictError, PayloadError, UnreachableError
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.runtime.schedule_book import ScheduleBook
from stabilize_celery.runtime.scheduler import Scheduler, scheduled_id
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.cipher import KeyRing
from stabilize_celery.store.contract import Filter
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.store.vault import Vault
from stabilize_celery.tasks.registry import TaskRegistry

STAGE = {"ref_id": "a", "type": "x", "name": "a", "tasks": [{"name": "t", "implementing_class": "t"}]}
DEFINITION = {"application": "shop", "name": "w", "stages": [STAGE]}
T0 = 1_800_000_000_000


class Nobody:
    def publish(self, batch: Any) -> None:
        """Nothing is published."""


class Clock:
    """Time stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_ms = T0
        self.store = MemoryStore(lambda: self.now_ms * 1000)
        self.book = ScheduleBook(self.store)
        self.runtime = Runtime(self.store, TaskRegistry(), Nobody(), Settings(), "w")
        self.scheduler = self.another()

    def another(self, submit: Callable[..., str] | None = None) -> Scheduler:
        return Scheduler(self.store, submit or self.runtime.submit, "stabilize")

    def add(self, name: str = "s", **fields: Any) -> None:
        self.book.add(Schedule(**{"name": name, "definition": DEFINITION, "every_s": 10, **fields}))

    def step(self, after_s: float = 0) -> int:
        self.now_ms += round(after_s * 1000)
        return self.scheduler.step(range(self.store.partitions()))

    def started(self) -> list[str]:
        return sorted(item.id for item in self.store.listing(Filter(), 1000, None).items)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_time_starts_one_workflow(clock: Clock) -> None:
    clock.add()

    assert [clock.step(), clock.step(9.9), clock.step(0.1), clock.step(), clock.step(10)] == [0, 0, 1, 0, 1]
    assert clock.started() == sorted(scheduled_id("stabilize", "s", T0 + n * 10_000) for n in (1, 2))
    kept = clock.book.get("s")
    assert (kept.started, kept.last_ms, kept.next_ms) == (2, T0 + 20_000, T0 + 30_000)


def test_two_keepers_that_look_at_once_start_one(clock: Clock) -> None:
    """The second one looks while the first has started it, and not yet noted it."""
    clock.add()
    inner: list[int] = []

    def submit(definition: Any, *, workflow_id: str) -> str:
        started = clock.runtime.submit(definition, workflow_id=workflow_id)
        inner.append(clock.step())
        return started

    clock.now_ms += 10_000
    clock.another(submit).step(range(clock.store.partitions()))

    assert inner == [1]
    assert len(clock.started()) == 1
    assert clock.book.get("s").started == 1
    assert clock.step() == 0


def test_a_crash_after_the_start_does_not_start_it_again(clock: Clock) -> None:
    clock.add()

    def submit(definition: Any, *, workflow_id: str) -> str:
        clock.runtime.submit(definition, workflow_id=workflow_id)
        raise UnreachableError("Redis", "redis://", "gone")

    clock.now_ms += 10_000
    with pytest.raises(UnreachableError):
        clock.another(submit).step(range(clock.store.partitions()))

    assert clock.step() == 1
    assert len(clock.started()) == 1


def test_a_start_whose_commits_were_lost_is_still_due(clock: Clock) -> None:
    """Nothing was written: the next round starts it, and the schedule notes no error."""
    clock.add()

    def submit(definition: Any, *, workflow_id: str) -> str:
        raise CommitConflictError("others were first")

    clock.now_ms += 10_000
    assert clock.another(submit).step(range(clock.store.partitions())) == 0

    assert clock.step() == 1
    assert [kept.error for kept in clock.book.all()] == [""]


@pytest.mark.parametrize(("missed", "starts"), [("skip", 6), ("once", 6), ("all", 30)])
def test_a_fleet_that_was_away_makes_up_for_it(clock: Clock, missed: str, starts: int) -> None:
    """Up to a minute ago is only late: six of every ten seconds, and the one of just now."""
    clock.add(missed=missed)

    assert clock.step(300 - 1) in {starts, starts - 1}
    assert clock.step() == 0


def test_nothing_starts_while_it_is_paused_and_nothing_is_made_up_for(clock: Clock) -> None:
    clock.add(missed="all")
    assert clock.book.pause("s")

    assert clock.step(100) == 0
    assert (clock.book.get("s").is_paused, clock.book.get("s").next_ms) == (True, None)
    assert clock.book.resume("s")
    assert [clock.step(), clock.step(10)] == [0, 1]


def test_a_schedule_that_is_removed_is_gone(clock: Clock) -> None:
    clock.add()
    assert clock.book.remove("s")

    assert [clock.step(100), clock.book.get("s"), clock.book.all()] == [0, None, []]
    assert [act("s") for act in (clock.book.remove, clock.book.pause, clock.book.resume)] == [False] * 3


def test_skip_waits_for_the_workflow_before(clock: Clock) -> None:
    clock.add(overlap="skip")
    assert [clock.step(10), clock.step(10)] == [1, 0]
    kept = clock.book.get("s")
    assert (kept.started, kept.skipped) == (1, 1)

    clock.runtime.ask(kept.last_id, lambda: cancel(kept.last_id, "e", "", "me"))

    assert clock.step(10) == 1


def test_replacing_one_keeps_its_history_and_its_past_starts(clock: Clock) -> None:
    clock.add()
    clock.step(10)
    clock.add(definition={**DEFINITION, "name": "other"}, every_s=10, start_ms=T0)

    assert clock.book.get("s").started == 1
    assert clock.step(10) == 1
    assert len(clock.started()) == 2


def test_a_start_that_fails_says_why_and_the_next_is_tried(clock: Clock) -> None:
    clock.add()

    def submit(definition: Any, *, workflow_id: str) -> str:
        raise RuntimeError("no luck")

    clock.now_ms += 10_000
    clock.another(submit).step(range(clock.store.partitions()))
    assert clock.book.get("s").error == "RuntimeError: no luck"

    assert clock.step(10) == 1
    assert clock.book.get("s").error == ""


def test_all_are_listed_by_name(clock: Clock) -> None:
    for name in ("b", "a {x}", "c/d:e"):
        clock.add(name)

    assert [kept.schedule.name for kept in clock.book.all()] == ["a {x}", "b", "c/d:e"]


def test_looking_costs_one_round_trip_while_nothing_is_due(clock: Clock) -> None:
    clock.add()
    clock.store.partitions()
    before = clock.store.round_trips
    clock.step()

    assert clock.store.round_trips - before == 1


def test_the_same_on_a_real_server(redis_url: str) -> None:
    """Kept, listed, started once."""
    store = RedisStore(redis_url)
    try:
        book = ScheduleBook(store)
        book.add(Schedule(name="s", definition=DEFINITION, every_s=1, start_ms=store.time_ms() - 500))
        runtime = Runtime(store, TaskRegistry(), Nobody(), Settings(), "w")
        schedulers = [Scheduler(store, runtime.submit, "stabilize") for _ in range(2)]
        while book.get("s").started < 2:
            for scheduler in schedulers:
                scheduler.step(range(store.partitions()))
        assert len(store.listing(Filter(), 100, None).items) == 2
    finally:
        store.close()


# -- encryption keys ---------------------------------------------------------------------------------------------------

OLD, NEW = ("old", b"o" * 32), ("new", b"n" * 32)


def has_keys(clock: Clock, *keys: tuple[str, bytes]) -> None:
    """Start all processes anew with these keys, the newest first."""
    clock.store._vault = Vault(KeyRing(dict(keys)))
    clock.scheduler = clock.another()


@pytest.fixture
def rotated(clock: Clock) -> Clock:
    """A yearly schedule and a paused one, of a time before the key was rotated as the manual says."""
    has_keys(clock, OLD)
    clock.add("yearly", every_s=None, cron="0 0 1 1 *")
    clock.add("paused")
    clock.book.pause("paused")
    for keys in ((OLD, NEW), (NEW, OLD)):
        has_keys(clock, *keys)
        clock.step(1)
    has_keys(clock, NEW)
    return clock


def test_schedules_outlive_the_key_they_were_added_under(rotated: Clock) -> None:
    """However seldom they start: a key is dropped after the retention, and a schedule has none."""
    rotated.book.resume("paused")

    assert rotated.step(10) == 1
    assert rotated.step(366 * 24 * 3600) >= 1
    assert {kept.schedule.name: kept.error for kept in rotated.book.all()} == {"paused": "", "yearly": ""}
    assert rotated.book.get("yearly").schedule.cron == "0 0 1 1 *"


def test_what_is_sealed_with_the_newest_key_is_not_written_again(rotated: Clock, monkeypatch: Any) -> None:
    """It is looked at once an hour, and that is all."""
    rotated.step()
    monkeypatch.setattr(rotated.store, "session", lambda slot: pytest.fail(f"writes to {slot}"))

    rotated.step(3_700)


@pytest.fixture
def closed(clock: Clock) -> Clock:
    """Beside one that can be read, one under a key that was dropped too soon."""
    has_keys(clock, OLD)
    clock.add("lost")
    has_keys(clock, NEW)
    clock.add("fine")
    return clock


def test_one_that_cant_be_read_holds_up_no_other(closed: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """It says so itself, and starts what it has missed once somebody has the key."""
    assert closed.step(10) == 1
    assert "schedule 'lost'" in caplog.text

    fine, lost = closed.book.all()
    assert (fine.schedule.name, fine.started, fine.error) == ("fine", 1, "")
    assert (lost.schedule.name, lost.started) == ("lost", 0)
    assert "'old'" in lost.error
    assert lost.unreadable == lost.error == closed.book.get("lost").error

    has_keys(closed, NEW, OLD)
    assert closed.step() == 1
    assert closed.book.get("lost").error == ""


def test_one_that_cant_be_read_can_be_removed_paused_and_replaced(closed: Clock) -> None:
    """And not resumed or started: nobody knows what it is."""
    for act in (closed.book.resume, Schedules(closed.store, pytest.fail).start):
        with pytest.raises(PayloadError, match="'old'"):
            act("lost")

    assert closed.book.pause("lost")
    assert closed.book.get("lost").is_paused
    closed.add("lost")
    assert closed.step(10) == 2
    assert closed.book.remove("lost")
    assert [kept.schedule.name for kept in closed.book.all()] == ["fine"]
