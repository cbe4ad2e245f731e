"""Repair of locks, of a whole namespace, and how the sweep goes about it (PROTOCOL 11)."""

from __future__ import annotations

import pytest

from stabilize_celery.engine import outside, places
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD
from stabilize_celery.engine.steps import (
    Add,
    Delete,
    DeleteFields,
    Increment,
    Rank,
    SetFields,
    lock_slot,
    workflow_slot,
)
from stabilize_celery.runtime.sweep import ROUND_MS
from stabilize_celery.store.contract import Bury, Drop, Put, Undue
from tests.simulation.clinic import clinic, gate, holding, threads
from tests.simulation.stories import stage

# -- locks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["nobody/t#1", "{id}/gone#1", "{id}/#0"])
def test_a_lock_is_freed_from_who_is_gone(owner: str) -> None:
    """Its workflow, its run, or its request is gone: who waits need not wait for its own next look."""
    patient = clinic().start(gate("a", mutex_key="k"), gate("b", mutex_key="k"))
    patient.run()
    (lock,) = patient.simulation.store.locks()
    patient.write(DeleteFields("h", tuple(lock.holders)), slot=lock_slot(lock.name))
    holding(patient, owner.format(id=patient.id))
    now_us = patient.simulation.now_us

    (found,) = patient.swept()
    patient.simulation.run(patient.id)

    assert (found.kind, found.is_mended) == ("lock", True)
    assert patient.statuses == {"a": "SUSPENDED", "b": "SUSPENDED"}
    assert patient.simulation.now_us - now_us < 250_000_000


def test_a_lock_that_nobody_waits_for_is_freed_by_the_survey() -> None:
    """Also one whose run has ended while its code was believed to run, and owes nothing that gives it back."""
    patient = clinic().start(stage("a", mutex_key="k"), gate("b", "a"))
    patient.run()
    thread = next(run for run in threads(patient, "a"))
    values = RUN.encode(lock="held", request=1, code_runs=True)
    patient.write(SetFields(places.run(thread), values))
    holding(patient, f"{patient.id}/{thread}#1")
    holding(patient, "nobody/t#1", lock="GLOBAL:other")
    assert [one.is_mended for one in patient.surveyed()] == [False, False]

    assert [one.is_mended for one in patient.surveyed(mends=True)] == [True, True]

    patient.ask(outside.signal, "b", "go", None)
    assert patient.run().status == "SUCCEEDED"
    assert patient.simulation.store.locks() == []
    assert patient.surveyed() == []


def test_what_fails_again_and_again_is_told_by_the_survey() -> None:
    """Its handling is tried for a quarter of an hour before it is a dead letter; nothing can be mended about it."""
    patient = clinic().start(stage("a"))
    (name,) = patient.owed("Start")
    values = ENTRY.encode(tries=3, error="Traceback\nKeyError: 'x'")
    patient.write(SetFields(places.ledger(name), values))

    for mends in (False, True):
        (found,) = patient.surveyed(mends=mends)
        assert (found.kind, found.mends, found.is_mended) == ("failing", "", False)
        assert found.told == f"{name} could not be handled, 3 times now: KeyError: 'x'"

    assert patient.run().status == "SUCCEEDED"
    assert patient.surveyed() == []


def test_a_slot_that_an_ended_workflow_has_kept_is_freed_by_the_survey() -> None:
    """Of a pipeline with few slots: nothing of the workflow is at work, and what would give the slot back was lost."""
    limits = {"is_limit_concurrent": True, "max_concurrent_executions": 1, "pipeline_config_id": "p"}
    patient = clinic().start(stage("a"), **limits)
    patient.run()
    patient.simulation.drain(until_ms=patient.simulation.now_ms + 60_000)
    patient.write(SetFields(places.WORKFLOW, WORKFLOW_RECORD.encode(lock_state="held")))
    holding(patient, f"{patient.id}/#0", lock="PIPELINE:tests:p")
    assert [one.is_mended for one in patient.surveyed()] == [False]

    assert [one.is_mended for one in patient.surveyed(mends=True)] == [True]

    patient.simulation.drain(until_ms=patient.simulation.now_ms + 60_000)
    assert patient.simulation.store.locks() == []
    assert patient.surveyed() == []


def test_a_waiter_that_is_gone_does_not_stand_in_line() -> None:
    """It is taken out before its turn comes."""
    patient = clinic().start(gate("a", mutex_key="k"), stage("b", mutex_key="k"))
    patient.run()
    patient.write(Rank("q", "nobody/t#1", 1), slot=lock_slot("GLOBAL:k"))

    (found,) = patient.swept()

    assert (found.kind, "nobody/t#1" in found.told) == ("lock", True)
    (lock,) = patient.simulation.store.locks()
    assert [owner.partition("/")[0] for owner, _ in lock.waiters] == [patient.id]


# -- the survey --------------------------------------------------------------------------------------------------------


