"""Schedules start their workflows once, whoever looks and whatever fails; on memory and on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.client.schedules import Schedules
from stabilize_celery.engine.outside import cancel
from stabilize_celery.engine.steps import SetFields
from stabilize_celery.errors import CommitConflictError, PayloadError, UnreachableError
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.runtime.schedule_book import RECORD, ScheduleBook
from stabilize_celery.runtime.scheduler import Scheduler, scheduled_id
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.cipher import KeyRing
from stabilize_celery.store.contract import Filter, Transaction, partition_slot
from stabilize_celery.store.keys import schedule_record
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


@pytest.mark.parametrize("act", [ScheduleBook.pause, ScheduleBook.remove])
def test_one_that_is_paused_or_removed_while_a_keeper_looks_starts_nothing(
    clock: Clock, act: Callable[[ScheduleBook, str], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper has seen it due, and not yet begun with it."""
    clock.add()
    look = clock.store.look_many

    def slowly(*asked: Any, **more: Any) -> Any:
        found = look(*asked, **more)
        act(clock.book, "s")
        return found

    monkeypatch.setattr(clock.store, "look_many", slowly)

    assert clock.step(10) == 0
    assert clock.started() == []


def test_one_that_is_replaced_while_its_workflow_is_started_keeps_its_new_times(clock: Clock) -> None:
    """What the keeper notes of the start belongs to the old ones."""
    clock.add()

    def submit(definition: Any, *, workflow_id: str) -> str:
        clock.add(every_s=3600)
        return clock.runtime.submit(definition, workflow_id=workflow_id)

    clock.scheduler = clock.another(submit)

    clock.step(10)
    assert clock.book.get("s").next_ms == T0 + 10_000 + 3_600_000


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


@pytest.mark.parametrize(("missed", "starts"), [("skip", 0), ("once", 1), ("all", 2)])
def test_one_that_is_added_again_still_makes_up_for_what_was_missed(clock: Clock, missed: str, starts: int) -> None:
    """As each deployment does, after an outage too."""
    clock.add(every_s=600, missed=missed)
    clock.now_ms += 1_500_000
    clock.add(every_s=600, missed=missed)

    assert [clock.step(), clock.step(300)] == [starts, 1]


def test_one_that_is_added_again_and_again_keeps_its_rhythm(clock: Clock) -> None:
    """Every 50 s, it would never come to the end of its minute."""
    started = []
    clock.add(every_s=60)
    for _ in range(6):
        started.append(clock.step(50))
        clock.add(every_s=60, definition={**DEFINITION, "name": "other"})

    assert started == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("other", [{"every_s": 5}, {"every_s": None, "cron": "* * * * *"}, {"start_ms": T0 + 50_000}])
def test_other_times_count_from_when_they_are_given(clock: Clock, other: dict[str, Any]) -> None:
    """Those before were of the schedule before."""
    clock.add()
    clock.now_ms += 12_000
    clock.add(**other)

    assert clock.step() == 0
    assert clock.book.get("s").next_ms > clock.now_ms


def test_a_start_later_on_is_given_up_by_adding_it_without(clock: Clock) -> None:
    clock.add(start_ms=T0 + 1_000_000)
    clock.add()

    assert clock.step(10) == 1


@pytest.mark.parametrize("other", [{}, {"every_s": 7}])
def test_what_is_paused_stays_paused_when_it_is_added_again(clock: Clock, other: dict[str, Any]) -> None:
    """Somebody paused it for a reason; a deployment doesn't know it."""
    clock.add()
    clock.book.pause("s")
    clock.add(**other)

    assert clock.book.get("s").is_paused
    assert clock.step(100) == 0
    assert clock.book.resume("s")
    assert clock.step(10) == 1


def test_to_resume_what_is_not_paused_changes_nothing(clock: Clock) -> None:
    """What is due then stays so."""
    clock.add(every_s=600, missed="all")
    clock.now_ms += 1_500_000

    assert clock.book.resume("s")
    assert clock.step() == 2


def test_only_the_times_of_a_pause_are_not_made_up_for(clock: Clock) -> None:
    """Two were missed before, two in it, and two after it, before the workers were back."""
    clock.add(every_s=600, missed="all")
    clock.now_ms += 1_500_000
    clock.book.pause("s")
    clock.book.pause("s")
    assert clock.step(600) == 0
    clock.now_ms += 600_000
    clock.book.resume("s")
    clock.now_ms += 1_200_000

    assert clock.step() == 4
    assert clock.book.get("s").last_ms == T0 + 6 * 600_000
    assert scheduled_id("stabilize", "s", T0 + 3 * 600_000) not in clock.started()


def test_what_was_due_before_two_pauses_is_still_due(clock: Clock) -> None:
    clock.add(every_s=600, missed="all")
    clock.now_ms += 700_000
    for _ in range(2):
        clock.book.pause("s")
        clock.now_ms += 1_000_000
        clock.book.resume("s")

    assert clock.step() == 1
    assert clock.started() == [scheduled_id("stabilize", "s", T0 + 600_000)]


