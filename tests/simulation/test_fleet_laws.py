"""Each law of the simulated fleet can be broken: a violation planted by hand is told. A law that never fails says nothing."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.state import ENTRY, RUN
from stabilize_celery.engine.steps import (
    Add,
    Change,
    DeleteFields,
    Rank,
    SetFields,
    Slot,
    lock_slot,
    workflow_slot,
)
from stabilize_celery.runtime.ports import Claim
from stabilize_celery.store.contract import Drop, Due, LedgerChange, Put, Transaction, Undue, partition_slot
from tests.simulation.fleet.fleet import Fleet, LawBrokenError
from tests.simulation.fleet.troubles import Incident, Troubles

W = workflow_slot("W")
LOCK = lock_slot("GLOBAL:till")
ENTRY_NAME = "Run:t..0"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet in which nothing happens by itself."""
    made = Fleet(1, {}, Troubles())
    yield made
    made.end()


def commit(fleet: Fleet, slot: Slot, *changes: Change | LedgerChange, events: tuple[Any, ...] = ()) -> None:
    """Write something that the product never would."""
    ledger = [one for one in changes if isinstance(one, Put | Drop | Due | Undue)]
    others = [one for one in changes if not isinstance(one, Put | Drop | Due | Undue)]
    with fleet.store.session(slot) as session:
        assert session.commit(Transaction(others, ledger, events)) is not None


def told(fleet: Fleet) -> str:
    return "\n".join(fleet.laws.broken)


def owed(name: str, **fields: Any) -> Put:
    return Put(name, {"t": "RunTask", "v": 1, "a": pack({}), **fields}, 1)


def test_a_transition_happens_once(fleet: Fleet) -> None:
    """A second start of one thread is seen."""
    started = {"kind": "stage.started", "ref": "a", "at": 1, "data": pack({"thread": "t"})}
    commit(fleet, W, events=(started,))
    assert "happened" not in told(fleet)

    commit(fleet, W, events=(started,))

    assert "stage.started of t of W happened 2 times" in told(fleet)


def test_a_final_status_stays(fleet: Fleet) -> None:
    """A run that leaves a complete state is seen."""
    commit(fleet, W, SetFields(places.run("t"), {"status": "SUCCEEDED"}))
    assert "final status" not in told(fleet)

    commit(fleet, W, SetFields(places.run("t"), {"status": "RUNNING"}))

    assert "SUCCEEDED -> RUNNING: a final status was left" in told(fleet)


def test_live_counts_match_what_moves(fleet: Fleet) -> None:
    """A thread that is counted twice is seen."""
    run = (SetFields(places.run("t"), RUN.encode(ref="a", status="RUNNING")), Add(places.LIVE, ("t",)))
    commit(fleet, W, *run, SetFields(places.COUNTERS, {"act": 1}))
    assert "act is" not in told(fleet)

    commit(fleet, W, SetFields(places.COUNTERS, {"act": 2}))

    assert "act is 2, but 1 runs and 0 offers move" in told(fleet)


def test_a_lock_has_as_many_holders_as_it_may(fleet: Fleet) -> None:
    """A second holder of a mutex is seen."""
    commit(fleet, LOCK, SetFields("h", {"W/t#1": 5}))
    assert told(fleet) == ""

    commit(fleet, LOCK, SetFields("h", {"V/t#1": 6}))

    assert "2 hold a lock of 1" in told(fleet)


def test_tokens_only_grow(fleet: Fleet) -> None:
    """A token that was given before, or is older, is seen."""
    commit(fleet, LOCK, SetFields("h", {"W/t#1": 5}))
    commit(fleet, LOCK, DeleteFields("h", ("W/t#1",)))
    assert told(fleet) == ""

    commit(fleet, LOCK, SetFields("h", {"V/t#1": 5}))

    assert "token 5 is not above 5" in told(fleet)


