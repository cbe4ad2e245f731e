"""Dead letters: looked at, handled again, given up."""

import pytest

from stabilize_celery.client.dead_letters import dead_letters, drop, read_letter, replay
from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import SetFields, workflow_slot
from stabilize_celery.errors import WorkflowNotFoundError
from stabilize_celery.models.messages import LEDGER_VERSION
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.store.contract import Bury, Put, Transaction
from tests.unit.client.world import World, gate, stage, workflow


def buried(world: World) -> tuple[WorkflowHandle, str]:
    """Start a workflow whose only message is a dead letter; return its id, too."""
    handle = world.client.start(workflow(stage("a")))
    (name,) = (
        entry.name
        for entries in world.fleet.store.first_due(range(16), 100)[1].values()
        for entry in entries
        if entry.name.startswith("Start:")
    )
    fields = ENTRY.encode(tries=10, error="Traceback\nKeyError: 'x'")
    with world.fleet.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction([SetFields(ledger(name), fields)], [Bury(name, world.now_ms)]))
    # The broker's copy is delivered only after this test has looked.
    world.fleet._plan.clear()
    return handle, f"{handle.id}/{name}"


def test_a_dead_letter_is_listed_with_what_it_is_about(world: World):
    handle, letter_id = buried(world)

    (letter,) = dead_letters(world.client.store)

    assert (letter.id, letter.workflow_id, letter.kind, letter.ref_id) == (letter_id, handle.id, "StartStage", "a")
    assert (letter.tries, letter.error.splitlines()[-1]) == (10, "KeyError: 'x'")
    assert read_letter(world.client.store, letter_id) is not None
    assert read_letter(world.client.store, f"{handle.id}/Run:none") is None


def test_a_replayed_letter_is_handled(world: World):
    """It goes on as if it had never failed; once."""
    handle, letter_id = buried(world)

    assert replay(world.client.runtime, letter_id)
    assert not replay(world.client.runtime, letter_id)
    world.settle()

    assert handle.status() is WorkflowStatus.SUCCEEDED
    assert dead_letters(world.client.store) == []
    assert not replay(world.client.runtime, letter_id)


def test_a_dropped_letter_ends_its_workflow(world: World):
    """What nothing moves on any more ends TERMINAL, with the reason."""
    handle, letter_id = buried(world)

    assert drop(world.client.runtime, letter_id)
    world.settle()

    assert handle.status() is WorkflowStatus.TERMINAL
    assert "KeyError: 'x'" in str(handle.why()[0])
    assert dead_letters(world.client.store) == []
    assert not drop(world.client.runtime, letter_id)


def test_a_letter_that_is_not_due_yet_keeps_its_time(world: World):
    handle, letter_id = buried(world)
    later = world.now_ms + 60_000
    with world.fleet.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction([SetFields(ledger(letter_id.partition("/")[2]), ENTRY.encode(nb=later))]))

    assert replay(world.client.runtime, letter_id)
    due = [one for found in world.fleet.store.first_due(range(64), 9)[1].values() for one in found]
    assert [one.due_ms for one in due if f"{one.workflow_id}/{one.name}" == letter_id] == [later]
    world.settle(10)
    assert handle.status() is WorkflowStatus.RUNNING
    world.settle(60)

    assert handle.status() is WorkflowStatus.SUCCEEDED


def test_a_message_of_a_newer_version_is_listed(world: World):
    """It is not dead, but nobody here handles it: visible."""
    handle = world.start(gate())
    entry = {"t": "InventStage", "v": 9, "parked": "unknown message type"}
    with world.fleet.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction(ledger=[Put("Invent:x", entry, world.now_ms + 5000)]))

    (letter,) = dead_letters(world.client.store)

    assert (letter.kind, letter.is_unknown, letter.error) == ("InventStage", True, "unknown message type")


def test_a_known_type_in_a_newer_version_is_listed_and_can_be_dropped(world: World):
    """It rests just the same: neither its type nor its version is handled here."""
    handle = world.start(gate())
    entry = {"t": "StartStage", "v": LEDGER_VERSION + 1}
    with world.fleet.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction(ledger=[Put("Start:x", entry, world.now_ms + 5000)]))

    (letter,) = dead_letters(world.client.store)

    assert (letter.kind, letter.is_unknown) == ("StartStage", True)
    assert "does not know version" in letter.error
    assert drop(world.client.runtime, letter.id)
    assert dead_letters(world.client.store) == []


@pytest.mark.parametrize("act", [replay, drop])
def test_an_unknown_workflow_is_said(world: World, act):
    with pytest.raises(WorkflowNotFoundError):
        act(world.client.runtime, "nobody/Run:x")


