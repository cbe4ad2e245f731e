"""The keeper, row by row of PROTOCOL section 5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.steps import SetFields, Slot
from stabilize_celery.runtime.lanes import lane_of
from stabilize_celery.runtime.ports import Claim
from stabilize_celery.store.contract import Session, Transaction, Undue
from tests.unit.runtime.world import START_MS, WORK, World

W, RUN = "01HWORKFLOW", "Run:t..0"


@pytest.fixture
def world() -> World:
    return World()


def test_an_entry_that_is_not_due_is_left_alone(world: World) -> None:
    """What was published less than R ago is not looked at."""
    world.owe(W, RUN)
    world.now_ms += world.settings.republish_ms - 1

    world.keeper.tick()

    assert world.publisher.take() == []
    assert world.due_in(W, RUN) == 1


def test_a_timer_is_published_when_it_falls_due(world: World) -> None:
    """A message that was never published goes out once at its time, and is looked at again after R."""
    world.owe(W, RUN, due_ms=START_MS + 60_000, nb=START_MS + 60_000, pub=0)
    world.run_for(59)
    assert world.publisher.take() == []

    world.now_ms = START_MS + 60_000
    world.keeper.tick()

    (message,) = world.publisher.take()
    assert (message.task_id, message.queue) == (f"{W}/{RUN}", WORK)
    assert world.entry(W, RUN).pub == world.now_ms
    assert world.due_in(W, RUN) == world.settings.republish_ms
    assert world.keeper.stats.published == 1


def test_a_retry_that_was_published_before_its_pause_goes_out_again(world: World) -> None:
    """`pub` older than the not-before time counts as never published."""
    world.owe(W, RUN, due_ms=START_MS + 5_000, nb=START_MS + 5_000, pub=START_MS)
    world.now_ms += 5_000

    world.keeper.tick()

    assert [message.kind for message in world.publisher.take()] == ["RunTask"]


def test_a_published_message_is_built_from_what_is_written(world: World) -> None:
    """Its kwargs are the ids of the entry, readable, and without what is empty."""
    arguments = {"ref_id": "s/1:x", "thread": "t", "task_index": 0, "task_type": "charge", "instance": None}
    world.owe(W, RUN, pub=0, a=pack(arguments))
    world.now_ms += 2_000

    world.keeper.tick()

    (message,) = world.publisher.take()
    assert message.kwargs == {
        "workflow_id": W,
        "ref_id": "s/1:x",
        "thread": "t",
        "task_index": 0,
        "task_type": "charge",
    }


def test_a_claim_whose_lease_ran_out_is_reaped(world: World) -> None:
    """The claim is gone, the loss is counted, and the task goes out at once."""
    world.owe(W, RUN, due_ms=START_MS + 9_000, own="dead#1:7/x", att=1, died="of something else, before")
    world.run_for(9)
    assert world.publisher.take() == []

    world.keeper.tick()

    entry = world.entry(W, RUN)
    assert (entry.own, entry.att, entry.lost, entry.pub, entry.died) == ("", 1, 1, world.now_ms, "")
    assert world.due_in(W, RUN) == world.settings.republish_ms
    assert [message.kind for message in world.publisher.take()] == ["RunTask"]
    assert world.keeper.stats.reaped == 1


@pytest.mark.parametrize("away_s", [5, 9, 60])
def test_a_keeper_that_was_cut_off_waits_for_who_may_have_been_it_too(world: World, away_s: int) -> None:
    """What ran out while it saw nothing is left for two thirds of a lease, in which who lives extends it."""
    world.run_for(6)
    world.owe(W, RUN, due_ms=world.now_ms + 4_000, own="dead#1:7/x", att=1)
    world.owe(W, "Run:u..0", due_ms=world.now_ms + 4_000, own="worker-1#1:7/x", att=1)
    world.now_ms += 1_000 * away_s
    back_ms = world.now_ms

    world.run_for(5.9)
    world.new_leases().extend([Claim(W, "Run:u..0", "worker-1")])
    assert world.publisher.take() == []
    assert (world.keeper.stats.spared, world.keeper.stats.reaped) == (2, 0)

    world.run_for(2)
    assert [message.task_id for message in world.publisher.take()] == [f"{W}/{RUN}"]
    assert 0 <= world.entry(W, RUN).pub - (back_ms + 6_000) <= world.settings.keeper_busy_ms
    assert world.entry(W, "Run:u..0").own


def test_a_new_keeper_waits_as_well(world: World) -> None:
    """It has seen nothing yet: a whole fleet may have started anew, or Redis just have come back."""
    world.owe(W, RUN, due_ms=START_MS + 1_000, own="dead#1:7/x", att=1)
    world.run_for(5.9)
    assert world.entry(W, RUN).own

    world.run_for(0.6)
    assert world.entry(W, RUN).own == ""


def test_each_claim_is_spared_once_in_a_silence(world: World) -> None:
    """Keepers that come and go, each of which knows nothing yet, do not leave a lost task lying for ever."""
    world.owe(W, RUN, due_ms=START_MS + 1_000, own="dead#1:7/x", att=1)
    for number in range(3):
        world.now_ms += 7_000
        world.new_keeper(f"worker-{number}").tick()

    assert world.entry(W, RUN).lost == 1


def test_who_was_silent_once_is_spared_in_the_next_outage_too(world: World) -> None:
    """What counts is that it has extended its lease since."""
    world.owe(W, RUN, due_ms=START_MS + 1_000, own="worker-1#1:7/x", att=1)
    for _ in range(3):
        world.now_ms += 20_000
        world.keeper.tick()
        world.new_leases().extend([Claim(W, RUN, "worker-1")])

    assert (world.keeper.stats.spared, world.keeper.stats.reaped) == (3, 0)


def test_a_clock_that_jumps_ends_no_lease(world: World) -> None:
    """A server that takes over may be ahead: all leases run out at once, though nobody has been silent."""
    world.owe(W, RUN, due_ms=START_MS + 9_000, own="worker-1#1:7/x", att=1)
    world.run_for(6)
    world.now_ms += 3_600_000
    world.run_for(1)

    assert world.keeper.stats.reaped == 0


def test_a_clock_that_falls_back_makes_no_keeper_wait_for_it(world: World) -> None:
    """It begins to count anew from the time that is told now."""
    world.run_for(20)
    world.now_ms -= 10_000
    world.keeper.renew()
    world.owe(W, RUN, due_ms=world.now_ms + 1_000, own="dead#1:7/x", att=1)
    for _ in range(7):
        world.now_ms += 1_000
        world.keeper.renew()
        world.keeper.tick()

    assert world.keeper.stats.reaped == 1


def test_a_member_of_due_without_an_entry_is_repaired(world: World) -> None:
    """It is taken out and counted; nothing is published."""
    world.owe(W, RUN)
    world.lose_hash(W, RUN)
    world.now_ms += 2_000

    world.keeper.tick()

    assert world.due_in(W, RUN) is None
    assert world.publisher.take() == []
    assert world.keeper.stats.repaired == 1


def test_a_replayed_dead_letter_waits_for_its_time(world: World) -> None:
    """An entry that is due before its not-before time would only be dropped by its handler."""
    world.owe(W, RUN, due_ms=START_MS, nb=START_MS + 30_000, pub=0)

    world.keeper.tick()

    assert world.publisher.take() == []
    assert world.due_in(W, RUN) == 30_000


def test_a_waiting_message_is_looked_at_when_its_age_has_doubled(world: World) -> None:
    """No copy is sent and the entry itself is not written; a probe goes through its queue."""
    world.owe(W, RUN, due_ms=START_MS + 8_000)
    before = world.raw(W, RUN)
    world.now_ms += 8_000

    world.keeper.tick()

    (probe,) = world.publisher.take()
    assert (probe.kind, probe.queue, probe.kwargs) == ("Probe", WORK, {"queue": WORK, "sent_ms": world.now_ms})
    assert world.due_in(W, RUN) == 8_000
    assert world.raw(W, RUN) == before


def test_a_lost_message_is_published_again_once_a_later_probe_came_back(world: World) -> None:
    """A probe that was sent more than 2 s later and came back: the queue has been drained past the message."""
    world.owe(W, RUN)
    world.store.probe_came_back(WORK, START_MS + 2_001)
    world.now_ms += 2_500

    world.keeper.tick()

    assert [message.task_id for message in world.publisher.take()] == [f"{W}/{RUN}"]
    assert world.raw(W, RUN)["again"] == b"1"
    assert world.due_in(W, RUN) == world.settings.republish_ms
    assert world.keeper.stats.again == 1


def test_how_long_a_message_has_waited_is_known_however_often_it_is_lost(world: World) -> None:
    """Metrics count from its first publication; whether it is lost again depends on the last one."""
    world.owe(W, RUN)
    for _ in range(3):
        world.now_ms += 10_000
        world.store.probe_came_back(WORK, world.now_ms - 1)
        world.keeper.tick()
        again_ms = world.now_ms
        assert [message.kind for message in world.publisher.take("RunTask")] == ["RunTask"]

    assert (world.entry(W, RUN).pub, world.entry(W, RUN).sent) == (START_MS, again_ms)
    world.now_ms += world.settings.republish_ms
    world.keeper.tick()
    assert world.publisher.take("RunTask") == []


def test_what_is_published_anew_is_as_old_as_that(world: World) -> None:
    """A task whose worker was lost had begun: its next wait begins then."""
    world.owe(W, RUN, own="dead#1:7/x", att=1, resent=START_MS - 60_000, pub=START_MS - 120_000)
    world.run_for(10)

    entry = world.entry(W, RUN)
    assert entry.pub > START_MS
    assert entry.sent == entry.pub


@pytest.mark.parametrize("sent_ms", [START_MS - 10, START_MS + 2_000])
def test_an_older_probe_proves_nothing(world: World, sent_ms: int) -> None:
    """Probes that were sent before the message, or within the cover for clock differences, do not count."""
    world.owe(W, RUN)
    world.store.probe_came_back(WORK, sent_ms)
    world.now_ms += 4_000

    world.keeper.tick()

    assert [message.kind for message in world.publisher.take()] == ["Probe"]


@pytest.mark.parametrize("other", ["stabilize.control", lane_of(WORK, 0), lane_of(WORK, 9)])
def test_a_probe_of_another_queue_or_lane_proves_nothing(world: World, other: str) -> None:
    """Queues are drained apart from each other, and so are the lanes of one."""
    world.owe(W, RUN, q=lane_of(WORK, 5))
    world.store.probe_came_back(other, START_MS + 60_000)
    world.now_ms += 4_000

    world.keeper.tick()

    assert world.publisher.take("RunTask") == []


def test_what_was_handled_meanwhile_is_not_touched(world: World) -> None:
    """An entry that changes between the keeper's read and its EXEC is somebody's work: nothing written or published."""
    world.owe(W, RUN, pub=0)
    keeper = world.new_keeper("worker-1", store=_Meddled(world, W, RUN))
    world.now_ms += 2_000

    keeper.tick()

    assert world.publisher.take() == []
    assert keeper.stats.conflicts == 1
    assert world.raw(W, RUN)["touched"] == b"1"
    assert world.entry(W, RUN).pub == 0


def test_one_conflict_does_not_hold_up_the_others(world: World) -> None:
    """A batch in conflict is done by halves: only the entry that is at work is left out."""
    same_partition = [w for w in (f"W{n}" for n in range(40)) if world.store.partition_of(w) == 0][:9]
    for workflow_id in same_partition:
        world.owe(workflow_id, RUN, pub=0)
    keeper = world.new_keeper("worker-1", store=_Meddled(world, same_partition[4], RUN))
    world.now_ms += 2_000

    keeper.tick()

    published = {message.task_id for message in world.publisher.take()}
    assert published == {f"{w}/{RUN}" for w in same_partition if w != same_partition[4]}


def test_a_parked_entry_does_not_come_back(world: World) -> None:
    """Parking takes the entry out of `due` without writing to it: a keeper that has read it before must not undo that."""
    world.owe(W, RUN, pub=0)
    keeper = world.new_keeper("worker-1", store=_Parked(world, W, RUN))
    world.now_ms += 2_000

    keeper.tick()

    assert world.due_in(W, RUN) is None


@pytest.mark.parametrize("away_s", [10, 70, 3_600])
@pytest.mark.parametrize("is_new", [False, True], ids=["the keeper stays", "another keeper takes over"])
def test_what_the_broker_did_not_take_goes_out_soon_after_it_is_back(world: World, away_s: int, is_new: bool) -> None:
    """However long it was away: a minute, or an hour. It may have lost what it had, and what it refused is not there."""
    world.owe(W, "Run:sent..0")
    world.owe(W, RUN, pub=0)
    world.publisher.is_away = True
    world.run_for(away_s)
    if is_new:
        world.keeper.give_back()
        world.keeper = world.new_keeper("worker-2")
        world.run_for(12)

    world.publisher.is_away = False
    back_ms = world.now_ms

    assert _brought(world, 2) == {f"{W}/Run:sent..0", f"{W}/{RUN}"}
    assert world.now_ms - back_ms < 15_000
    assert world.keeper.stats.again == 2


def test_what_waited_before_a_broker_was_lost_goes_out_within_minutes(world: World) -> None:
    """A backlog of two hours was in it: nobody waits two more hours to see that it is gone."""
    world.owe(W, RUN)
    world.run_for(7_200)
    world.publisher.take()

    lost_ms = world.now_ms

    assert _brought(world, 1) == {f"{W}/{RUN}"}
    assert world.now_ms - lost_ms < 2 * 300_000


def test_a_broker_that_refuses_is_told_of_as_long_as_that_lasts(world: World) -> None:
    """What it refuses is tried again and again, not ever more rarely: an alert on that must not end first."""
    world.owe(W, RUN)
    world.publisher.is_away = True
    world.run_for(600)
    before = world.keeper.stats.unpublished

    world.run_for(25)

    assert world.keeper.stats.unpublished >= before + 2


def test_a_backlog_that_outlived_an_outage_is_left_to_grow_old(world: World) -> None:
    """The broker has kept it, and the probe waits behind it: it is looked at ever more rarely again, and not doubled."""
    world.owe(W, RUN)
    world.publisher.is_away = True
    world.run_for(600)
    world.publisher.is_away = False
    world.run_for(600)

    kinds = [message.kind for message in world.publisher.take()]
    assert set(kinds) == {"Probe"}
    assert len(kinds) < 12


def _brought(world: World, count: int) -> set[str]:
    """Let the broker, which is empty, bring each probe back until so many messages were sent; return which."""
    found: set[str] = set()
    while len(found) < count and world.now_ms < START_MS + 4 * 3_600_000:
        world.run_for(0.25)
        for message in world.publisher.take():
            if message.kind == "Probe":
                world.store.probe_came_back(message.queue, message.kwargs["sent_ms"])
            else:
                found.add(message.task_id)
    return found


class _Meddled:
    """A store in which somebody writes to one entry between every read and EXEC of a session."""

    def __init__(self, world: World, workflow_id: str, name: str) -> None:
        self._world = world
        self._workflow_id = workflow_id
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.store, name)

    @contextmanager
    def session(self, slot: Slot) -> Iterator[Session]:
        with self._world.store.session(slot) as session:
            yield _MeddledSession(session, self.meddle)

    def meddle(self) -> None:
        touched = SetFields(f"m:{self._name}", {"touched": 1})
        self._world.write(self._workflow_id, Transaction([touched]))


class _Parked(_Meddled):
    """A store in which the entry is parked between read and EXEC."""

    def meddle(self) -> None:
        self._world.write(self._workflow_id, Transaction(ledger=[Undue(self._name)]))


class _MeddledSession:
    def __init__(self, session: Session, meddle: Any) -> None:
        self._session = session
        self._meddle = meddle

    def read(self, *args: Any, **kwargs: Any) -> Any:
        snapshot = self._session.read(*args, **kwargs)
        self._meddle()
        return snapshot

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
