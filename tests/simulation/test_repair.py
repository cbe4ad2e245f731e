"""The repair sweep: what is lost or wrong is found and mended, and what is well is left alone (PROTOCOL 11)."""

from __future__ import annotations

from random import Random

import pytest

from stabilize_celery.engine import outside, places
from stabilize_celery.engine.restart import restart
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import ENTRY, RUN
from stabilize_celery.engine.steps import (
    Add,
    Delete,
    Hash,
    Increment,
    SetFields,
    workflow_slot,
)
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.store.contract import Drop, Undue
from tests.simulation.clinic import MOVERS, Clinic, clinic, gate, shapes
from tests.simulation.stories import ROUGH, stage, workflow
from tests.simulation.tuning import seeds

# -- what is well ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(12))
@pytest.mark.parametrize("shape", shapes())
def test_a_healthy_workflow_is_left_alone_at_every_moment(shape: str, seed: int) -> None:
    """However deliveries are doubled, lost and interrupted: between any two steps there is nothing to repair."""
    patient = clinic(seed, ROUGH).start(*shapes()[shape]())
    found: list[Finding] = []
    while patient.simulation.step() and not patient.workflow.status.is_complete:
        found += patient.swept()

    assert found == []
    assert patient.status == "SUCCEEDED"
    assert patient.surveyed() == []


def test_waiting_is_no_standstill() -> None:
    """A signal, a choice, a milestone, a lock, an inner workflow and a pause are reasons to wait."""
    waiting = [
        gate("signal"),
        stage("pick", deferred_choice_group="g"),
        stage("other", deferred_choice_group="g"),
        stage("late", "signal"),
        stage("held", milestone_ref_id="late", milestone_status="SUCCEEDED"),
        gate("holder", mutex_key="k"),
        stage("waiter", mutex_key="k"),
        stage("call", does=[], sub_workflow="inner"),
    ]
    inner = workflow(gate("in"))
    patient = clinic().start(*waiting, sub_workflows={"inner": inner})
    patient.run()

    assert patient.swept() == []
    patient.ask(outside.pause, "ops")
    patient.ask(outside.signal, "signal", "go", None)
    patient.run()
    assert patient.swept() == []
    assert patient.surveyed() == []


def at_some_moment(shape: str, seed: int) -> tuple[Clinic, str]:
    """Return a workflow in the middle of its life, and something that is owed to it then."""
    steps = 0
    patient = clinic(seed).start(*shapes()[shape]())
    while patient.owed(*MOVERS) and not patient.workflow.status.is_complete:
        patient.simulation.step()
        steps += 1
    random = Random(seed)
    patient = clinic(seed).start(*shapes()[shape]())
    for _ in range(random.randrange(steps)):
        patient.simulation.step()
    return patient, random.choice(patient.owed(*MOVERS))


# -- what is lost ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(15))
@pytest.mark.parametrize("shape", shapes())
def test_a_lost_entry_is_owed_again(shape: str, seed: int) -> None:
    """Whatever message is forgotten at whatever moment, the workflow ends as it would have."""
    patient, name = at_some_moment(shape, seed)
    patient.write(ledger=[Drop(name)])

    patient.recovered()

    assert patient.status == "SUCCEEDED"
    assert set(patient.statuses.values()) == {"SUCCEEDED"}


@pytest.mark.parametrize("seed", seeds(15))
@pytest.mark.parametrize("shape", shapes())
def test_what_is_not_due_any_more_is_due_again(shape: str, seed: int) -> None:
    """An entry that `due` has lost is made due; nothing else is written."""
    patient, name = at_some_moment(shape, seed)
    patient.write(ledger=[Undue(name)])

    (found,) = patient.swept()

    assert (found.kind, name in found.told, found.is_mended) == ("not_due", True, True)
    assert patient.recovered().status == "SUCCEEDED"


