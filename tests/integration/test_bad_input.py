"""Bad and hostile input on a real worker: it refuses, says so once, and goes on with everybody else's work."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from stabilize_celery.client import Client
from stabilize_celery.client.dead_letters import dead_letters, drop
from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.steps import Hash, workflow_slot
from stabilize_celery.store.contract import Put, Transaction
from tests.hostile import HOSTILE_NAMES
from tests.integration.fleet import Fleet, Worker, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real

START = {"workflow_id": "w1", "ref_id": "a", "thread": "t"}
RUN = {**START, "task_index": 0, "task_type": "work"}

MESSAGES: dict[str, tuple[str, str | None, Any]] = {
    "no ids": ("StartStage", "w1/Start:", {}),
    "a foreign task id": ("StartStage", None, START),
    "another workflow's task id": ("StartStage", "w2/Start:t", START),
    "ids that are no text": ("StartStage", "w1/Start:t", {**START, "thread": 5}),
    "lists for ids": ("CompleteStage", "w1/Done:t", {**START, "thread": ["t"], "ref_id": {}}),
    "a number that is none": ("RunTask", "w1/Run:t..0", {**RUN, "task_index": "zero"}),
    "a negative number": ("RunTask", "w1/Run:t..-1", {**RUN, "task_index": -1}),
    "a workflow id with a hash tag": ("StartStage", "{x}/Start:t", {**START, "workflow_id": "{x}"}),
    "a workflow id with a line break": ("StartStage", "a\nb/Start:t", {**START, "workflow_id": "a\nb"}),
    "a key of Redis": ("StartStage", "ix/Start:t", {**START, "workflow_id": "ix"}),
    "half a surrogate pair": ("StartStage", "w1/Start:t", {**START, "ref_id": "\ud800"}),
    "a workflow that is not there": ("RunTask", "w1/Run:t..0", RUN),
    "a code to run": ("RunTask", "w1/Run:t..0", {**RUN, "task_type": "os:system"}),
    "a megabyte": ("StartStage", "w1/Start:t", {**START, "more": "x" * 1_000_000}),
    "a megabyte of id": ("StartStage", "w" * 1_000_000 + "/Start:t", {**START, "workflow_id": "w" * 1_000_000}),
    "a settled workflow that is not there": ("SettleWorkflow", "w1/Settle", {"workflow_id": "w1"}),
    "an expired workflow that is not there": ("ExpireWorkflow", "w1/Expire", {"workflow_id": "w1"}),
    "a lock of nobody": (
        "ReleaseLock",
        "w1/Unlock:t#1",
        {**START, "request": 1, "lock": "GLOBAL:printer"},
    ),
    "a child of nobody": ("CancelSubWorkflow", "w1/Kill:t", {"workflow_id": "w1", "thread": "t", "child_id": "c"}),
    "a probe of nothing": ("Probe", None, {"queue": "stabilize.control", "sent_ms": 1}),
}

SUBMISSIONS: dict[str, Mapping[str, Any]] = {
    "nothing": {},
    "text": {"definition": "rm -rf /"},
    "a number": {"definition": 5},
    "a list": {"definition": [[]]},
    "stages that are none": {"definition": {"stages": {"a": 1}}},
    "deep": {"definition": json.loads("[" * 300 + "]" * 300)},
    "a key that is no text": {"definition": {"stages": []}, "idempotency_key": {"a": 1}},
    "a key that is a number": {"definition": {"stages": [{"ref_id": "a"}]}, "idempotency_key": 17},
    "a key of a megabyte": {"definition": {"stages": [{"ref_id": "a"}]}, "idempotency_key": "x" * 1_000_000},
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker for all that is thrown at it."""
    with RedisServer() as server:
        fleet = Fleet(server, tmp_path_factory.mktemp("fleet"), keeper_idle_ms="250", unknown_task_ms="500")
        try:
            fleet.start_worker("-Q", "celery,stabilize.control,stabilize.work")
            yield fleet
        finally:
            fleet.stop()


def said(worker: Worker, before: int) -> str:
    """What the worker has said since."""
    return worker.log[before:]


def still_works(fleet: Fleet) -> str:
    """Run a workflow through the same queues, behind whatever was sent; return what was said until then."""
    (worker,) = fleet.workers
    ref_id = f"good-{uuid4().hex[:6]}"
    done = fleet.ended(fleet.submit(ref_id))
    assert done.status.name == "SUCCEEDED"
    assert fleet.journal("start", ref_id)
    assert worker.process.poll() is None
    return worker.log


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_nobody_owes_does_nothing(fleet: Fleet, name: str) -> None:
    """No state is written, no traceback told, and the worker goes on."""
    kind, task_id, kwargs = MESSAGES[name]
    (worker,) = fleet.workers
    still_works(fleet)
    before, keys = len(worker.log), _keys(fleet)

    fleet.celery.send_task(f"stabilize.{kind}", kwargs=kwargs, task_id=task_id, queue="stabilize.control")

    still_works(fleet)
    assert "Traceback" not in said(worker, before)
    assert "dead letter" not in said(worker, before)
    assert not {key for key in _keys(fleet) - keys if b":w1:" in key or b":L:" in key}
    assert not dead_letters(fleet.store)


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_submission_that_is_none_is_one_clear_error(fleet: Fleet, name: str) -> None:
    """Said once, without a traceback; nothing is started."""
    (worker,) = fleet.workers
    before, started = len(worker.log), _workflows(fleet)

    fleet.celery.send_task("stabilize.SubmitWorkflow", kwargs=dict(SUBMISSIONS[name]), queue="stabilize.control")

    eventually(lambda: "was refused" in said(worker, before))
    assert _workflows(fleet) == started
    still_works(fleet)
    assert said(worker, before).count("was refused") == 1
    assert "Traceback" not in said(worker, before)


