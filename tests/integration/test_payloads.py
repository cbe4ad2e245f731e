"""A fleet whose payloads are encrypted and kept in files: Redis never sees them, and all of it goes in the end."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from stabilize_celery.cli.doctor import check_agreement
from stabilize_celery.client import Client
from stabilize_celery.errors import PayloadError
from stabilize_celery.settings import Settings
from tests.integration.fleet import Fleet, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real

KEY = f"a:{base64.b64encode(b'k' * 32).decode()}"
SECRET = "4111 1111 1111 1111"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def fleet(server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(
        server,
        tmp_path,
        encryption_keys=KEY,
        payload_dir=str(tmp_path / "payloads"),
        payload_bytes="2000",
        retention_ms="4000",
    )
    try:
        yield fleet
    finally:
        fleet.stop()


def everything(url: str) -> bytes:
    """All that a database of the server holds, as one text."""
    with redis.Redis.from_url(url) as client:
        found: list[Any] = []
        for key in client.scan_iter():
            read = {
                b"hash": client.hgetall,
                b"stream": client.xrange,
                b"string": client.get,
                b"set": client.smembers,
                b"zset": lambda name: client.zrange(name, 0, -1),
                b"list": lambda name: client.lrange(name, 0, -1),
            }.get(client.type(key), lambda name: b"gone meanwhile")
            found.append((key, read(key)))
    return repr(found).encode()


def test_a_workflow_runs_and_redis_never_sees_its_payloads(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start_worker()
    workflow_id = fleet.submit("pay", card=SECRET, scan=SECRET * 1000)
    done = fleet.ended(workflow_id)

    assert done.status.name == "SUCCEEDED"
    assert [check.name for check in check_agreement(fleet.store.fleet(), Settings.from_env(fleet.env))] == []
    assert [check.name for check in check_agreement(fleet.store.fleet(), Settings(redis_url="redis://h"))] == ["keys"]
    assert done.stages[0].context["card"] == SECRET
    assert done.stages[0].outputs["done_by"]
    assert SECRET.encode() not in everything(fleet.state_url) + everything(fleet.broker_url)
    kept = [path for path in (tmp_path / "payloads").rglob("*") if path.is_file()]
    assert kept
    assert not any(SECRET.encode() in path.read_bytes() for path in kept)
    with Client(fleet.state_url, fleet.broker_url) as other:
        assert other.handle(workflow_id).status().name == "SUCCEEDED"
        with pytest.raises(PayloadError, match="set STABILIZE_"):
            other.get(workflow_id)

    # All that stays for a while is that the workflow was there.
    eventually(lambda: f"{workflow_id}:d".encode() not in everything(fleet.state_url), 60)
    eventually(lambda: not any(path.is_file() for path in (tmp_path / "payloads").rglob("*")))


def test_a_worker_without_the_key_leaves_the_work_to_one_that_has_it(fleet: Fleet) -> None:
    """Nothing fails for it, and nothing becomes a dead letter."""
    env = dict(fleet.env)
    fleet.env.pop("STABILIZE_ENCRYPTION_KEYS")
    lacking = fleet.start_worker()
    workflow_id = fleet.submit("pay", card=SECRET)
    eventually(lambda: "is encrypted: set STABILIZE_ENCRYPTION_KEYS" in lacking.log)
    assert fleet.workflow(workflow_id).status.name == "RUNNING"
    lacking.kill_group()
    fleet.env = env
    fleet.start_worker()

    assert fleet.ended(workflow_id, 60).status.name == "SUCCEEDED"
    assert fleet.store.dead_letters() == []


def test_a_large_payload_is_a_blob_that_goes_with_its_workflow(server: RedisServer, tmp_path: Path) -> None:
    """By default, on a real fleet; what is below the limit stands in its record."""
    fleet = Fleet(server, tmp_path, retention_ms="3000")
    large, small = "x" * 300_000, "y" * 200_000
    try:
        fleet.start_worker()
        workflow_id = fleet.submit("scan", page=large, thumbnail="small")
        other_id = fleet.submit("scan", page=small)
        done, other = fleet.ended(workflow_id), fleet.ended(other_id)
        stored = everything(fleet.state_url)
        with redis.Redis.from_url(fleet.state_url) as client:
            kept = {key.decode().rsplit(":", 2)[1] for key in client.scan_iter("*:b")}
        eventually(
            lambda: not any(f"{one}:d".encode() in everything(fleet.state_url) for one in (workflow_id, other_id)), 60
        )

        assert (done.status.name, other.status.name) == ("SUCCEEDED", "SUCCEEDED")
        assert (done.stages[0].context["page"], other.stages[0].context["page"]) == (large, small)
        assert kept == {workflow_id}
        assert small.encode() in stored
        assert large.encode() not in everything(fleet.state_url)
    finally:
        fleet.stop()
