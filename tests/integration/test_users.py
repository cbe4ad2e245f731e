"""The users of deploy/users.conf on a real server: each can do what it is there for, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

from stabilize_celery.cli.program import run as run_program
from stabilize_celery.client import Client
from stabilize_celery.errors import StabilizeError
from stabilize_celery.telemetry.fleet_gauges import FleetGauges
from stabilize_celery.transport.queues import queue_lengths
from tests.chaos.fleet import STATE_SERVER, ChaosFleet
from tests.chaos.flows import ENDS, SIGNAL, make
from tests.chaos.verdict import check_nothing_owed
from tests.integration.fleet import ROOT, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real

USERS = ROOT / "deploy" / "users.conf"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that knows the users as we ship them, and one that may do all, for the test itself."""
    settings = tmp_path / "users.conf"
    settings.write_text(f"include {USERS}\nuser admin on >admin ~* &* +@all\n")
    with RedisServer(*STATE_SERVER, "--include", str(settings), append_only=True) as server:
        yield server


def url_of(server: RedisServer, role: str, database: int) -> str:
    password = "admin" if role == "admin" else f"change-me-{role}"
    user = "admin" if role == "admin" else f"stabilize-{role}"
    return f"redis://{user}:{password}@127.0.0.1:{server.port}/{database}"


@pytest.fixture
def fleet(server: RedisServer, tmp_path: Path) -> Iterator[ChaosFleet]:
    """A fleet of the worker's user; the test looks on as somebody who may do all."""
    with RedisServer() as witness:
        worker = {"broker": url_of(server, "worker", 0), "state": url_of(server, "worker", 1)}
        fleet = ChaosFleet(server, witness, tmp_path, **worker)
        fleet.state_servers = [url_of(server, "admin", 1)]
        try:
            yield fleet
        finally:
            fleet.stop()


def client_of(server: RedisServer, role: str) -> Client:
    return Client(url_of(server, role, 1), url_of(server, role, 0))


def refusals(server: RedisServer) -> set[str]:
    """Return what the server has refused to its users: `user: what`."""
    with redis.Redis.from_url(url_of(server, "admin", 0), decode_responses=True) as admin:
        return {f"{entry['username']}: {entry['object']}" for entry in admin.acl_log()}


def test_workers_and_producers_have_what_a_mixed_crowd_needs(fleet: ChaosFleet, server: RedisServer) -> None:
    """Every kind of workflow, with events and remote control on, a lost machine and a warm stop: nothing is refused."""
    stock = [sys.executable, "-m", "celery", "-A", "crowd", "worker", "-c", "2", "-E", "-l", "INFO"]
    lost = fleet.run_worker([*stock, "-n", "lost@%h"])
    # One of our queues alone, whose processes wait for messages themselves.
    worker = fleet.run_worker([*stock, "-n", "ours@%h", "-Q", "stabilize.control,stabilize.work"])
    with closing(client_of(server, "producer")) as producer:
        handles = producer.start_many([make(number) for number in range(len(ENDS))])
        for handle in handles:
            if handle.get().name == "signal":
                assert handle.signal("ask", SIGNAL)
        eventually(lambda: sum(handle.status().is_complete for handle in handles) > 4, 90)
        lost.kill_group()
        eventually(lambda: refusals(server) or all(handle.status().is_complete for handle in handles), 150)
        assert refusals(server) == set()
        assert all(done.status.name == ENDS[done.name] for done in (handle.get() for handle in handles))
    fleet.celery.control.ping(timeout=1)
    fleet.store = client_of(server, "admin").store
    check_nothing_owed(fleet)

    assert worker.process.poll() is None
    assert refusals(server) == set()


def test_a_viewer_sees_all_and_changes_nothing(fleet: ChaosFleet, server: RedisServer) -> None:
    """It lists, reads, explains; whatever it tries to write is refused, and says by whom."""
    with closing(client_of(server, "producer")) as producer, closing(client_of(server, "viewer")) as viewer:
        handle = producer.start(make(0))
        seen = viewer.handle(handle.id)

        assert [item.id for item in viewer.list().items] == [handle.id]
        assert (seen.get().name, seen.status().name) == ("chain", "RUNNING")
        assert "no worker is running" in str(seen.why())
        assert [event.kind for event in seen.events()] == ["workflow.created", "workflow.started"]
        for act in (lambda: viewer.start(make(1)), seen.cancel, seen.pause):
            with pytest.raises(StabilizeError, match="NOPERM"):
                act()
        assert handle.status().name == "RUNNING"


