"""What a keeper does with entries that it can't read: of a newer version, or corrupt."""

from __future__ import annotations

from typing import Any

import pytest

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.steps import Add, Change, SetFields, Value
from stabilize_celery.store.contract import Due, Transaction
from tests.unit.runtime.world import World

W, RUN = "01HWORKFLOW", "Run:t..0"


@pytest.fixture
def world() -> World:
    return World()


def test_a_message_type_of_a_newer_version_is_published_all_the_same(world: World) -> None:
    """The worker that knows it may be another one."""
    world.begin(W)
    world.owe(W, "Compensate:t", t="Compensate", a=pack({"ref_id": "pay", "wave": 3}), pub=0, parked="unknown type")
    world.now_ms += 2_000

    world.keeper.tick()

    (message,) = world.publisher.take()
    assert (message.kind, message.kwargs) == ("Compensate", {"workflow_id": W, "ref_id": "pay", "wave": 3})


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