def test_first_come_is_first_served(fleet: Fleet) -> None:
    """Whoever passes the line is seen."""
    commit(fleet, LOCK, Rank("q", "W/t#1", 1), Rank("q", "V/t#1", 2))
    assert told(fleet) == ""

    commit(fleet, LOCK, SetFields("h", {"V/t#1": 5}))

    assert "V/t#1 got the lock before W/t#1" in told(fleet)


def test_what_is_owed_is_looked_at(fleet: Fleet) -> None:
    """An entry that is in no set is seen."""
    commit(fleet, W, owed(ENTRY_NAME))
    assert "nobody would ever look" not in told(fleet)

    commit(fleet, W, Undue(ENTRY_NAME))

    assert f"W owes {ENTRY_NAME}, but nobody would ever look at it" in told(fleet)


def test_only_what_is_owed_is_due(fleet: Fleet) -> None:
    """A name without an entry is seen."""
    commit(fleet, W, Due("Start:gone", 1))

    assert "Start:gone of W is due, but is not owed" in told(fleet)


def test_a_live_workflow_has_something_owed(fleet: Fleet) -> None:
    """One that runs, owes nothing and waits for nothing is seen."""
    fleet.submit({"application": "tests", "name": "one", "stages": [stage()]}, workflow_id="W")
    fleet.ids.append("W")
    while not fleet.owed("W"):
        assert fleet._step()
    assert told(fleet) == ""

    commit(fleet, W, *(Drop(name) for name in fleet.owed("W")))

    assert "W: " in told(fleet)


def test_a_claim_excludes_others(fleet: Fleet) -> None:
    """A claim of what somebody has is seen."""
    commit(fleet, W, owed(ENTRY_NAME))
    commit(fleet, W, SetFields(places.ledger(ENTRY_NAME), ENTRY.encode(own="worker1/x", att=1)))
    assert "claims" not in told(fleet)

    commit(fleet, W, SetFields(places.ledger(ENTRY_NAME), ENTRY.encode(own="worker2/y", att=2)))

    assert f"worker2/y claims {ENTRY_NAME} of W while worker1/x has it" in told(fleet)


def test_a_heartbeat_keeps_its_own_claim_only(fleet: Fleet) -> None:
    """One that writes itself into what another has claimed is seen."""
    commit(fleet, W, owed(ENTRY_NAME))
    commit(fleet, W, SetFields(places.ledger(ENTRY_NAME), ENTRY.encode(own="worker1/x", att=1)))
    commit(fleet, W, SetFields(places.ledger(ENTRY_NAME), {"own": "worker1/x"}))
    assert "keeps" not in told(fleet)

    commit(fleet, W, SetFields(places.ledger(ENTRY_NAME), {"own": "worker2/y"}))

    assert f"worker2/y keeps {ENTRY_NAME} of W, but worker1/x has it" in told(fleet)


@pytest.mark.parametrize("befallen", ["nothing", "frozen", "cut off", "dead", "new", "a jump of the clock"])
def test_who_lives_keeps_its_claims(fleet: Fleet, befallen: str) -> None:
    """A keeper that takes the claim of a worker in good health is seen; where anything kept that from its heartbeats, it is not."""
    worker, claim = fleet.workers[0], Claim("W", ENTRY_NAME, "worker1/x")
    commit(fleet, W, owed(ENTRY_NAME))
    commit(fleet, W, SetFields(places.ledger(ENTRY_NAME), ENTRY.encode(own=claim.owner, att=1)))
    worker.claims[claim] = (None, SimpleNamespace())  # type: ignore[assignment]
    fleet._begun_us[claim] = fleet.now_us
    fleet.loop.now_us += 1000 * (1 if befallen == "new" else 60_000)
    if befallen == "frozen":
        worker.freeze(1_000)
    worker.missed_us = fleet.now_us if befallen == "cut off" else 0
    worker.is_alive = befallen != "dead"
    if befallen == "a jump of the clock":
        fleet._happen(Incident(0, "Redis' clock jumps ahead", 3_000))

    partition = partition_slot(fleet.store.partition_of("W"))
    commit(fleet, partition, DeleteFields(f"W:{places.ledger(ENTRY_NAME)}", ("own",)))

    is_seen = f"{ENTRY_NAME} of W is taken from worker1/x, which lives and works on it" in told(fleet)
    assert is_seen == (befallen == "nothing")


