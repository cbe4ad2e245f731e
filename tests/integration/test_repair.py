"""A real worker on a real server: its keeper sets aside what is corrupt, and its sweep mends what is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from stabilize_celery.engine import places
from stabilize_celery.engine.outside import signal
from stabilize_celery.engine.steps import Delete, Hash, SetFields, workflow_slot
from stabilize_celery.runtime.survey import survey
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Due, Transaction
from stabilize_celery.transport.publish import CeleryPublisher
from tests.integration.fleet import Fleet, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with RedisServer() as server:
        fleet = Fleet(server, tmp_path)
        try:
            yield fleet
        finally:
            fleet.stop()


def write(fleet: Fleet, workflow_id: str, *changes: Any, due: str = "") -> None:
    with fleet.store.session(workflow_slot(workflow_id)) as session:
        ledger = [Due(due, fleet.store.time_ms())] if due else []
        assert session.commit(Transaction(changes, ledger)) is not None


def test_a_worker_mends_what_is_lost(fleet: Fleet) -> None:
    """A task waits for a signal and its waiter is gone: the sweep finds it, and says so in events and fleet registry."""
    fleet.start_worker()
    workflow_id = fleet.submit("ask", "approval", signal="go")
    eventually(lambda: fleet.workflow(workflow_id).stages[0].status.name == "SUSPENDED")
    write(fleet, workflow_id, Delete((places.signals("ask"),)))

    told = eventually(
        lambda: [e for e in fleet.store.events(workflow_id, "0", None, 99) if e.fields["kind"] == b"workflow.repaired"],
        60,
    )

    assert [event.fields["ref"] for event in told] == [b"ask"]
    box = Hash(places.signals("ask"))
    eventually(lambda: fleet.store.look(workflow_slot(workflow_id), (box,))[box].get("waiters", b"\x90") != b"\x90")
    fleet.runtime.ask(workflow_id, lambda: signal(workflow_id, "e1", "ask", "go", None))
    assert fleet.ended(workflow_id, 60).status.name == "SUCCEEDED"
    eventually(lambda: all(int(line.get("repaired", b"0")) for line in fleet.store.fleet().values()))


def test_a_worker_sets_aside_what_is_corrupt_and_goes_on(fleet: Fleet) -> None:
    """Garbage in a field of an entry, another kind of value in place of one, and members of `due` that name nothing."""
    fleet.start_worker()
    ids = [fleet.submit(f"s{number}", "nobody-knows-this") for number in range(2)]
    eventually(lambda: {name for workflow_id, name in fleet.store.owed() if workflow_id in ids and "Run:" in name})
    eventually(lambda: len([name for _, name in fleet.store.owed() if name.startswith("Run:")]) == len(ids))
    names = dict(entry for entry in fleet.store.owed() if entry[1].startswith("Run:"))
    write(fleet, ids[0], SetFields(places.ledger(names[ids[0]]), {"nb": "tomorrow"}), due=names[ids[0]])
    with redis.Redis.from_url(fleet.state_url) as client:
        (key,) = client.keys(f"*:{ids[1]}:{places.ledger(names[ids[1]])}")
        (due,) = client.keys(key.split(b"}:")[0].decode() + "}:due")
        client.delete(key)
        client.set(key, "garbage")
        client.zadd(due, {f"{ids[1]}/{names[ids[1]]}": 1, b"\xff\xfe": 1, "nothing": 2})
    other = fleet.submit("good")

    letters = eventually(lambda: found if len(found := fleet.store.dead_letters()) == len(ids) else None, 60)

    assert {letter.workflow_id for letter in letters} == set(ids)
    assert fleet.ended(other, 60).status.name == "SUCCEEDED"
    publisher = CeleryPublisher(fleet.celery)
    assert [one.kind for one in survey(fleet.store, publisher, Settings(), mends=False)] == []
