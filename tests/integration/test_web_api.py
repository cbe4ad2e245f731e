"""The HTTP API on a real Redis with a real worker: what it tells is so, what it is asked to do happens."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import jsonschema
import pytest

from stabilize_celery.client import Client
from stabilize_celery.engine.steps import workflow_slot
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.store.contract import Bury, Put, Transaction
from stabilize_celery.web import WebSettings
from stabilize_celery.web.openapi import document
from stabilize_celery.web.service import Service
from tests.integration.fleet import eventually
from tests.integration.site import API, Site, order, served, site_with_a_worker, stage
from tests.servers import RedisServer

pytestmark = pytest.mark.real
TOKEN = "a token that is long enough"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_with_a_worker(Path(tmp_path_factory.mktemp("web")), append_only=False) as site:
        yield site


def fits(value: Any, name: str) -> Any:
    """The value, which is as the document describes it."""
    schemas = document("0")["components"]["schemas"]
    root = {"components": {"schemas": schemas}, "$ref": f"#/components/schemas/{name}"}
    jsonschema.Draft202012Validator(root).validate(value)
    return value


def started(site: Site, workflow: Workflow) -> str:
    return site.client.start(workflow).id


def status_of(site: Site, workflow_id: str, ref: str) -> str:
    return next(one["status"] for one in site.get(f"/workflows/{workflow_id}")["stages"] if one["ref_id"] == ref)


def wait_for(site: Site, workflow_id: str, **statuses: str) -> None:
    eventually(lambda: all(status_of(site, workflow_id, ref) == status for ref, status in statuses.items()), 60)


def flow(*stages: Any, name: str = "one") -> Workflow:
    return Workflow.create("shop", name, list(stages))


def gate(ref: str = "gate", *after: str) -> Any:
    return stage(ref, *after, does="approval", context={"signal": "approve"})


# -- looking -----------------------------------------------------------------------------------------------------------


def test_a_workflow_is_told_with_its_stages_errors_instances_and_history(site: Site) -> None:
    """One order: a borne failure, five instances folded into one line, a stage that waits for a signal."""
    run = started(site, order())
    wait_for(site, run, approve="SUSPENDED", weigh="SUCCEEDED", pack="SUCCEEDED")

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
    run = started(site, order())
    wait_for(site, run, approve="SUSPENDED", weigh="SUCCEEDED", pack="SUCCEEDED")
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
    assert ids(q=runs[3]) == [runs[3]]
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
    run = started(site, flow(gate(), stage("after", "gate")))
    wait_for(site, run, gate="SUSPENDED")

    assert fits(site.post(f"/workflows/{run}/pause").json(), "Outcome")["took_effect"]
    assert site.get(f"/workflows/{run}")["status"] == "PAUSED"
    assert site.get(f"/workflows/{run}")["paused_by"] == "local (web)"
    assert not site.post(f"/workflows/{run}/pause").json()["took_effect"]
    assert site.post(f"/workflows/{run}/resume").json()["took_effect"]
    refused = site.post(f"/workflows/{run}/stages/gate/signal", {"name": "n" * 201})
    assert (refused.status_code, "201 characters" in refused.text) == (400, True)
    sent = site.post(f"/workflows/{run}/stages/gate/signal", {"name": "approve", "payload": {"by": "Ann"}})
    assert sent.json()["took_effect"]
    eventually(lambda: site.get(f"/workflows/{run}")["status"] == "SUCCEEDED", 60)
    assert site.get(f"/workflows/{run}/stages/gate")["runs"][0]["outputs"]["payload"] == {"by": "Ann"}


def test_cancel_tells_who_and_why_and_restart_runs_a_stage_again(site: Site) -> None:
    """The rest keeps its results; the stage has a second run."""
    run = started(site, flow(stage("a"), gate("gate", "a")))
    wait_for(site, run, gate="SUSPENDED")

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
    run = started(site, flow(waiting))
    wait_for(site, run, many="SUSPENDED")

    refused = site.post(f"/workflows/{run}/stages/many/add-instances", {"context": {"n": 10**30}})
    assert (refused.status_code, "beyond 64 bits" in refused.text) == (400, True)
    assert site.post(f"/workflows/{run}/stages/many/add-instances", {"number": 3}).json()["took_effect"]
    eventually(lambda: site.get(f"/workflows/{run}/stages/many")["stage"]["instances"]["total"] == 5, 60)
    eventually(lambda: len(site.get(f"/workflows/{run}/stages/many")["runs"][0]["instances"]) == 5, 60)
    assert site.post(f"/workflows/{run}/stages/many/complete-instances").json()["took_effect"]
    eventually(lambda: site.get(f"/workflows/{run}")["status"] == "SUCCEEDED", 60)


def test_dead_letters_are_shown_replayed_and_dropped(site: Site) -> None:
    """A message that was set aside comes back to life, or takes its workflow to its end."""
    run = started(site, flow(gate()))
    wait_for(site, run, gate="SUSPENDED")
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


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/workflows/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "there is no workflow"),
        ("/workflows/01ARZ3NDEKTSV4RRFFQ69G5FAV/events", 404, "there is no workflow"),
        ("/workflows/{a%3Ab}", 400, "not a workflow id"),
        ("/workflows?status=RUNING", 400, "Did you mean 'RUNNING'"),
        ("/workflows?limit=0", 400, "limit"),
        ("/workflows?colour=red", 400, "colour"),
        ("/workflows?cursor=x", 400, "cursor"),
        ("/streams/workflows/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "there is no workflow"),
        ("/nothing", 404, "Not Found"),
        ("/workflows/x/events?from=99999999999999999999-0", 400, "from"),
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


# -- live --------------------------------------------------------------------------------------------------------------


class Stream:
    """The events of a stream, heard on a thread of their own; a context, so that it ends before the page does."""

    def __init__(self, site: Site, path: str, **headers: str) -> None:
        self.heard: list[tuple[str, Any, str]] = []
        self._site, self._path, self._headers = site, path, headers
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._answer: httpx.Response | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        connection = eventually(lambda: self._answer).extensions["network_stream"].get_extra_info("socket")
        with contextlib.suppress(OSError):  # the page has ended what it refused
            connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)

    def _listen(self) -> None:
        kind, name = "", ""
        with (
            contextlib.suppress(httpx.TransportError),
            self._site.http.stream("GET", API + self._path, headers=self._headers, timeout=60) as self._answer,
        ):
            for line in self._answer.iter_lines():
                if line.startswith("id:"):
                    name = line[3:].strip()
                if line.startswith("event:"):
                    kind = line[6:].strip()
                if line.startswith("data:"):
                    self.heard.append((kind, json.loads(line[5:]), name))

    @property
    def status(self) -> int:
        """Of the answer; 0: there is none yet."""
        return 0 if self._answer is None else self._answer.status_code

    def of(self, kind: str) -> list[Any]:
        return [data for one, data, _ in list(self.heard) if one == kind]


def test_a_stream_tells_what_changes_as_it_happens(site: Site) -> None:
    """Stages with their new status, what happened in words; the whole is to be read again at the end."""
    run = started(site, flow(gate(), stage("after", "gate", context={"sleep_s": 0.5})))
    wait_for(site, run, gate="SUSPENDED")
    position = site.get(f"/workflows/{run}")["position"]
    with Stream(site, f"/streams/workflows/{run}?from={position}") as stream:
        site.post(f"/workflows/{run}/stages/gate/signal", {"name": "approve"})

        def statuses() -> list[tuple[str, str]]:
            return [(line["ref_id"], line["status"]) for one in stream.of("change") for line in one["stages"]]

        eventually(lambda: ("after", "RUNNING") in statuses(), 60)
        eventually(lambda: stream.of("reload"), 60)
    assert ("gate", "SUCCEEDED") in statuses()
    assert any("got signal 'approve'" in line["told"] for one in stream.of("change") for line in one["told"])


def test_a_stream_that_broke_goes_on_behind_the_last_event(site: Site) -> None:
    """`Last-Event-ID` is what browsers send: nothing is told twice, nothing is left out."""
    run = started(site, flow(gate()))
    wait_for(site, run, gate="SUSPENDED")
    events = site.get(f"/workflows/{run}/events")["items"]
    with Stream(site, f"/streams/workflows/{run}", **{"last-event-id": events[-2]["id"]}) as stream:
        [change] = eventually(lambda: stream.of("change"), 60)
    assert [one["id"] for one in change["told"]] == [events[-1]["id"]]
    assert stream.heard[0][2] == events[-1]["id"]


@pytest.mark.parametrize("last", ["x", "-1", "18446744073709551616-0"])
def test_who_goes_on_behind_no_event_is_told_so(site: Site, last: str) -> None:
    """Redis is not asked: it would refuse it to all who listen to that partition."""
    run = site.client.start(flow(gate()))
    answer = site.http.get(f"{API}/streams/workflows/{run.id}", headers={"last-event-id": last})

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "from" in fits(answer.json(), "Problem")["detail"]


def test_the_events_of_one_stage(site: Site) -> None:
    """Only its own, all of them, and none of a stage that there is not."""
    run = started(site, flow(gate(), stage("after", "gate")))
    wait_for(site, run, gate="SUSPENDED")
    every = site.get(f"/workflows/{run}/events")["items"]

    of_gate = site.get(f"/workflows/{run}/events", ref="gate")

    assert of_gate == {"items": [one for one in every if one["ref_id"] == "gate"], "position": None}
    assert of_gate["items"]
    assert site.get(f"/workflows/{run}/events", ref="nobody")["items"] == []


def test_the_list_tells_of_new_workflows_and_of_those_in_sight(site: Site) -> None:
    """What is asked for by id is told, too, wherever in the list it stands."""
    old = started(site, flow(gate(), name="watched-old"))
    with Stream(site, f"/streams/workflows?name=watched-new&ids={old}") as stream:
        eventually(lambda: stream.of("lines"), 30)
        new = started(site, flow(gate(), name="watched-new"))
        eventually(lambda: any(line["id"] == new for one in stream.of("lines") for line in one["newest"]), 30)
        site.client.handle(old).cancel("test")
        eventually(lambda: any(one["status"] == "CANCELED" for told in stream.of("lines") for one in told["shown"]), 30)


def test_locks_and_fleet_are_told_once_and_then_when_they_change(site: Site) -> None:
    """The first look comes at once; a lock that is taken is told within seconds."""
    with Stream(site, "/streams/locks") as locks, Stream(site, "/streams/fleet") as fleet:
        eventually(lambda: locks.of("locks") and fleet.of("fleet"), 30)
        run = started(site, flow(stage("held", does="approval", mutex_key="told-live", context={"signal": "x"})))
        eventually(lambda: any(lock["key"] == "told-live" for one in locks.of("locks") for lock in one["items"]), 30)
    assert fleet.of("fleet")[0]["workers"]
    site.client.handle(run).cancel("test")


def test_only_so_many_streams_are_open_at_once(redis_url: str) -> None:
    """One more is refused in words; a place is free again when one ends."""
    settings = WebSettings(max_streams=1)
    with Client(redis_url, redis_url) as client, served(client, settings) as site:
        with Stream(site, "/streams/locks") as first:
            eventually(lambda: first.of("locks"), 30)
            refused = site.http.get(f"{API}/streams/locks")
            assert refused.status_code == 503
            assert "live views" in refused.json()["detail"]

        def heard_again() -> bool:
            with Stream(site, "/streams/locks") as second, contextlib.suppress(AssertionError):
                return bool(eventually(lambda: second.of("locks"), 1))
            return False

        eventually(heard_again, 30)


def test_many_that_ask_at_once_get_no_more_places_than_there_are(redis_url: str) -> None:
    """As when a browser opens all its tabs again."""
    with Client(redis_url, redis_url) as client, served(client, WebSettings(max_streams=2)) as site:
        streams = [Stream(site, "/streams/locks") for _ in range(12)]
        with contextlib.ExitStack() as stack:
            for stream in streams:
                stack.enter_context(stream)

            statuses = [eventually(lambda s=stream: s.status, 30) for stream in streams]

        assert sorted(statuses) == [200] * 2 + [503] * 10


def test_a_users_name_stands_with_what_was_done(redis_url: str) -> None:
    """Behind a proxy that signs people in, the history tells who paused."""
    settings = WebSettings(user_header="X-Forwarded-User")
    with Client(redis_url, redis_url) as client, served(client, settings) as site:
        run = client.start(flow(gate())).id
        assert site.http.get(f"{API}/workflows").status_code == 401
        assert site.post(f"/workflows/{run}/pause", **{"x-forwarded-user": "ann"}).json()["took_effect"]
        told = site.http.get(f"{API}/workflows/{run}", headers={"x-forwarded-user": "ann"}).json()
        assert told["paused_by"] == "ann (web)"
