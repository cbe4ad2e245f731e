"""The keeper, row by row of PROTOCOL section 5."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.steps import Add, Change, SetFields, Slot, Value
from stabilize_celery.runtime.keeper import FULL_BATCH_PAUSE_MS
from stabilize_celery.runtime.lanes import lane_of
from stabilize_celery.runtime.ports import Claim
from stabilize_celery.runtime.probes import Probes
from stabilize_celery.store.contract import Due, Session, Transaction, Undue, partition_slot
from tests.unit.runtime.world import START_MS, WORK, RecordingPublisher, World

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


def test_a_message_type_of_a_newer_version_is_published_all_the_same(world: World) -> None:
    """The worker that knows it may be another one."""
    world.begin(W)
    world.owe(W, "Compensate:t", t="Compensate", a=pack({"ref_id": "pay", "wave": 3}), pub=0, parked="unknown type")
    world.now_ms += 2_000

    world.keeper.tick()

    (message,) = world.publisher.take()
    assert (message.kind, message.kwargs) == ("Compensate", {"workflow_id": W, "ref_id": "pay", "wave": 3})


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


def test_nothing_is_forgotten_while_the_broker_is_away(world: World) -> None:
    """What the broker did not take comes round again, and goes out when the broker is back."""
    world.owe(W, RUN, pub=0)
    world.now_ms += 2_000
    world.publisher.is_away = True
    world.run_for(60)
    assert world.keeper.stats.unpublished > 0

    world.publisher.is_away = False
    for _ in range(600):
        world.run_for(0.25)
        for probe in (sent := world.publisher.take()):
            if probe.kind == "Probe":
                world.store.probe_came_back(WORK, probe.kwargs["sent_ms"])
        if any(message.kind == "RunTask" for message in sent):
            break

    assert world.now_ms - START_MS < 62_000 + 130_000
    assert world.keeper.stats.again == 1


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


def test_what_only_a_newer_worker_knows_is_published_seldom_and_shown(world: World) -> None:
    """Rests that double up to 5 minutes; the entry says why it rests, and keeps what this version does not know."""
    world.begin(W)
    world.owe(W, "Frob:1", t="Frobnicate", v=7, colour="blue", pub=0)
    world.now_ms += world.settings.republish_ms

    rests = []
    for _ in range(9):
        world.keeper.tick()
        rests.append(world.due_in(W, "Frob:1"))
        world.now_ms += rests[-1] or 0

    assert rests == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000]
    assert [message.kind for message in world.publisher.take()] == ["Frobnicate"] * 9
    assert "'Frobnicate'" in world.entry(W, "Frob:1").parked
    assert world.raw(W, "Frob:1")["colour"] == b"blue"


@pytest.mark.parametrize(
    ("field", "garbage"),
    [
        ("nb", "soon"), ("nb", "1e3"), ("nb", 10**18), ("pub", "-5"), ("lost", "007"), ("again", b"\xff"), ("rests", "-1"),
        ("v", ""), ("t", b"\xff\xfe"), ("q", b"\xff"), ("a", "not packed"), ("a", pack({"ref_id": "pay"})), ("a", pack([1])),
    ],
)  # fmt: skip
def test_a_corrupt_entry_is_set_aside_and_the_others_go_on(world: World, field: str, garbage: Any) -> None:
    """It is a dead letter whose error names it, its workflow and the field; whatever else was due goes out."""
    others = [f"W{n}" for n in range(8)]
    for workflow_id in (W, *others):
        world.owe(workflow_id, RUN, pub=0)
    world.write(W, Transaction([SetFields(f"m:{RUN}", {field: garbage})]))
    world.now_ms += 2_000

    world.keeper.tick()

    assert {message.task_id for message in world.publisher.take()} == {f"{name}/{RUN}" for name in others}
    assert [(letter.workflow_id, letter.name) for letter in world.store.dead_letters()] == [(W, RUN)]
    assert world.due_in(W, RUN) is None
    error = world.entry(W, RUN).error
    assert all(part in error for part in (RUN, W, f" {field} ")), error
    assert world.keeper.stats.set_aside == 1


def test_what_is_set_aside_can_be_read_by_everybody(world: World) -> None:
    """The bad field is gone, the others are as they were, so that it can be listed, replayed and dropped."""
    world.owe(W, RUN, pub=0, att=3)
    world.write(W, Transaction([SetFields(f"m:{RUN}", {"nb": "soon"})]))
    world.now_ms += 2_000

    world.keeper.tick()

    entry = world.entry(W, RUN)
    assert (entry.t, entry.att, entry.nb) == ("RunTask", 3, 0)


@pytest.mark.parametrize("intruder", [Add(f"m:{RUN}", ("a",)), SetFields(f"m:{RUN}", {"colour": "blue"})])
def test_what_is_no_entry_at_all_is_set_aside(world: World, intruder: Change) -> None:
    """Another kind of value under the key of an entry, or a hash without a type, says so as a dead letter."""
    others = [name for name in (f"W{n}" for n in range(40)) if world.store.partition_of(name) == 0][:9]
    broken = others.pop(4)
    for workflow_id in (broken, *others):
        world.owe(workflow_id, RUN, pub=0)
    world.lose_hash(broken, RUN)
    world.write(broken, Transaction([intruder]))
    world.now_ms += 2_000

    for _ in range(3):
        world.keeper.tick()

    assert {message.task_id for message in world.publisher.take()} == {f"{name}/{RUN}" for name in others}
    assert [letter.workflow_id for letter in world.store.dead_letters()] == [broken]
    assert broken in world.entry(broken, RUN).error
    assert world.entry(broken, RUN).exists


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


@pytest.mark.parametrize("status", ["GONE", ""])
@pytest.mark.parametrize("fields", [{"t": "Frobnicate"}, {"v": 7}])
def test_what_only_a_newer_worker_knows_is_forgotten_with_its_workflow(
    world: World, status: str, fields: dict[str, Value]
) -> None:
    """It would come round for ever: nobody of this version may handle it, and there is nothing left to handle it for."""
    if status:
        world.begin(W, status)
    world.owe(W, RUN, pub=0, **fields)
    world.now_ms += 2_000

    world.keeper.tick()

    assert world.raw(W, RUN) == {}
    assert world.due_in(W, RUN) is None
    assert world.publisher.take() == []
    assert world.keeper.stats.forgotten == 1


def test_what_only_a_newer_worker_knows_stays_while_its_workflow_is_kept(world: World) -> None:
    """A cancelled workflow may still owe something that must be done after its end."""
    world.begin(W, "CANCELED")
    world.owe(W, RUN, pub=0, t="Frobnicate")
    world.now_ms += 2_000

    world.keeper.tick()

    assert world.entry(W, RUN).exists
    assert world.due_in(W, RUN) == 5_000


def test_an_entry_without_its_arguments_has_no_type_either(world: World) -> None:
    """Nobody can make a message of it: replayed, it is what no version knows, and raises nowhere."""
    world.begin(W)
    world.owe(W, RUN, pub=0, a="not packed")
    world.now_ms += 2_000
    world.keeper.tick()
    entry = world.entry(W, RUN)
    assert (entry.t, message_of(entry, W), "no RunTask" in entry.error) == ("Unreadable", None, True)

    world.write(W, Transaction(ledger=[Due(RUN, world.now_ms)]))
    world.keeper.tick()

    assert "'Unreadable'" in world.entry(W, RUN).parked
