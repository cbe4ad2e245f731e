"""Workers of two versions side by side: what the older one does not know is shown and kept for the newer one."""

from __future__ import annotations

import signal

import pytest

from stabilize_celery.client.dead_letters import dead_letters
from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.steps import SetFields
from stabilize_celery.store.contract import Due, Transaction, partition_slot
from tests.chaos.crowds import Crowd
from tests.chaos.fleet import ChaosFleet
from tests.chaos.flows import make
from tests.integration.fleet import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

TOLD = "it waits for a newer worker"


@pytest.mark.timeout(600)  # half of all messages visit the older worker first, and rest
def test_a_newer_ledger_waits_for_a_newer_worker(fleet: ChaosFleet) -> None:
    """Work that a newer producer began rests, says why, and goes on when a newer worker has come; nothing is dropped."""
    crowd = Crowd(fleet, 11)
    for workflow_id, name in list(fleet.store.owed()):
        write(fleet, workflow_id, name, {"v": 2})
    older = fleet.add_worker()
    eventually(lambda: all(TOLD in str(run.why()) for run in crowd.runs), 60)
    assert crowd.ended() == 0
    assert fleet.client.start(make(0)).wait(60).status.name == "SUCCEEDED"
    assert fleet.store.dead_letters() == []

    fleet.add_worker(app="newer")
    crowd.wait_until_ended(1, 240)
    older.send(signal.SIGTERM)

    crowd.check(240)


def test_a_new_kind_of_message_waits_for_a_newer_worker(fleet: ChaosFleet) -> None:
    """An older Celery worker drops what it has no task for; the ledger keeps it, and shows it."""
    older = fleet.add_worker()
    run = fleet.client.start(make(6))
    eventually(lambda: run.get().stages[0].status.name == "SUSPENDED")
    told = {"t": "SpeakUp", "v": 1, "a": pack({}), "q": "stabilize.control", "nb": 0, "pub": 0}
    write(fleet, run.id, "SpeakUp", told, is_due=True)
    eventually(lambda: "unregistered task of type 'stabilize.SpeakUp'" in older.log, 60)
    assert [letter.kind for letter in dead_letters(fleet.store)] == ["SpeakUp"]
    assert run.status().name == "RUNNING"

    fleet.add_worker(app="newer")
    older.send(signal.SIGTERM)
    eventually(lambda: [event for event in run.events() if event.kind == "workflow.spoke"], 120)

    assert run.signal("ask", "go")
    assert run.wait(60).status.name == "SUCCEEDED"
    assert [event.kind for event in run.events()].count("workflow.spoke") == 1
    Crowd.check_all(fleet)


def write(fleet: ChaosFleet, workflow_id: str, name: str, fields: dict[str, object], *, is_due: bool = False) -> None:
    """Write what a newer version would: an entry's fields."""
    key = f"{workflow_id}:{places.ledger(name)}"
    due = [Due(f"{workflow_id}/{name}", fleet.store.time_ms())] if is_due else []
    with fleet.store.session(partition_slot(fleet.store.partition_of(workflow_id))) as session:
        assert session.commit(Transaction([SetFields(key, fields)], due)) is not None