def test_a_claimed_task_that_is_not_due_keeps_its_lease() -> None:
    """Its worker may well be alive: it gets a lease to say so before it is given up."""
    patient = clinic().start(stage("a"))
    name = patient.run_until("Run:")
    patient.write(SetFields(places.ledger(name), {"own": "w#1:7/x", "att": 1}), ledger=[Undue(name)])
    now_ms = patient.simulation.now_us // 1000

    patient.swept()

    _, due = patient.simulation.store.first_due(range(16), 9)
    (at_ms,) = (entry.due_ms for entries in due.values() for entry in entries if entry.name == name)
    assert at_ms >= now_ms + patient.simulation.settings.lease_ms


def test_the_result_of_an_attempt_from_before_the_loss_does_not_count() -> None:
    """The task that is owed again starts with an attempt number above all that were given."""
    patient = clinic().start(stage("a"))
    name = patient.run_until("Run:")
    thread, run = patient.run_of("a")
    tasks = RUN.encode(tasks=[{"status": "RUNNING", "attempts": 3}])
    patient.write(SetFields(places.run(thread), tasks), ledger=[Drop(name)])

    patient.swept()

    key = Hash(places.ledger(name))
    assert ENTRY.decode(patient.simulation.store.look(workflow_slot(patient.id), (key,))[key]).att > run.att + 6


def test_a_standstill_is_judged() -> None:
    """RUNNING, nothing moves, nothing is owed: Settle and the joins are owed again, and the workflow ends."""
    patient = clinic().start(stage("a"))
    patient.run_until("Settle")
    patient.write(ledger=[Drop("Settle")])

    (found,) = patient.swept()

    assert (found.kind, found.is_mended) == ("standstill", True)
    assert patient.recovered().status == "SUCCEEDED"


def test_lost_judgements_of_joins_come_with_the_standstill() -> None:
    """Both branches have arrived and the join was never told: it fires after all."""
    patient = clinic().start(stage("a"), stage("b"), stage("c", "a", "b"))
    patient.run_until("Eval:")
    for _ in range(10_000):
        names = patient.owed("Eval:", "Settle")
        if not patient.owed("Start:", "Run:", "Done:"):
            break
        patient.write(ledger=[Drop(name) for name in names])
        patient.simulation.step()
    patient.write(ledger=[Drop(name) for name in patient.owed("Eval:", "Settle")])

    patient.recovered()

    assert patient.statuses == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "SUCCEEDED"}


@pytest.mark.parametrize("wrong_by", [-1, 1, 5])
def test_a_wrong_count_is_set_right(wrong_by: int) -> None:
    """Too high, the workflow would never end; too low, it would end over those who move."""
    patient = clinic().start(gate("a"), stage("b", "a"))
    patient.run()
    patient.write(Increment(places.COUNTERS, "act", wrong_by))

    (found,) = patient.swept()

    assert (found.kind, found.told) == ("count", f"{1 + wrong_by} threads are counted, 1 move")
    patient.ask(outside.signal, "a", "go", None)
    assert patient.run().status == "SUCCEEDED"


def test_ghosts_are_counted_no_more() -> None:
    """A thread that counts as live and has no run any more does not keep the workflow open."""
    patient = clinic().start(gate("a"))
    patient.run()
    patient.write(Add(places.LIVE, ("nobody",)), Increment(places.COUNTERS, "act", 1))

    assert {found.kind for found in patient.swept()} == {"count"}

    patient.ask(outside.signal, "a", "go", None)
    assert patient.run().status == "SUCCEEDED"


def test_a_waiter_that_its_box_forgot_waits_again() -> None:
    """The task is asked again, and waits for its signal."""
    patient = clinic().start(gate("a"))
    patient.run()
    patient.write(Delete((places.signals("a"),)))

    (found,) = patient.swept()
    patient.run()

    assert "SUSPENDED" in found.told
    patient.ask(outside.signal, "a", "go", None)
    assert patient.run().status == "SUCCEEDED"


