"""What every handler does alike before it decides anything: duplicates, early and foreign messages, ends, pauses."""

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.registry import HANDLERS
from stabilize_celery.engine.steps import Decision, SetFields
from stabilize_celery.models.messages import LEDGER_VERSION, Message
from tests.unit.engine.driving import NOW_MS, World, plan_of
from tests.unit.engine.samples import SAMPLES

EVERY = [pytest.param(message, id=name) for name, message in SAMPLES.items()]
BEGINNERS = [pytest.param(message, id=name) for name, message in SAMPLES.items() if message.begins_work]
CLEANERS = [pytest.param(message, id=name) for name, message in SAMPLES.items() if message.works_after_end]
OTHERS = [pytest.param(message, id=name) for name, message in SAMPLES.items() if not message.works_after_end]


def world() -> World:
    return World().meta().stage(plan_of("a", "shell", "shell", "shell"))


def decide(message: Message, given: World) -> Decision:
    return given.decide(HANDLERS[type(message)](message, Rules(), 0))


@pytest.mark.parametrize("message", EVERY)
def test_a_duplicate_writes_nothing(message: Message) -> None:
    """No entry: it was done before, whatever the state of the workflow."""
    for status in ("RUNNING", "PAUSED", "SUCCEEDED"):
        decision = decide(message, world().workflow(status))

        assert decision.is_empty
        assert decision.keeps_entry
        assert "duplicate" in decision.note


@pytest.mark.parametrize("message", EVERY)
def test_an_early_delivery_writes_nothing(message: Message) -> None:
    """A duplicate of a delayed message must not bring it forward."""
    decision = decide(message, world().workflow().owed(message, nb=NOW_MS + 60_000))

    assert decision.is_empty
    assert decision.keeps_entry


@pytest.mark.parametrize("message", EVERY)
def test_a_newer_version_waits_for_a_newer_worker(message: Message) -> None:
    """Never dropped, never handled: it rests visibly, longer each time, up to five minutes."""
    rests = []
    for count in (0, 1, 20):
        decision = decide(message, world().workflow().owed(message, v=LEDGER_VERSION + 1, rests=count))
        assert decision.keeps_entry
        assert [type(change) for change in decision.changes] == [SetFields]
        rests.append(decision.defers[message.name] - NOW_MS)

    assert rests == [pytest.approx(5_000, abs=5), pytest.approx(10_000, abs=5), pytest.approx(300_000, abs=5)]


@pytest.mark.parametrize("message", EVERY)
def test_an_unknown_type_under_a_known_name_waits_for_a_newer_worker(message: Message) -> None:
    """The name is ours, what is owed under it is not."""
    decision = decide(message, world().workflow().owed(message, t="Unheard"))

    assert decision.keeps_entry
    assert "'Unheard'" in decision.note


@pytest.mark.parametrize("message", EVERY)
def test_a_workflow_in_a_status_of_a_newer_version_waits_for_a_newer_worker(message: Message) -> None:
    """It has not ended, as far as anybody here knows: nothing of it is deleted, dropped or begun."""
    decision = decide(message, world().workflow("HIBERNATING").run("t").owed(message))

    assert decision.keeps_entry
    assert decision.defers == {message.name: pytest.approx(NOW_MS + 5_000, abs=5)}
    assert [type(change) for change in decision.changes] == [SetFields]
    assert "'HIBERNATING'" in decision.note


@pytest.mark.parametrize("message", EVERY)
def test_a_message_that_is_not_the_one_owed_is_ignored(message: Message) -> None:
    """Kwargs that somebody made up do not act under a name that is owed."""
    other = SAMPLES["Done:t" if message.name != "Done:t" else "Start:t"]
    forged = world().workflow().put(places.ledger(message.name), _entry_of(other))

    decision = decide(message, forged)

    assert decision.is_empty
    assert decision.keeps_entry


@pytest.mark.parametrize("message", [each for each in EVERY if each.id != "Expire"])
def test_nothing_is_done_for_a_workflow_that_is_gone(message: Message) -> None:
    """Its entry is dropped; what retention left is treated as absent. (Expire is what removes the rest.)"""
    for given in (world(), world().workflow("GONE")):
        decision = decide(message, given.owed(message))

        assert not decision.keeps_entry
        assert decision.is_empty


@pytest.mark.parametrize("message", OTHERS)
@pytest.mark.parametrize("status", ["SUCCEEDED", "TERMINAL", "CANCELED"])
def test_after_the_end_messages_are_dropped(message: Message, status: str) -> None:
    """A stage does not start in a workflow that has ended."""
    decision = decide(message, world().workflow(status).owed(message))

    assert not decision.keeps_entry
    assert not decision.owes


@pytest.mark.parametrize("message", CLEANERS)
def test_cleaners_work_after_the_end(message: Message) -> None:
    """Locks, inner workflows, hooks and the rest are seen to whatever the status says."""
    decision = decide(message, world().workflow("CANCELED").owed(message))

    assert "ended" not in decision.note


@pytest.mark.parametrize("status", ["PAUSED", "BUFFERED"])
@pytest.mark.parametrize("message", BEGINNERS)
def test_what_begins_work_is_parked_while_the_workflow_holds_it_back(message: Message, status: str) -> None:
    """Out of `due`, into the set that a resume empties; the entry stays."""
    decision = decide(message, world().workflow(status).run("t", status="NOT_STARTED").owed(message))

    assert decision.parks == [message.name]
    assert decision.keeps_entry
    assert not decision.owes


def _entry_of(message: Message) -> dict[str, bytes]:
    given = World().owed(message)
    (keys,) = given.slots.values()
    found: dict[str, bytes] = keys[places.ledger(message.name)]
    return found
