"""`doctor --repair`: says what is wrong, and what it would do or has done about it."""

import pytest

from stabilize_celery.cli.doctor import check_findings, check_repairs, told_findings
from stabilize_celery.client import Client, WorkflowHandle
from stabilize_celery.engine.places import COUNTERS
from stabilize_celery.engine.steps import Increment, SetFields, lock_slot, workflow_slot
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.store.contract import Drop, Transaction
from tests.unit.cli.conftest import Program
from tests.unit.client.world import stage, workflow


@pytest.fixture
def healthy(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server and a worker of which the doctor has nothing to say."""
    client.store.announce("w", {"node": "w", "queues": "stabilize.control\nstabilize.work", "version": "1"})
    health = {**client.store.health(), "appendonly": "yes", "appendfsync": "everysec"}
    monkeypatch.setattr(type(client.store), "health", lambda _: health)


@pytest.fixture
def handle(client: Client) -> WorkflowHandle:
    """A workflow that has lost the only thing that is owed to it, and is held up by a lock of nobody's."""
    handle = client.start(workflow(stage("a")))
    _, due = client.store.first_due(range(client.store.partitions()), 9)
    names = [entry.name for entries in due.values() for entry in entries]
    with client.store.session(workflow_slot(handle.id)) as session:
        ledger = [Drop(name) for name in names if name.startswith("Start:")]
        assert session.commit(Transaction([Increment(COUNTERS, "act", 1)], ledger)) is not None
    with client.store.session(lock_slot("GLOBAL:dock")) as session:
        assert session.commit(Transaction([SetFields("h", {"nobody/t#1": 7})])) is not None
    return handle


@pytest.mark.usefixtures("healthy")
def test_without_repair_it_says_what_it_would_do(served: Program, handle: WorkflowHandle) -> None:
    """Code 1, each finding with its workflow, and nothing is written."""
    said = served("doctor")

    assert said.code == 1
    for words in (
        "✘ 3 inconsistencies found",
        "doctor --repair",
        f"{handle.id}: stage 'a' is NOT_STARTED",
        "GLOBAL:dock",
    ):
        assert words in said.text
    assert said.text.count("repair would:") == 3
    assert served("doctor").out.partition("✘")[2] == said.out.partition("✘")[2]


@pytest.mark.usefixtures("healthy")
def test_with_repair_it_says_what_it_has_done(served: Program, handle: WorkflowHandle) -> None:
    """Code 0, since all of it is mended; the next look finds nothing."""
    said = served("doctor", "--repair")

    assert (said.code, said.text.count("→ done:")) == (0, 3)
    assert "✔ 3 things repaired" in said.text
    again = served("doctor", "--repair")
    assert (again.code, "✔ every workflow has a pending step" in again.text) == (0, True)
    assert [event.kind for event in handle.events()].count("workflow.repaired") == 2


@pytest.mark.usefixtures("healthy", "handle")
def test_as_json_each_finding_has_its_fields(served: Program) -> None:
    (told,) = (check for check in served("doctor", "--json").json if check["name"] == "repair")
    (done,) = (check for check in served("doctor", "--repair", "--json").json if check["name"] == "repair")

    assert (told["ok"], done["ok"]) == (False, True)
    assert {one["kind"] for one in told["findings"]} == {"run", "count", "lock"}
    assert [one["is_mended"] for one in told["findings"]] == [False] * 3
    assert [{**one, "is_mended": True} for one in told["findings"]] == done["findings"]


def test_what_no_repair_is_known_for_stays_a_problem() -> None:
    """Also beside others that are mended; the advice names no command that would not help."""
    hopeless = Finding("run", "W1", "stage 'a' is BUFFERED", "")
    mended = Finding("count", "W2", "wrong", "count 1", is_mended=True)

    check = check_findings([hopeless, mended], mends=True)

    assert (check.ok, check.told) == (False, "1 inconsistency found")
    assert "--repair" not in check.advice
    assert "no repair is known" in next(told_findings([hopeless]))


def test_repairs_of_the_workers_are_told() -> None:
    """None is normal and not worth a line."""
    assert list(check_repairs({"w": {}, "v": {"repaired": b"0"}})) == []
    (check,) = check_repairs({"w": {"repaired": b"2"}, "v": {"repaired": b"1", "set_aside": b"1"}})
    assert "repaired 3 things and set 1 aside" in check.told