def test_who_waits_for_a_milestone_is_told_again() -> None:
    """The list of those who wait was lost: they stand in it again."""
    stages = [gate("m"), stage("held", milestone_ref_id="m", milestone_status="SUCCEEDED")]
    patient = clinic().start(*stages)
    patient.run()
    patient.write(Delete((places.milestone_waiters("m"),)))

    assert [found.kind for found in patient.swept()] == ["run"]

    patient.ask(outside.signal, "m", "go", None)
    assert patient.run().statuses["held"] == "SUCCEEDED"


def test_what_waits_for_a_sections_lock_asks_again() -> None:
    """The section's request was lost: whoever waits starts anew, and asks."""
    patient = clinic().start(stage("a", mutex_key="k", mutex_section="s"))
    patient.run_until("Lock:")
    patient.write(ledger=[Drop(name) for name in patient.owed("Lock:")])
    patient.write(SetFields(places.run(section_thread("s")), {"lock": "done"}))

    assert [found.kind for found in patient.swept()] == ["run"]
    assert patient.recovered().status == "SUCCEEDED"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_caller_hears_of_its_inner_workflow(moment: str) -> None:
    """The start of the child, or the news of its end, was lost: it is owed again."""
    patient = clinic().start(
        stage("call", does=[], sub_workflow="inner"), sub_workflows={"inner": workflow(stage("x"))}
    )
    patient.run_until("Child:" if moment == "before" else "ChildDone:")
    patient.write(ledger=[Drop(name) for name in patient.owed("Child:", "ChildDone:")])

    assert [found.kind for found in patient.swept()] == ["run"]
    assert patient.recovered().status == "SUCCEEDED"


def test_an_offer_that_nobody_can_choose_is_told_and_left() -> None:
    """There is no way to tell what it was: nothing is guessed."""
    patient = clinic().start(stage("a", deferred_choice_group="g"), stage("b", deferred_choice_group="g"))
    patient.run()
    patient.write(Delete((places.offers("g"),)))

    found = patient.swept()

    assert [(one.kind, one.mends, one.is_mended) for one in found] == [("run", "", False)] * 2
    assert patient.sweep.stats.unmended == 2


def test_what_was_parked_comes_back_with_the_resume() -> None:
    """The pause is over, but the message that brings back what was parked was lost."""
    patient = clinic().start(stage("a"), stage("b", "a"))
    patient.ask(outside.pause, "ops")
    patient.run()
    patient.ask(outside.resume)
    patient.write(ledger=[Drop("Unpark")])

    (found,) = patient.swept()

    assert (found.kind, found.mends) == ("not_due", "owe Unpark again")
    assert patient.recovered().status == "SUCCEEDED"


def test_what_was_parked_when_it_ended_is_not_missed_after_a_restart() -> None:
    """Cancelled while paused, restarted beside what was held back then: there is nothing to repair."""
    patient = clinic().start(gate("a"), stage("b", "a"), gate("c"))
    patient.simulation.pass_time(10_000)
    patient.ask(outside.pause, "ops")
    patient.ask(outside.signal, "a", "go", None)
    patient.simulation.pass_time(10_000)
    assert patient.owed("Run:")
    patient.ask(outside.cancel, "no more", "ops")
    patient.simulation.pass_time(10_000)

    assert patient.ask(restart, "c").took_effect
    patient.simulation.pass_time(10_000)

    assert (patient.statuses["c"], patient.swept()) == ("SUSPENDED", [])


def test_a_workflow_that_waits_for_its_turn_begins() -> None:
    """Of a pipeline with few slots: the message that asks for one was lost."""
    limits = {"is_limit_concurrent": True, "max_concurrent_executions": 1, "pipeline_config_id": "p"}
    patient = clinic().start(stage("a"), **limits)
    patient.write(ledger=[Drop("Begin")])

    (found,) = patient.swept()

    assert found.is_mended
    assert patient.recovered().status == "SUCCEEDED"