def test_the_survey_tells_before_it_mends() -> None:
    """Without `mends` nothing is written; with it all is done, and then nothing is left."""
    patient = clinic().start(gate("a"), stage("b", "a"))
    patient.run()
    patient.write(Increment(places.COUNTERS, "act", 1))
    patient.write(ledger=[Put("Ghost:1", {"t": "Frobnicate", "v": 9}, 5), Undue("Ghost:1")])
    before = patient.simulation.store.owed()
    told = patient.surveyed()

    assert sorted(one.kind for one in told) == ["count", "not_due"]
    assert patient.surveyed() == told
    assert set(before) == set(patient.simulation.store.owed())
    mended = patient.surveyed(mends=True)
    assert [(one.kind, one.told) for one in mended] == [(one.kind, one.told) for one in told]
    assert all(one.is_mended for one in mended)
    assert patient.surveyed() == []


def test_the_survey_forgets_what_belongs_to_nobody() -> None:
    """Entries and dead letters of workflows that are gone, and places in `due` without an entry."""
    patient = clinic().start(gate("a"))
    patient.run()
    gone = workflow_slot("gone")
    entry = {"t": "Unlock", "v": 1}
    patient.write(slot=gone, ledger=[Put("Unlock:t#1", entry, 5), Undue("Unlock:t#1")])
    patient.write(slot=gone, ledger=[Put("Done:t", entry, 5), Bury("Done:t", 6)])
    patient.write(slot=gone, ledger=[Put("Start:t", entry, 2**50)])
    patient.write(Delete((places.ledger("Start:t"),)), slot=gone)

    found = patient.surveyed(mends=True)

    assert sorted(one.kind for one in found) == ["dead_letter", "dead_letter", "stray"]
    assert {workflow_id for workflow_id, _ in patient.simulation.store.owed()} == {patient.id} - (
        set() if patient.owed() else {patient.id}
    )
    assert patient.simulation.store.dead_letters() == []
    assert patient.surveyed() == []


@pytest.mark.parametrize("lost", ["Clear", "Expire"])
def test_an_ended_workflow_is_cleared_and_deleted_after_all(lost: str) -> None:
    """What would have done so was lost: the survey finds it, and in the end no key is left."""
    patient = clinic().start(gate("a"))
    patient.run()
    patient.ask(outside.cancel, "", "ops")
    patient.run_until(lost)
    patient.write(ledger=[Drop(lost)])

    assert [one.kind for one in patient.surveyed(mends=True)] == ["end"]

    patient.simulation.drain(until_ms=2**43)
    assert list(patient.simulation.store.owed()) == []


# -- how it looks ------------------------------------------------------------------------------------------------------


def test_a_workflow_that_cant_be_read_does_not_hold_up_the_others() -> None:
    """It is told as a finding; its neighbours are mended in the same step."""
    patient = clinic()
    ids = []
    for _ in range(3):
        ids.append(patient.start(gate("a")).id)
        patient.run()
        patient.write(Increment(places.COUNTERS, "act", 1))
    patient.write(Delete((places.COUNTERS,)), Add(places.COUNTERS, ("x",)))
    patient.id = ids[1]
    thread, _ = patient.run_of("a")
    patient.write(SetFields(places.run(thread), {"started_ms": "yesterday"}))

    found = {one.workflow_id: one.kind for one in patient.swept()}

    assert found == dict(zip(ids, ["count", "unreadable", "unreadable"], strict=True))
    assert patient.sweep.stats.repaired == 1


def test_each_repair_is_counted_and_stands_in_the_workflows_events() -> None:
    """With what was wrong and what was done."""
    patient = clinic().start(gate("a"))
    patient.run()
    patient.write(Increment(places.COUNTERS, "act", 1))

    patient.swept()

    assert patient.events("workflow.repaired") == [""]
    assert patient.sweep.stats.repaired == 1


def test_one_workflow_per_second_and_partition() -> None:
    """At most five of each partition per step of 5 s; each gets its turn, and few are not looked at all the time."""
    patient = clinic()
    ids = [patient.start(gate("a")).id for _ in range(200)]
    store = patient.simulation.store
    largest = max(sum(store.partition_of(name) == number for name in ids) for number in range(store.partitions()))
    looks = []
    for now_ms in range(0, 5_000 * (largest // 5 + 1), 5_000):
        before = patient.sweep.stats.inspected
        patient.sweep.step(range(store.partitions()), now_ms)
        looks.append(patient.sweep.stats.inspected - before)

    assert max(looks) <= 5 * store.partitions()
    assert patient.sweep.stats.inspected >= len(ids)
    few = clinic().start(gate("a"))
    for now_ms in range(0, 60_000, 5_000):
        few.sweep.step(range(16), now_ms)
    assert few.sweep.stats.inspected == 6


def test_a_sweep_over_nothing_costs_one_round_trip() -> None:
    """And none before its time has come."""
    patient = clinic()
    store = patient.simulation.store
    store.partitions()
    before = store.round_trips
    patient.sweep.step(range(16), 0)
    assert store.round_trips == before + 1
    patient.sweep.step(range(16), ROUND_MS - 1)
    assert store.round_trips == before + 1


def test_a_wide_workflow_is_looked_at_in_parts() -> None:
    """1,000 live runs: each look takes in some of them, and a lost entry is found when its turn comes."""
    patient = clinic().start(*(gate(f"s{number}") for number in range(1_000)))
    patient.simulation.run(patient.id)
    patient.write(DeleteFields(places.signals("s7"), ("waiters",)))

    found = [one for _ in range(6) for one in patient.swept()]

    assert [(one.kind, one.ref_id) for one in found] == [("run", "s7")]