@pytest.mark.parametrize(("role", "walks"), [("worker", False), ("viewer", True), ("operator", True)])
def test_metrics_of_the_namespace_need_no_more_rights(
    fleet: ChaosFleet, server: RedisServer, role: str, walks: bool
) -> None:
    """A worker tells them without a walk over all keys, the page with one; queue lengths are among them."""
    with closing(client_of(server, "producer")) as producer, closing(client_of(server, role)) as client:
        producer.start(make(0))
        gauges = FleetGauges(
            client.store,
            client.settings,
            lambda queues: queue_lengths(url_of(server, role, 0), client.settings, queues),
            walks=walks,
        )
        found = {(name, *labels): value for name, labels, value in gauges.read()}

    assert refusals(server) == set()
    assert found["stabilize_workflows", "RUNNING"] == found["stabilize_up",] == 1
    assert ("stabilize_queue_length", "stabilize.control") in found
    assert (("stabilize_mutex_waiters",) in found) == walks


@pytest.mark.parametrize("role", ["worker", "producer", "viewer", "operator"])
def test_nobody_reaches_what_is_not_ours(server: RedisServer, role: str) -> None:
    """Other keys, other namespaces, and what an operator of Redis does."""
    with redis.Redis.from_url(url_of(server, role, 1)) as client:
        for command in (
            ("GET", "somebody:else"),
            ("HGETALL", "stabilize2:{p01}:x:w"),
            ("FLUSHALL",),
            ("CONFIG", "SET", "appendonly", "no"),
            ("ACL", "LIST"),
            ("EVAL", "return 1", "0"),
            ("KEYS", "*"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


def test_an_operator_runs_the_command_line(
    fleet: ChaosFleet, server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`doctor` tells of missing workers only; `locks`, `dead list` and `cancel` do what they do."""
    monkeypatch.setenv("STABILIZE_REDIS_URL", url_of(server, "operator", 1))
    monkeypatch.setenv("STABILIZE_BROKER_URL", url_of(server, "operator", 0))
    with closing(client_of(server, "producer")) as producer:
        handle = producer.start(make(0))

        assert run_program(["doctor"]) == 1
        told = capsys.readouterr().out
        assert [line for line in told.splitlines() if line.startswith("✘")] == [
            "✘ no worker is running in namespace 'stabilize'"
        ]
        assert [run_program(words) for words in (["locks"], ["dead", "list"], ["cancel", handle.id])] == [0, 0, 0]
        assert handle.status().name == "CANCELED"
    assert refusals(server) == set()


def test_namespaces_on_one_server_stay_apart(server: RedisServer, tmp_path: Path) -> None:
    """Each has its own keys, queues and workers: what one is owed is not carried out by the other's."""
    one, other = ({"broker": url_of(server, "admin", 0), "state": url_of(server, "admin", 1)} for _ in range(2))
    with RedisServer() as witness, ExitStack() as stack:
        (tmp_path / "other").mkdir()
        first = ChaosFleet(server, witness, tmp_path, **one)
        stack.callback(first.stop)
        second = ChaosFleet(server, witness, tmp_path / "other", namespace="shop", **other)
        stack.callback(second.stop)
        first.add_worker()
        second.add_worker()
        with closing(Client(other["state"], other["broker"], namespace="shop")) as client:
            mine = first.client.start(make(1))
            theirs = client.start(make(1))

            assert (mine.wait(30).status.name, theirs.wait(30).status.name) == ("SUCCEEDED", "SUCCEEDED")
        assert (len(first.journal_file.read_text().splitlines()), len(second.journal("end", "b0"))) == (8, 1)
        assert not [key for key in first.store.owed() if key[0] == theirs.id]
