"""The HTTP API on a real Redis with a real worker: what it tells is so, what it is asked to do happens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stabilize_celery.client import Client
from stabilize_celery.engine.steps import workflow_slot
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.store.contract import Bury, Put, Transaction
from stabilize_celery.web import WebSettings
from stabilize_celery.web.service import Service
from tests.integration.fleet import eventually
from tests.integration.site import API, Site, fits, flow, gate, order, served, stage, started
from tests.servers import RedisServer

pytestmark = pytest.mark.real
TOKEN = "a token that is long enough"


def status_of(site: Site, workflow_id: str, ref: str) -> str:
    return next(one["status"] for one in site.get(f"/workflows/{workflow_id}")["stages"] if one["ref_id"] == ref)


def wait_for(site: Site, workflow_id: str, **statuses: str) -> None:
    eventually(lambda: all(status_of(site, workflow_id, ref) == status for ref, status in statuses.items()), 60)


# -- looking -----------------------------------------------------------------------------------------------------------


def test_a_workflow_is_told_with_its_stages_errors_instances_and_history(site: Site) -> None:
    """One order: a borne failure, five instances folded into one line, a stage that waits for a signal."""
    run = started(site, order(), approve="SUSPENDED", weigh="SUCCEEDED", pack="SUCCEEDED")

    told = fits(site.get(f"/workflows/{run}"), "WorkflowState")
    stages = {one["ref_id"]: one for one in told["stages"]}
    assert (told["status"], told["name"]) == ("RUNNING", "order")
    assert stages["pack"]["instances"] == {"total": 5, "begun": 5, "done": 5, "failed": 0}
    assert stages["label"]["status"] == "FAILED_CONTINUE"
    assert "exit code 3" in stages["label"]["told"]
    assert stages["approve"]["waits"] == "approve"
    assert stages["ship"]["status"] == "NOT_STARTED"
    assert set(stages["ship"]["requisites"]) == {"pack", "weigh", "approve"}

    detail = fits(site.get(f"/workflows/{run}/stages/label"), "StageDetail")
    [task] = detail["runs"][0]["tasks"]
    assert "exit code 3" in task["error"]["message"]
    assert detail["runs"][0]["outputs"]["stdout"] == "no printer"
    assert detail["context"]["command"].startswith("echo")

    events = fits(site.get(f"/workflows/{run}/events"), "EventPage")["items"]
    assert events[0]["kind"] == "workflow.created"
    assert any("approve" in one["told"] and one["ref_id"] == "approve" for one in events)
    later = site.get(f"/workflows/{run}/events", **{"from": events[2]["id"]})["items"]
    assert later[0]["id"] == events[3]["id"]

    reasons = fits(site.get(f"/workflows/{run}/why"), "Reasons")["items"]
    assert any(one["ref_id"] == "approve" and "approve" in one["text"] for one in reasons)
    assert fits(site.get(f"/workflows/{run}/definition"), "Definition")["definition"]["name"] == "order"


def test_what_a_stream_reads_of_stages_is_what_the_whole_says(site: Site) -> None:
    """Stages read for themselves are as the reading of all tells them."""
    run = started(site, order(), approve="SUSPENDED", weigh="SUCCEEDED", pack="SUCCEEDED")
    service = Service(site.client)

    whole = {line.ref_id: line for line in service.workflow(run).stages}
    status, parts = service.changed(run, {*whole, "no such stage"})
    assert status == "RUNNING"
    assert {line.ref_id: line for line in parts} == whole


def test_an_exception_is_told_with_its_traceback(site: Site) -> None:
    """Where it came from, not only what it was."""
    code = {"script": "def boom():\n    raise ValueError('no such order')\nboom()"}
    run = started(site, flow(stage("bad", does="python", context=code)))
    eventually(lambda: site.get(f"/workflows/{run}")["status"] == "TERMINAL", 60)

    [task] = site.get(f"/workflows/{run}/stages/bad")["runs"][0]["tasks"]
    assert "no such order" in json.dumps(task["error"])
    assert "bad" in json.dumps(site.get(f"/workflows/{run}/why"))


def test_the_list_is_filtered_searched_and_paged(site: Site) -> None:
    """By application, name, status, time and any text; a cursor goes on where the page ended."""
    runs = [started(site, flow(gate(), name=f"listed-{at % 2}")) for at in range(6)]

    def ids(**query: Any) -> list[str]:
        return [one["id"] for one in fits(site.get("/workflows", **query), "WorkflowPage")["items"]]

    assert ids(name="listed-0") == [runs[4], runs[2], runs[0]]
    assert ids(q="LISTED-1") == [runs[5], runs[3], runs[1]]
    assert ids(q=runs[3]) == [runs[3]] == ids(q=runs[3], name="listed-1", application="shop")
    assert ids(q=runs[3], name="listed-0") == ids(q=runs[3], status="TERMINAL") == ids(q=runs[3], until_ms=1) == []
    assert ids(q=runs[3][-6:].lower()) == [runs[3]]
    assert ids(q="no such text anywhere") == []
    first = site.get("/workflows", q="listed", limit=4)
    rest = site.get("/workflows", q="listed", limit=4, cursor=first["cursor"])
    assert [one["id"] for one in first["items"] + rest["items"]] == runs[::-1]
    times = {one["id"]: one["started_ms"] for one in first["items"] + rest["items"]}
    assert set(ids(q="listed", since_ms=times[runs[4]])) >= {runs[4], runs[5]}
    assert runs[4] not in ids(q="listed", until_ms=times[runs[4]])
    site.client.handle(runs[0]).cancel("enough")
    assert ids(status="canceled", name="listed-0") == [runs[0]]


def test_locks_tell_holder_and_waiters_in_order(site: Site) -> None:
    """Who holds the mutex, with its token, and who waits: first come, first served."""
    holder = started(site, flow(gate("one")))
    runs = [holder]
    for name in ("first", "second", "third"):
        runs.append(started(site, flow(stage(name, does="approval", mutex_key="web-dock", context={"signal": "go"}))))
        wait_for(site, runs[-1], **{name: "SUSPENDED" if name == "first" else "BUFFERED"})

    [lock] = [one for one in fits(site.get("/locks"), "Locks")["items"] if one["key"] == "web-dock"]
    assert [(one["workflow_id"], one["ref_id"]) for one in lock["holders"]] == [(runs[1], "first")]
    assert [one["ref_id"] for one in lock["waiters"]] == ["second", "third"]
    assert (lock["limit"], lock["waiting"], lock["scope"]) == (1, 2, "GLOBAL")
    assert lock["holders"][0]["token"] > 0
    for run in runs:
        site.client.handle(run).cancel("test")


def test_the_fleet_tells_workers_queues_partitions_and_the_server(site: Site) -> None:
    """A message that nobody takes is counted where it lies."""
    fleet = fits(site.get("/fleet"), "FleetState")
    [worker] = fleet["workers"]
    assert worker["answers"]
    assert "work" in worker["types"]
    assert {one["name"]: one["workers"] for one in fleet["queues"]}["stabilize.work"] == 1
    assert len(fleet["partitions"]) == 16
    assert fleet["broker_error"] == ""
    assert fleet["server"]["appendonly"] == "no"


def test_queue_lengths_are_the_brokers(redis_url: str) -> None:
    """Without a worker what is published stays in its queue."""
    with Client(redis_url, redis_url) as client, served(client) as alone:
        for _ in range(3):
            client.start(flow(stage("a"))).id  # noqa: B018
        fleet = alone.get("/fleet")
        queues = {one["name"]: one["length"] for one in fleet["queues"]}
        assert queues["stabilize.control"] == 3
        assert queues["stabilize.work"] == 0
        assert fleet["workers"] == []


# -- acting ------------------------------------------------------------------------------------------------------------


def test_a_definition_is_started_once_per_key(site: Site) -> None:
    """The same key and definition again is the same workflow; another definition is a conflict that names the key."""
    definition = {
        "application": "shop",
        "name": "posted",
        "stages": [{"ref_id": "a", "type": "x", "name": "a", "tasks": [{"name": "a", "implementing_class": "work"}]}],
    }
    first = site.post("/workflows", {"definition": definition, "idempotency_key": "web-1"})
    again = site.post("/workflows", {"definition": definition, "idempotency_key": "web-1"})
    other = site.post("/workflows", {"definition": definition | {"name": "other"}, "idempotency_key": "web-1"})

    assert (first.status_code, again.json()) == (201, first.json())
    assert (other.status_code, other.json()["code"]) == (409, 302)
    assert "web-1" in fits(other.json(), "Problem")["detail"]
    eventually(lambda: site.get(f"/workflows/{first.json()['id']}")["status"] == "SUCCEEDED", 60)


def test_a_bad_definition_is_refused_with_every_problem_and_its_place(site: Site) -> None:
    """Nothing was started."""
    bad = {"ref_id": "a", "type": "x", "name": "a", "requisite_stage_ref_ids": ["nowhere"], "tasks": []}
    answer = site.post("/workflows", {"definition": {"application": "s", "name": "bad one", "stages": [bad, bad]}})

    told = fits(answer.json(), "Problem")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert any("nowhere" in one["message"] for one in told["problems"])
    assert any(one["path"].startswith("stages[1]") for one in told["problems"])
    assert site.get("/workflows", name="bad one")["items"] == []


def test_pause_resume_signal_and_the_end(site: Site) -> None:
    """Each act is answered with whether it took effect; what it does is seen."""
    run = started(site, flow(gate(), stage("after", "gate")), gate="SUSPENDED")

    assert fits(site.post(f"/workflows/{run}/pause").json(), "Outcome")["took_effect"]
    assert site.get(f"/workflows/{run}")["status"] == "PAUSED"
    assert site.get(f"/workflows/{run}")["paused_by"] == "local (web)"
    assert not site.post(f"/workflows/{run}/pause").json()["took_effect"]
    assert site.post(f"/workflows/{run}/resume").json()["took_effect"]
    refused = site.post(f"/workflows/{run}/stages/gate/signal", {"name": "n" * 256})
    assert (refused.status_code, "256 characters" in refused.text) == (400, True)
    sent = site.post(f"/workflows/{run}/stages/gate/signal", {"name": "approve", "payload": {"by": "Ann"}})
    assert sent.json()["took_effect"]
    eventually(lambda: site.get(f"/workflows/{run}")["status"] == "SUCCEEDED", 60)
    assert site.get(f"/workflows/{run}/stages/gate")["runs"][0]["outputs"]["payload"] == {"by": "Ann"}


def test_cancel_tells_who_and_why_and_restart_runs_a_stage_again(site: Site) -> None:
    """The rest keeps its results; the stage has a second run."""
    run = started(site, flow(stage("a"), gate("gate", "a")), gate="SUSPENDED")

    site.post(f"/workflows/{run}/cancel", {"reason": "changed my mind"})
    told = site.get(f"/workflows/{run}")
    assert (told["status"], told["reason"], told["canceled_by"]) == ("CANCELED", "changed my mind", "local (web)")
    assert site.post(f"/workflows/{run}/stages/gate/restart").json()["took_effect"]
    wait_for(site, run, gate="SUSPENDED", a="SUCCEEDED")
    site.post(f"/workflows/{run}/stages/gate/skip")
    eventually(lambda: site.get(f"/workflows/{run}")["status"] == "SUCCEEDED", 60)


def test_instances_are_added_and_completed(site: Site) -> None:
    """A dynamic stage takes more of them while it runs."""
    many = MultiInstanceConfig(count=2, allow_dynamic=True)
    waiting = stage("many", does="approval", mi_config=many, context={"signal": "go"})
    run = started(site, flow(waiting), many="SUSPENDED")

    refused = site.post(f"/workflows/{run}/stages/many/add-instances", {"context": {"n": 10**30}})
    assert (refused.status_code, "beyond 64 bits" in refused.text) == (400, True)
    assert site.post(f"/workflows/{run}/stages/many/add-instances", {"number": 3}).json()["took_effect"]
    eventually(lambda: site.get(f"/workflows/{run}/stages/many")["stage"]["instances"]["total"] == 5, 60)
    eventually(lambda: len(site.get(f"/workflows/{run}/stages/many")["runs"][0]["instances"]) == 5, 60)
    assert site.post(f"/workflows/{run}/stages/many/complete-instances").json()["took_effect"]
    eventually(lambda: site.get(f"/workflows/{run}")["status"] == "SUCCEEDED", 60)


def test_dead_letters_are_shown_replayed_and_dropped(site: Site) -> None:
    """A message that was set aside comes back to life, or takes its workflow to its end."""
    run = started(site, flow(gate()), gate="SUSPENDED")
    store = site.client.store
    with store.session(workflow_slot(run)) as session:
        letter = {"t": "SettleWorkflow", "a": b"\x80", "tries": 10, "error": "Traceback\nValueError: odd"}
        session.commit(Transaction(ledger=[Put("Settle", letter, 0), Bury("Settle", store.time_ms())]))

    [shown] = [one for one in fits(site.get("/dead"), "DeadLetters")["items"] if one["workflow_id"] == run]
    assert (shown["name"], shown["tries"]) == ("Settle", 10)
    assert "odd" in fits(site.get(f"/dead/{run}/Settle"), "DeadLetterLine")["error"]
    assert site.post(f"/dead/{run}/Settle/drop").json()["took_effect"]
    assert site.get(f"/workflows/{run}")["status"] == "TERMINAL"
    gone = site.http.get(f"{API}/dead/{run}/Settle")
    assert gone.status_code == 404
    assert not site.post(f"/dead/{run}/Settle/replay").json()["took_effect"]


def test_a_users_name_stands_with_what_was_done(redis_url: str) -> None:
    """Behind a proxy that signs people in, the history tells who paused."""
    settings = WebSettings(user_header="X-Forwarded-User")
    with Client(redis_url, redis_url) as client, served(client, settings) as site:
        run = client.start(flow(gate())).id
        assert site.http.get(f"{API}/workflows").status_code == 401
        assert site.post(f"/workflows/{run}/pause", **{"x-forwarded-user": "ann"}).json()["took_effect"]
        told = site.http.get(f"{API}/workflows/{run}", headers={"x-forwarded-user": "ann"}).json()
        assert told["paused_by"] == "ann (web)"


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/workflows/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "there is no workflow"),
        ("/workflows/01ARZ3NDEKTSV4RRFFQ69G5FAV/events", 404, "there is no workflow"),
        ("/workflows/{a%3Ab}", 404, "not a workflow id"),
        ("/workflows?status=RUNING", 400, "Did you mean 'RUNNING'"),
        ("/workflows?limit=0", 400, "limit"),
        ("/workflows?colour=red", 400, "colour"),
        ("/workflows?status=RUNNING&status=TERMINAL", 400, "status stands in it more than once"),
        ("/workflows?cursor=x", 400, "cursor"),
        ("/streams/workflows/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "there is no workflow"),
        ("/nothing", 404, "Not Found"),
        ("/workflows/x/events?from=99999999999999999999-0", 400, "from"),
        ("/workflows/x/events?from=0%0A", 400, "from"),
        ("/streams/workflows/x?from=0%0A", 400, "from"),
    ],
)
def test_mistakes_are_problems_in_words(site: Site, path: str, status: int, words: str) -> None:
    """The words of the typed errors, as problem+json."""
    answer = site.http.get(API + path)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words.lower() in fits(answer.json(), "Problem")["detail"].lower()


@pytest.mark.parametrize("body", ["{", "[]", '{"reason": 7}', '{"reasn": "x"}', "[" * 100_000])
def test_a_body_that_is_not_what_is_asked_for_is_told(site: Site, body: str) -> None:
    """Where and why; nothing happens."""
    answer = site.http.post(f"{API}/workflows/x/cancel", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert "body" in answer.json()["detail"]


def test_a_server_that_is_away_is_told_with_its_address(redis_url: str) -> None:
    """503, in the words of the error; the page goes on when it is back."""
    with RedisServer() as server, Client(server.url, redis_url) as client, served(client) as site:
        assert site.get("/workflows")["items"] == []
        server.stop()
        answer = site.http.get(f"{API}/workflows")
        assert answer.status_code == 503
        assert str(server.port) in answer.json()["detail"]
        server.start()
        eventually(lambda: site.http.get(f"{API}/workflows").status_code == 200, 30)
