"""Two workflows that really block each other: real workers, a real server, and the command line that names it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet import Fleet, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on a server of its own, with one worker."""
    with RedisServer() as server:
        made = Fleet(server, tmp_path)
        try:
            made.start_worker()
            yield made
        finally:
            made.stop()


def command(fleet: Fleet, *arguments: str) -> str:
    """Run the program; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "stabilize_celery", "--redis-url", fleet.state_url, *arguments],
        env={**fleet.env, "STABILIZE_BROKER_URL": fleet.broker_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def nested(name: str, first: str, second: str) -> dict[str, Any]:
    """Stage `load` holds the first key; in it, `check` wants the second one once somebody has said `go`."""

    def stage(ref_id: str, does: str, **more: Any) -> dict[str, Any]:
        tasks = [{"name": does, "implementing_class": does}]
        return {"ref_id": ref_id, "type": "x", "name": ref_id, "tasks": tasks, **more}

    inside = {"parent_stage_id": "load", "synthetic_stage_owner": "STAGE_BEFORE"}
    return {
        "application": "shop",
        "name": name,
        "stages": [
            stage("load", "work", mutex_key=first),
            stage("gate", "approval", context={"signal": "go"}, **inside),
            stage("check", "work", mutex_key=second, requisite_stage_ref_ids=["gate"], **inside),
        ],
    }


def is_at_its_gate(fleet: Fleet, workflow_id: str) -> bool:
    return fleet.workflow(workflow_id).stage_by_ref_id("gate").status.name == "SUSPENDED"


def test_a_real_deadlock_is_named_and_can_be_broken(fleet: Fleet) -> None:
    """`why` names both parties; `locks` marks both keys; as one is cancelled the other goes on to its end."""
    first, second = (
        fleet.runtime.submit(nested(name, *keys))
        for name, keys in (("order", ("dock", "yard")), ("round", ("yard", "dock")))
    )
    for one in (first, second):
        eventually(lambda one=one: is_at_its_gate(fleet, one), 60)
    for one in (first, second):
        command(fleet, "signal", one, "gate", "go")

    eventually(lambda: [len(lock.waiters) for lock in fleet.store.locks()] == [1, 1], 60)
    told = command(fleet, "why", first)

    for one, name, held, wanted in ((first, "order", "dock", "yard"), (second, "round", "yard", "dock")):
        assert f"{name} …{one[-6:]} / load holds '{held}' for " in told
        assert f" for '{wanted}'" in told
        assert f"stabilize-celery cancel {one}" in told
    (reason,) = [one for one in json.loads(command(fleet, "why", second, "--json")) if one["kind"] == "deadlock"]
    assert {one["holder"]["workflow_id"] for one in reason["deadlock"]} == {first, second}
    shown = command(fleet, "locks")
    assert shown.count("  DEADLOCK\n") == 2
    assert all(lock["is_stuck"] for lock in json.loads(command(fleet, "locks", "--json")))

    command(fleet, "cancel", second, "--reason", "a deadlock")

    assert fleet.ended(first, 60).status.name == "SUCCEEDED"
    assert fleet.ended(second, 60).status.name == "CANCELED"
    eventually(lambda: not fleet.store.locks(), 60)
    assert "No mutex" in command(fleet, "locks")