@pytest.mark.parametrize("act", ["add", "add other times", "pause", "pause and resume"])
def test_a_start_is_booked_though_the_schedule_is_changed_meanwhile(clock: Clock, act: str) -> None:
    """Else the next time would not know that it still runs, and start a second one beside it."""
    clock.add(overlap="skip")

    def submit(definition: Any, *, workflow_id: str) -> str:
        if act.startswith("add"):
            clock.add(overlap="skip", every_s=5 if "other" in act else 10)
        if act.startswith("pause"):
            clock.book.pause("s")
        if act.endswith("resume"):
            clock.book.resume("s")
        return clock.runtime.submit(definition, workflow_id=workflow_id)

    clock.now_ms += 10_000
    assert clock.another(submit).step(range(clock.store.partitions())) == 1
    kept = clock.book.get("s")
    assert (kept.started, kept.last_ms, kept.last_id) == (1, T0 + 10_000, *clock.started())
    assert kept.is_paused == (act == "pause")
    clock.book.resume("s")
    clock.step(10)

    assert len(clock.started()) == 1
    assert clock.book.get("s").skipped >= 1


def test_what_is_removed_while_it_fires_stays_removed(clock: Clock) -> None:
    clock.add()

    def submit(definition: Any, *, workflow_id: str) -> str:
        clock.book.remove("s")
        return clock.runtime.submit(definition, workflow_id=workflow_id)

    clock.now_ms += 10_000
    clock.another(submit).step(range(clock.store.partitions()))

    assert clock.book.all() == []
    assert clock.step(100) == 0


def spoil(clock: Clock, name: str, /, **spec: Any) -> dict[str, Any]:
    """Let a schedule have settings that this worker can't evaluate; return those it had."""
    before = clock.book.get(name).schedule.to_dict()
    with clock.store.session(partition_slot(clock.store.partition_of(name))) as session:
        session.commit(Transaction([SetFields(schedule_record(name), RECORD.encode(spec={**before, **spec}))]))
    return before


def test_one_that_a_worker_can_t_evaluate_holds_up_no_other(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Such as a time zone that only its producer's host has: it says so, and is looked at once a minute."""
    for name in ("a", "b", "c"):
        clock.add(name)
    before = spoil(clock, "b", cron="0 3 * * *", every_s=None, timezone="Mars/North")

    assert [clock.step(10), clock.step(10), clock.step(10)] == [2, 2, 2]
    assert "ZoneInfoNotFoundError" in clock.book.get("b").error
    assert len(caplog.records) == 1

    spoil(clock, "b", **before)
    clock.step(60)
    assert clock.book.get("b").error == ""
    assert clock.book.get("b").last_ms == clock.now_ms


def test_a_start_that_fails_says_why_and_the_next_is_tried(clock: Clock) -> None:
    clock.add()

    def submit(definition: Any, *, workflow_id: str) -> str:
        raise RuntimeError("no luck")

    clock.now_ms += 10_000
    clock.another(submit).step(range(clock.store.partitions()))
    assert clock.book.get("s").error == "RuntimeError: no luck"

    assert clock.step(10) == 1
    assert clock.book.get("s").error == ""


@pytest.mark.parametrize("wrong", [None, 5, b"s"])
def test_a_name_that_is_no_text_is_told(clock: Clock, wrong: Any) -> None:
    """As wherever something is asked for by its name."""
    for act in (clock.book.get, clock.book.pause, clock.book.resume, clock.book.remove):
        with pytest.raises(TypeError, match="the name of a schedule must be text, not"):
            act(wrong)


@pytest.mark.parametrize("name", ["", "a\ud800", "a\nb"])
def test_there_is_no_schedule_of_a_name_that_none_can_have(clock: Clock, name: str) -> None:
    clock.add()

    assert [act(name) for act in (clock.book.pause, clock.book.resume, clock.book.remove)] == [False] * 3
    assert clock.book.get(name) is None


def test_an_expression_is_kept_on_one_line(clock: Clock) -> None:
    """Read from a file it may end with a line break, which would stand wherever schedules are listed."""
    clock.add(cron=" 0 3\t* * *\n", every_s=None)

    assert clock.book.get("s").schedule.cron == "0 3 * * *"


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
    """It says so itself, is looked at once a minute, and starts what it has missed once somebody has the key."""
    assert [closed.step(10), closed.step()] == [1, 0]
    assert "schedule 'lost' can't be encrypted with the newest key" in caplog.text
    assert caplog.text.count("schedule 'lost' can't be looked at") == 1

    fine, lost = closed.book.all()
    assert (fine.schedule.name, fine.started, fine.error) == ("fine", 1, "")
    assert (lost.schedule.name, lost.started) == ("lost", 0)
    assert "'old'" in lost.error
    assert lost == closed.book.get("lost")
    assert lost.error == f"PayloadError: {lost.unreadable}"
    assert lost.next_ms == closed.now_ms

    has_keys(closed, NEW, OLD)
    assert closed.step(60) == 7 + 6
    assert closed.book.get("lost").error == ""


def test_one_that_cant_be_read_can_be_removed_paused_and_replaced(closed: Clock) -> None:
    """And not resumed or started: nobody knows what it is."""
    for act in (closed.book.resume, Schedules(closed.store, pytest.fail).start):
        with pytest.raises(PayloadError, match="'old'"):
            act("lost")

    assert closed.book.pause("lost")
    assert closed.book.get("lost").is_paused
    assert closed.step(10) == 1
    closed.add("lost")
    assert closed.book.get("lost").is_paused
    assert closed.book.resume("lost")
    assert closed.step(10) == 2
    assert closed.book.remove("lost")
    assert [kept.schedule.name for kept in closed.book.all()] == ["fine"]
