"""Leases of running attempts: PROTOCOL section 4.1, rows heartbeat, child lost, warm shutdown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stabilize_celery.engine.steps import SetFields, Slot
from stabilize_celery.runtime.leases import is_owned_by
from stabilize_celery.runtime.ports import Claim
from stabilize_celery.store.contract import Transaction, Undue
from tests.unit.runtime.world import World

W, RUN = "01HWORKFLOW", "Run:t..0"
ME = "w0@host#1a2b3c4d"
MINE = f"{ME}:71/nonce"


@pytest.fixture
def world() -> World:
    world = World()
    world.owe(W, RUN, own=MINE, att=1, due_ms=world.now_ms + world.settings.lease_ms)
    return world


def test_a_heartbeat_moves_the_lease(world: World) -> None:
    """The entry is due a whole lease from now; nothing else of it is written."""
    before = world.raw(W, RUN)
    world.now_ms += 3_000

    assert world.new_leases().extend([Claim(W, RUN, ME)]) == []

    assert world.due_in(W, RUN) == world.settings.lease_ms
    assert world.raw(W, RUN) == before


def test_a_lease_that_is_extended_is_never_reaped(world: World) -> None:
    """A body may run for as long as its worker is heard of; once it is not, its lease runs out."""
    for _ in range(100):
        world.new_leases().extend([Claim(W, RUN, ME)])
        world.run_for(3)
    assert world.entry(W, RUN).own == MINE

    world.run_for(9)
    assert world.entry(W, RUN).own == ""
    assert world.entry(W, RUN).lost == 1


@pytest.mark.parametrize("late_ms", [0, 4_000])
def test_a_late_heartbeat_wins_against_a_keeper_that_has_read_before_it(world: World, late_ms: int) -> None:
    """The keeper has seen that the lease ran out, and writes last: it must not take the claim of a worker that lives."""
    leases = world.new_leases()

    class Beaten:
        """A store in which the heartbeat comes between the keeper's read and its EXEC."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        @contextmanager
        def session(self, slot: Slot) -> Iterator[Any]:
            with world.store.session(slot) as session:
                yield _Between(session, lambda: leases.extend([Claim(W, RUN, ME)]))

    world.keeper.give_back()
    keeper = world.new_keeper("worker-2")
    while world.due_in(W, RUN) != -late_ms:
        # Always in touch, so it spares nobody.
        world.now_ms += 1_000
        keeper.renew()
    keeper._store = Beaten()  # type: ignore[assignment]
    keeper.tick()

    assert world.entry(W, RUN).own == MINE
    assert world.entry(W, RUN).lost == 0
    assert world.due_in(W, RUN) == world.settings.lease_ms


@pytest.mark.parametrize("owner", ["w1@host#1a2b3c4d:71/nonce", "w0@host#1a2b3c4d5:1/nonce", ""])
def test_the_lease_of_another_worker_is_not_extended(owner: str) -> None:
    """Also where an attempt has been given to somebody else, or to nobody: that claim is told as not ours."""
    world = World()
    world.owe(W, RUN, att=2, due_ms=world.now_ms + 5_000, **({"own": owner} if owner else {}))

    assert world.new_leases().extend([Claim(W, RUN, ME)]) == [Claim(W, RUN, ME)]
    assert world.due_in(W, RUN) == 5_000


def test_a_claim_that_is_done_is_told(world: World) -> None:
    """The entry is gone: nothing to extend, and nothing comes back into `due`."""
    world.forget(W, RUN)

    assert world.new_leases().extend([Claim(W, RUN, ME)]) == [Claim(W, RUN, ME)]
    assert world.due_in(W, RUN) is None


def test_an_entry_that_left_due_is_not_put_back(world: World) -> None:
    """A buried entry stays buried, whoever still works on it."""
    world.write(W, Transaction(ledger=[Undue(RUN)]))

    world.new_leases().extend([Claim(W, RUN, ME)])

    assert world.due_in(W, RUN) is None