def test_attempts_only_grow(fleet: Fleet) -> None:
    """A claim under a number that was used is seen."""
    commit(fleet, W, owed(ENTRY_NAME, att=3))
    assert "attempt" not in told(fleet)

    commit(fleet, W, SetFields(places.ledger(ENTRY_NAME), ENTRY.encode(own="worker1/x", att=3)))

    assert "attempt 3 of" in told(fleet)


def test_what_a_losing_attempt_leaves_never_shows(fleet: Fleet) -> None:
    """Outputs of an execution whose claim was taken by the next are seen."""
    executed = SimpleNamespace(claimed=SimpleNamespace(attempt=1))
    fleet.laws.attempts.began(7, Claim("W", ENTRY_NAME, "worker1/x"), executed)  # type: ignore[arg-type]
    commit(fleet, W, owed(ENTRY_NAME, att=2))
    assert "shows" not in told(fleet)

    commit(fleet, W, SetFields(places.run("t"), {"outputs": pack({"by": 7})}))

    assert f"attempt 1 of {ENTRY_NAME} of W shows, though attempt 2 has begun" in told(fleet)


def test_an_execution_is_recorded_once(fleet: Fleet) -> None:
    """A result that counts a second time, after another one, is seen."""
    executed = SimpleNamespace(claimed=SimpleNamespace(attempt=1))
    for number in (7, 8):
        fleet.laws.attempts.began(number, Claim("W", ENTRY_NAME, "worker1/x"), executed)  # type: ignore[arg-type]
    for number in (7, 8):
        commit(fleet, W, SetFields(places.run("t"), {"outputs": pack({"by": number})}))
    assert "recorded twice" not in told(fleet)

    commit(fleet, W, SetFields(places.run("t"), {"outputs": pack({"by": 7})}))

    assert "execution 7 of" in told(fleet)


def test_a_forgotten_workflow_leaves_no_keys(fleet: Fleet) -> None:
    """A key that retention has overlooked is seen."""
    fleet.laws.runs.require_no_trace("W")

    commit(fleet, W, SetFields(places.signals("a"), {"kept": pack([])}))

    with pytest.raises(AssertionError, match="W was forgotten, but has left"):
        fleet.laws.runs.require_no_trace("W")


def test_a_workflow_that_does_not_end_is_told() -> None:
    """A run in which a workflow never ends is broken, and says what it still owes."""
    fleet = Fleet(1, {}, Troubles())
    fleet.ids.append("W")
    try:
        with pytest.raises(LawBrokenError, match="W does not end; it owes"):
            fleet.run()
    finally:
        fleet.end()


@pytest.mark.parametrize("what", ["reaped", "again", "given_up"])
def test_where_nothing_fails_nothing_is_brought_back(fleet: Fleet, what: str) -> None:
    """A lease that runs out, a message that goes out again, a decision that is given up: each is seen."""
    fleet._check_the_end()
    worker = fleet.workers[0]
    counted = worker if what == "given_up" else worker.keeper.stats
    setattr(counted, what, 1)

    with pytest.raises(LawBrokenError, match=r"1 .*, though nothing failed"):
        fleet._check_the_end()


def test_no_inner_workflow_outlives_its_caller(fleet: Fleet) -> None:
    """One that nobody ends is seen."""
    fleet._check_the_end()
    commit(fleet, workflow_slot("W.inner"), SetFields(places.WORKFLOW, {"status": "RUNNING"}))

    with pytest.raises(LawBrokenError, match=r"the inner workflow W\.inner lives on"):
        fleet._check_the_end()


def stage() -> dict[str, Any]:
    task = {"name": "work", "implementing_class": "work"}
    return {"ref_id": "a", "type": "test", "name": "a", "tasks": [task]}
