"""Every surface with the state on a Redis Cluster of three nodes, and the broker on a server of its own."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from stabilize_celery import AsyncClient, StageExecution, TaskExecution, TaskResult, Workflow
from stabilize_celery.cli.program import run
from stabilize_celery.client import Client
from stabilize_celery.compat import CeleryQueue, Orchestrator, QueueProcessor, RedisWorkflowStore, TaskRegistry
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Hash, SetFields, workflow_slot
from stabilize_celery.store.contract import Bury, Transaction
from tests.clusters import ask, cluster_of
from tests.integration.fleet import Fleet, eventually
from tests.integration.site import Site, Stream, served
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.real

PIPELINE = """\
application: shop
name: order
stages:
  - {ref_id: charge, tasks: [{name: charge, implementing_class: work}]}
  - {ref_id: pack, requisite_stage_ref_ids: [charge], mi_config: {count: 3}, tasks: [{name: pack, implementing_class: work}]}
  - {ref_id: agree, requisite_stage_ref_ids: [charge], context: {signal: approve}, tasks: [{name: ask, implementing_class: approval}]}
  - {ref_id: ship, requisite_stage_ref_ids: [pack, agree], mutex_key: dock, tasks: [{name: ship, implementing_class: work}]}
"""
QUICK = """\
application: shop
name: quick
stages: [{ref_id: a, tasks: [{name: a, implementing_class: work}]}]
"""


@dataclass
class Lab:
    """A worker on a cluster, its page, and where its metrics are."""

    nodes: list[RedisServer]
    fleet: Fleet
    site: Site
    metrics_port: int

    def start(self, *refs: str, **context: Any) -> str:
        """Start a workflow of an approval that waits for `approve`."""
        task = {"name": "ask", "implementing_class": "approval"}
        stages = [{"ref_id": ref, "context": {"signal": "approve", **context}, "tasks": [task]} for ref in refs]
        return self.fleet.runtime.submit({"application": "shop", "name": "waits", "stages": stages})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    port = free_port()
    with cluster_of(3, "--cluster-node-timeout", "30000", append_only=True) as nodes, RedisServer() as broker:
        state = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"
        folder = tmp_path_factory.mktemp("cluster")
        fleet = Fleet(broker, folder, broker=broker.url, state=state, metrics_port=str(port))
        try:
            fleet.start_worker()
            with Client(state, broker.url) as client, served(client) as site:
                yield Lab(nodes, fleet, site, port)
        finally:
            fleet.stop()


Program: TypeAlias = Callable[..., str]


@pytest.fixture
def program(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """Run a command line in this process; return what it printed."""
    monkeypatch.setenv("STABILIZE_REDIS_URL", lab.fleet.state_url)
    monkeypatch.setenv("STABILIZE_BROKER_URL", lab.fleet.broker_url)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "order.yaml").write_text(PIPELINE)
    (tmp_path / "quick.yaml").write_text(QUICK)

    def call(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        ended = run(arguments)
        said = capsys.readouterr()
        assert ended == code, said.out + said.err
        return said.out

    return call


def test_a_workflow_is_started_looked_at_and_acted_on(lab: Lab, program: Program) -> None:
    """From its start to its second end, command by command."""
    run_id = json.loads(program("start", "order.yaml", "--key", "order-7", "--json"))["id"]
    assert run_id in program("start", "order.yaml", "--key", "order-7")
    eventually(lambda: "SUSPENDED" in program("status", run_id) and "3 of 3 done" in program("status", run_id))

    assert "waits for signal 'approve'" in program("why", run_id)
    assert "pack, 3 instances" in program("graph", run_id)
    assert program("pause", run_id) == f"{run_id}: paused\n"
    assert run_id in program("list", "--status", "PAUSED", "--application", "shop", "--name", "order")
    assert "paused by" in program("why", run_id)
    assert "woke run of 'agree'" in program("signal", run_id, "agree", "approve", '{"by": "me"}')
    assert program("resume", run_id) == f"{run_id}: resumed\n"
    assert "ship" in program("watch", run_id)
    assert json.loads(program("result", run_id))["payload"] == {"by": "me"}
    followed = program("events", run_id, "--follow")
    for happened in ("paused by", "got signal 'approve'", "holds mutex 'dock'", "workflow SUCCEEDED"):
        assert happened in followed
    assert "restarted 'agree' and 1 stage after it" in program("restart", run_id, "agree")
    assert "cancelled" in program("cancel", run_id, "--reason", "sold out")
    assert "sold out" in program("why", run_id)
    assert lab.fleet.ended(run_id).status.name == "CANCELED"


def test_stages_are_ended_one_by_one(lab: Lab, program: Program) -> None:
    """Each in its own way; the workflow ends when the last one has."""
    run_id = lab.start("one", "two")
    assert "skipped" in program("skip-stage", run_id, "one")
    assert "cancelled stage 'two'" in program("cancel-stage", run_id, "two")

    assert lab.fleet.ended(run_id).stage_by_ref_id("two").status.name == "CANCELED"


def test_a_lock_is_shown_with_who_waits(lab: Lab, program: Program) -> None:
    """Wherever the workflows and the lock lie."""
    task = {"name": "ask", "implementing_class": "approval"}
    stage = {"ref_id": "load", "mutex_key": "ramp", "context": {"signal": "approve"}, "tasks": [task]}
    runs = [
        lab.fleet.runtime.submit({"application": "shop", "name": f"load{number}", "stages": [stage]})
        for number in range(3)
    ]
    eventually(lambda: "2nd" in program("locks"))
    (line,) = lab.site.get("/locks")["items"]
    assert (line["key"], line["waiting"]) == ("ramp", 2)
    for run_id in runs:
        program("cancel", run_id)

    eventually(lambda: "No mutex is held" in program("locks"))


def test_many_are_started_at_once_and_by_a_schedule(lab: Lab, program: Program) -> None:
    """A batch lies in many partitions; a schedule in one."""
    Path("lines").write_text("".join(f'{{"n": {number}}}\n' for number in range(30)))
    assert program("start", "quick.yaml", "--batch", "lines") == "Started 30 workflows of lines\n"
    assert "SUCCEEDED" in program("start", "quick.yaml", "--wait")
    assert program("schedule", "add", "often", "quick.yaml", "--every", "1s").startswith("Schedule often: first start")
    started = eventually(lambda: json.loads(program("schedule", "show", "often", "--json"))["started"])
    assert started >= 1
    program("schedule", "pause", "often")
    assert "paused" in program("schedule", "list")
    assert "often" in json.dumps(lab.site.get("/schedules"))
    program("schedule", "remove", "often")

    eventually(lambda: program("list", "--name", "quick", "--status", "RUNNING").startswith("No workflow"))
    assert program("list", "--name", "quick", "--status", "SUCCEEDED", "--limit", "1000").count("quick") > 31
    assert all(int(str(ask(node, "DBSIZE"))) > 20 for node in lab.nodes), "one node has next to nothing"


@pytest.mark.parametrize(("act", "status"), [("replay", "SUCCEEDED"), ("drop", "TERMINAL")])
def test_a_dead_letter_is_found_shown_and_ended(lab: Lab, program: Program, act: str, status: str) -> None:
    """Whichever node it lies on."""
    task = {"name": "wait", "implementing_class": "wait"}
    stage = {"ref_id": "a", "context": {"seconds": 3}, "tasks": [task]}
    run_id = lab.fleet.runtime.submit({"application": "shop", "name": "dead", "stages": [stage]})
    letter = eventually(lambda: bury(lab, run_id))

    assert letter in program("dead", "list")
    assert "KeyError: 'x'" in program("dead", "show", letter)
    assert letter.partition("/")[2] in json.dumps(lab.site.get("/dead"))
    program("dead", act, letter)
    assert lab.fleet.ended(run_id).status.name == status
    assert letter not in program("dead", "list")


def bury(lab: Lab, run_id: str) -> str:
    """Let what a workflow owes to its task, which rests, be a dead letter; empty: it does not rest yet."""
    store = lab.fleet.store
    name = next((name for workflow_id, name in store.owed() if workflow_id == run_id and name.startswith("Run:")), "")
    with store.session(workflow_slot(run_id)) as session:
        entry = Hash(ledger(name))
        found = ENTRY.decode(session.read((entry,), (entry.key,))[entry])
        if found.own or found.nb <= store.time_ms():
            return ""
        broken = ENTRY.encode(tries=10, error="Traceback:\nKeyError: 'x'")
        assert session.commit(Transaction([SetFields(entry.key, broken)], [Bury(name, store.time_ms())]))
    return f"{run_id}/{name}"


def test_doctor_and_metrics_tell_of_all_nodes(lab: Lab, program: Program) -> None:
    """The worker's numbers and the page's are those of the whole cluster."""
    lab.fleet.ended(lab.fleet.submit("one"))

    said = program("doctor")
    assert "✔ appendonly yes" in said
    assert "✔ 1 worker" in said
    with urllib.request.urlopen(f"http://127.0.0.1:{lab.metrics_port}/metrics", timeout=10) as answer:
        of_worker = answer.read().decode()
    assert 'stabilize_workflows{status="SUCCEEDED"}' in of_worker
    assert "stabilize_partitions_held 16.0" in of_worker
    kept = len(json.loads(program("list", "--limit", "1000", "--status", "SUCCEEDED", "--json"))["items"])
    of_page = lab.site.http.get("/metrics").text
    assert f'stabilize_workflows{{status="SUCCEEDED"}} {kept}.0' in of_page
    assert "stabilize_mutex_waiters 0.0" in of_page
    fleet = lab.site.get("/fleet")
    assert len(fleet["partitions"]) == 16
    assert [queue["workers"] for queue in fleet["queues"]] == [1, 1, 1]


def test_the_page_acts_and_its_streams_tell(lab: Lab) -> None:
    """Streams wait on streams of Redis that lie on several nodes."""
    runs = [lab.start("agree") for _ in range(6)]
    for run_id in runs:
        eventually(lambda one=run_id: lab.site.get(f"/workflows/{one}/stages/agree")["stage"]["status"] == "SUSPENDED")
    with Stream(lab.site, "/streams/workflows") as listed:
        for run_id in runs:
            with Stream(lab.site, f"/streams/workflows/{run_id}") as stream:
                eventually(lambda one=stream: one.status == 200)
                path = f"/workflows/{run_id}/stages/agree/signal"
                told = lab.site.post(path, {"name": "approve", "payload": 1}).json()
                assert told == {"took_effect": True, "told": "woke run of 'agree'"}
                eventually(lambda one=stream: one.of("reload") or "SUCCEEDED" in json.dumps(one.of("change")))
        eventually(lambda: json.dumps(listed.of("lines")).count("SUCCEEDED") >= 1)

    found = lab.site.get("/workflows", name="waits", status="SUCCEEDED", limit=2)
    assert len(found["items"]) == 2
    assert found["cursor"]
    assert lab.site.get(f"/workflows/{runs[0]}/result")["value"]["payload"] == 1


def test_many_are_followed_by_one_event_loop(lab: Lab) -> None:
    """One connection per partition, whichever node it lies on."""

    async def follow() -> list[str]:
        async with AsyncClient(lab.fleet.state_url, lab.fleet.broker_url) as client:
            gate = StageExecution(ref_id="g", context={"signal": "go"}, tasks=[TaskExecution.create("g", "approval")])
            handles = [await client.start(Workflow.create("shop", "async", [gate])) for _ in range(20)]
            waits = [asyncio.create_task(handle.wait(timeout_s=60)) for handle in handles]
            for handle in handles:
                assert await handle.signal("g", "go")
            assert [event.kind async for event in handles[0].events(follow=True)][-1] == "workflow.succeeded"
            return [(await wait).status.name for wait in waits]

    assert asyncio.run(follow()) == ["SUCCEEDED"] * 20


def test_a_program_of_old_runs(lab: Lab) -> None:
    """Its store on the cluster, its queue on the broker, its own process the worker."""
    registry = TaskRegistry()
    registry.register("hello", lambda stage: TaskResult.success({"greeting": f"Hello, {stage.context['name']}!"}))
    store, queue = RedisWorkflowStore(lab.fleet.state_url, namespace="old"), CeleryQueue(lab.fleet.broker_url)
    processor = QueueProcessor(queue, store=store, task_registry=registry)
    hello = StageExecution(ref_id="1", context={"name": "you"}, tasks=[TaskExecution.create("hello", "hello")])
    workflow = Workflow.create("my-app", "hello", [hello])
    store.store(workflow)
    Orchestrator(queue).start(workflow)
    processor.process_all(timeout=10)

    assert store.retrieve(workflow.id).stages[0].outputs == {"greeting": "Hello, you!"}
    store.close()