def test_all_claims_of_a_partition_cost_two_round_trips() -> None:
    """One read and one EXEC per partition, however many bodies run."""
    world = World()
    claims = [Claim(f"W{n}", RUN, ME) for n in range(50)]
    for claim in claims:
        world.owe(claim.workflow_id, RUN, own=MINE, due_ms=world.now_ms + 9_000)
    before = world.store.round_trips
    world.now_ms += 1_000

    assert world.new_leases().extend(claims) == []

    assert world.store.round_trips - before <= 4
    assert {world.due_in(claim.workflow_id, RUN) for claim in claims} == {9_000}


def test_a_lost_child_is_tried_again_at_once(world: World) -> None:
    """Its claim goes, the loss counts, the message goes out; one copy only, if the broker takes it."""
    assert world.new_leases().report_lost(W, RUN, f"{ME}:71", "signal 9")

    entry = world.entry(W, RUN)
    assert (entry.own, entry.lost, entry.att, entry.pub, entry.died) == ("", 1, 1, 0, "signal 9")
    (message,) = world.publisher.take()
    assert (message.kind, message.task_id, message.queue) == ("RunTask", f"{W}/{RUN}", "stabilize.work")
    world.keeper.tick()
    assert world.publisher.take() == []


def test_a_lost_child_is_tried_again_although_the_broker_was_away(world: World) -> None:
    """The keeper sees that it was never published."""
    world.publisher.is_away = True
    world.new_leases().report_lost(W, RUN, f"{ME}:71")
    world.publisher.is_away = False

    world.run_for(world.settings.republish_ms / 1000 + 0.5)

    assert [message.kind for message in world.publisher.take()] == ["RunTask"]


def test_another_child_of_the_worker_keeps_its_claim(world: World) -> None:
    """A duplicate delivery that dies in process 7 takes nothing from process 71."""
    assert not world.new_leases().report_lost(W, RUN, f"{ME}:7")
    assert world.entry(W, RUN).own == MINE
    assert world.publisher.take() == []


def test_handing_back_is_no_loss(world: World) -> None:
    """A worker that shuts down gives the task to the others, as if it had never begun."""
    assert world.new_leases().hand_back(W, RUN, ME)

    entry = world.entry(W, RUN)
    assert (entry.own, entry.lost) == ("", 0)
    assert [message.kind for message in world.publisher.take()] == ["RunTask"]


def test_a_task_that_has_ended_is_not_handed_back(world: World) -> None:
    """Its entry stays gone."""
    world.forget(W, RUN)

    assert not world.new_leases().hand_back(W, RUN, ME)
    assert world.raw(W, RUN) == {}


def test_a_report_is_made_in_spite_of_others_at_the_entry(world: World) -> None:
    """A conflict is tried again on what stands then."""
    store = _MeddledOnce(world)

    assert world.new_leases(store).report_lost(W, RUN, f"{ME}:71")
    assert store.reads == 2
    assert world.entry(W, RUN).lost == 1


class _MeddledOnce:
    """A store in which somebody writes to the entry between the first read and its EXEC."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.reads = 0

    @contextmanager
    def session(self, slot: Slot) -> Iterator[_MeddledOnce]:
        with self._world.store.session(slot) as session:
            self._session = session
            yield self

    def read(self, *args: Any) -> Any:
        snapshot = self._session.read(*args)
        self.reads += 1
        if self.reads == 1:
            self._world.write(W, Transaction([SetFields(f"m:{RUN}", {"touched": 1})]))
        return snapshot

    def commit(self, transaction: Transaction) -> Any:
        return self._session.commit(transaction)


@pytest.mark.parametrize(
    ("own", "owner", "expected"),
    [
        (MINE, MINE, True),
        (MINE, ME, True),
        (MINE, f"{ME}:71", True),
        (MINE, f"{ME}:7", False),
        (MINE, "w0@host#1a2b", False),
        ("", ME, False),
    ],
)
def test_whose_claim_it_is(own: str, owner: str, expected: bool) -> None:
    """The whole text, or a worker's or process' id that it begins with; never a piece of one."""
    assert is_owned_by(own, owner) is expected


class _Between:
    """A session with something between a read and what comes after it."""

    def __init__(self, session: Any, between: Any) -> None:
        self._session = session
        self._between = between

    def read(self, *args: Any, **kwargs: Any) -> Any:
        snapshot = self._session.read(*args, **kwargs)
        self._between()
        return snapshot

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