@pytest.mark.parametrize(("does", "status"), [("fail", "TERMINAL"), ("work", "SUCCEEDED")])
def test_a_letter_of_an_ended_workflow_is_just_forgotten(does: str, status: str):
    """That has ended as it has: what was left to do is not done."""
    world = World(fail=lambda stage: TaskResult.terminal(error="no"))
    handle = world.start(stage("a", does=does))
    with world.fleet.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction(ledger=[Put("Finalize:x", {"t": "FinalizeStage"}, 0), Bury("Finalize:x", 0)]))

    outcome = drop(world.client.runtime, f"{handle.id}/Finalize:x")

    assert outcome
    assert outcome.told.endswith(f"the workflow is {status}")
    assert handle.status().name == status


def test_a_message_that_is_handled_as_it_should_is_not_dropped(world: World):
    """A mistyped name must not end a healthy workflow."""
    handle = world.start(gate())
    with world.fleet.store.session(workflow_slot(handle.id)) as session:
        entry = {"t": "StartStage", "a": pack({"ref_id": "x", "thread": "x"})}
        session.commit(Transaction(ledger=[Put("Start:x", entry, world.now_ms + 5000)]))

    outcome = drop(world.client.runtime, f"{handle.id}/Start:x")

    assert not outcome
    assert "not a dead letter" in outcome.told
    assert handle.status() is WorkflowStatus.RUNNING


def test_a_listing_tells_which_workflows_have_dead_letters(world: World):
    """Such a workflow waits for somebody to look: a list must not show it like any other."""
    handle, letter_id = buried(world)
    healthy = world.client.start(workflow(stage("b")))

    found = {item.id: item.dead_letters for item in world.client.list().items}

    assert found == {handle.id: (letter_id.partition("/")[2],), healthy.id: ()}


def set_fields(world: World, letter_id: str, **fields: bytes) -> None:
    """Write fields of an entry as a hand in Redis would."""
    workflow_id, _, name = letter_id.partition("/")
    with world.fleet.store.session(workflow_slot(workflow_id)) as session:
        session.commit(Transaction([SetFields(ledger(name), fields)]))


@pytest.mark.parametrize(
    "corrupt", [{"a": b"\xff\xfe junk"}, {"a": b"\x80"}, {"t": b"\xff\xfe"}, {"nb": b"soon"}, {"tries": b"x"}]
)
def test_an_entry_that_nobody_can_read_hides_no_other(world: World, corrupt: dict[str, bytes]):
    """What is due and corrupt is about to be set aside; until then, too, all the others are listed and shown."""
    _, letter_id = buried(world)
    other = world.client.start(workflow(stage("b", does="nobody")))
    world.settle(1)
    (name,) = (
        entry.name
        for entries in world.fleet.store.first_due(range(16), 100)[1].values()
        for entry in entries
        if entry.workflow_id == other.id
    )
    set_fields(world, f"{other.id}/{name}", **corrupt)

    assert letter_id in [letter.id for letter in dead_letters(world.client.store)]
    shown = read_letter(world.client.store, f"{other.id}/{name}")
    assert shown is not None
    assert "is corrupt" in shown.error


def test_a_letter_that_nobody_can_read_is_not_replayed(world: World):
    """It could not be handled again: it would be owed for ever, and its reason be lost."""
    handle, letter_id = buried(world)
    told = "the ledger entry is corrupt: its arguments a make no RunTask"
    set_fields(world, letter_id, t=b"Unreadable", a=b"\x80", error=told.encode())

    outcome = replay(world.client.runtime, letter_id)

    assert not outcome
    assert "drop it" in outcome.told
    assert [(letter.id, letter.error) for letter in dead_letters(world.client.store)] == [(letter_id, told)]
    assert drop(world.client.runtime, letter_id)
    assert handle.status() is WorkflowStatus.TERMINAL
    assert told in str(handle.why()[0])


def test_what_is_corrupt_and_due_can_be_dropped(world: World):
    """Its fields need not be readable for that."""
    handle = world.client.start(workflow(stage("a", does="nobody")))
    world.settle(1)
    (entry,) = (entry for entries in world.fleet.store.first_due(range(16), 9)[1].values() for entry in entries)
    set_fields(world, f"{handle.id}/{entry.name}", nb=b"soon")

    assert not replay(world.client.runtime, f"{handle.id}/{entry.name}")
    assert drop(world.client.runtime, f"{handle.id}/{entry.name}")

    assert handle.status() is WorkflowStatus.TERMINAL
    assert "nb is b'soon'" in str(handle.why()[0])