def test_arguments_by_position_are_refused(fleet: Fleet) -> None:
    """Our messages go by name; what comes otherwise is not ours."""
    (worker,) = fleet.workers
    before = len(worker.log)

    fleet.celery.send_task("stabilize.StartStage", args=["w1", "a", "t"], queue="stabilize.control")

    eventually(lambda: "refused, nothing was done" in said(worker, before))
    still_works(fleet)
    assert "Traceback" not in said(worker, before)


NESTED = {deep: b"[" * deep + b"]" * deep for deep in (500, 900, 100_000)}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\x80\x04.", b"5", b"[]", b"null", b'[[], {}, "x"]', b'[5, "x", null]'),
        *(
            pytest.param(b'[[], {"definition": %b}, {}]' % nested, id=f"nested {deep}")
            for deep, nested in NESTED.items()
        ),
    ],
)
def test_a_body_that_is_none_is_dropped(fleet: Fleet, body: bytes) -> None:
    """As Celery does with what it cannot read: the rest of the queue is handled."""
    with redis.Redis.from_url(fleet.broker_url) as broker:
        broker.lpush("stabilize.control", json.dumps(_envelope(body)))

    still_works(fleet)


def test_a_message_type_of_a_newer_version_waits_in_sight(fleet: Fleet) -> None:
    """Its entry stays, it is published again and again, and listed among the dead letters as unknown."""
    workflow_id = fleet.submit("held", "nobody_knows_this")
    entry: dict[str, Any] = {
        "t": "Frobnicate",
        "v": 7,
        "a": pack({"ref_id": "held", "colour": "blue"}),
        "q": "stabilize.control",
    }
    with fleet.store.session(workflow_slot(workflow_id)) as session:
        session.commit(Transaction(ledger=[Put("Frob:1", {**entry, "nb": 0, "pub": 0}, fleet.store.time_ms())]))
    (worker,) = fleet.workers

    eventually(lambda: "stabilize.Frobnicate" in worker.log)

    still_works(fleet)
    (letter,) = [one for one in dead_letters(fleet.store) if one.workflow_id == workflow_id and one.is_unknown]
    assert (letter.kind, letter.ref_id) == ("Frobnicate", "held")
    key = Hash(places.ledger("Frob:1"))
    assert fleet.store.look(workflow_slot(workflow_id), (key,)).hash(key.key)["a"] == entry["a"]
    assert drop(fleet.runtime, letter.id)
    assert not dead_letters(fleet.store)
    assert fleet.ended(workflow_id).status.name == "TERMINAL"


def test_any_name_runs_on_a_real_worker(fleet: Fleet, tmp_path: Path) -> None:
    """Of stages, outputs and mutexes: each stage once, and history can be told."""
    tasks = [{"name": "work", "implementing_class": "work"}]
    stages = [{"ref_id": name, "mutex_key": name, "tasks": tasks} for name in HOSTILE_NAMES]
    last = {"ref_id": "the end", "requisite_stage_ref_ids": HOSTILE_NAMES, "tasks": tasks}
    definition = {"application": "{a}:b", "name": "n/\n", "stages": [*stages, last]}
    workflow_id = fleet.runtime.submit(definition)

    done = fleet.ended(workflow_id, 60)

    assert done.status.name == "SUCCEEDED"
    assert [len(fleet.journal("start", name)) for name in HOSTILE_NAMES] == [1] * len(HOSTILE_NAMES)
    with Client(fleet.state_url, fleet.broker_url) as client:
        told = [str(event) for event in client.handle(workflow_id).events()]
        assert client.list(application="{a}:b", name="n/\n").items[0].id == workflow_id
    assert len(told) > 4 * len(HOSTILE_NAMES)
    assert not fleet.store.locks()


def _workflows(fleet: Fleet) -> int:
    with Client(fleet.state_url, fleet.broker_url) as client:
        return len(client.list(limit=500).items)


def _keys(fleet: Fleet) -> set[bytes]:
    with redis.Redis.from_url(fleet.state_url) as state:
        return set(state.scan_iter(count=1_000))


def _envelope(body: bytes) -> Mapping[str, Any]:
    task_id = str(uuid4())
    delivery = {"exchange": "", "routing_key": "stabilize.control"}
    properties = {"correlation_id": task_id, "delivery_mode": 2, "delivery_tag": task_id, "body_encoding": "base64"}
    return {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "stabilize.StartStage", "id": task_id, "argsrepr": "()", "kwargsrepr": "{}"},
        "properties": {**properties, "delivery_info": delivery, "priority": 0},
    }
