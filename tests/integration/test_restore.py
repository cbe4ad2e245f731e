"""A copy of Redis' files, taken while workflows run, brought up elsewhere: they go on there (docs/runbook.md)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from stabilize_celery.client import WorkflowHandle
from tests.integration.fleet import Fleet, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real


RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"


def as_told(data: Path, backup: Path, *begins: str) -> str:
    """The lines of the runbook that begin so, about these folders."""
    told = [line for line in RUNBOOK.read_text().splitlines() if line.startswith(begins)]
    return "\n".join(told).replace("/backup", str(backup)).replace("/data", str(data))


def copy_log(server: RedisServer, folder: Path) -> None:
    """Copy the append-only folder, with rewrites off, by the runbook's own lines; then as it is to be put back."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("auto-aof-rewrite-percentage", 0)
        eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        backup = folder / "kept"
        lines = as_told(server.folder, backup, "copy=", "mkdir -p", 'cp -a /data/appendonlydir "$copy/"')
        back = as_told(folder, backup, 'cp -a "$copy/appendonlydir"')
        subprocess.run(["bash", "-eu", "-c", f"{lines}\n{back}"], check=True)
        client.config_set("auto-aof-rewrite-percentage", 100)
    shutil.rmtree(backup)


def copy_snapshot(server: RedisServer, folder: Path) -> None:
    """Copy a snapshot, as the runbook says."""
    with redis.Redis.from_url(server.url) as client:
        client.bgsave()
        eventually(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
    shutil.copy(server.folder / "dump.rdb", folder / "dump.rdb")


def restored(copy: Path, append_only: bool) -> RedisServer:
    """A server on another port that has read the copy. From a snapshot, its log is switched on afterwards."""
    server = RedisServer(append_only=append_only)
    server.__enter__()
    server.kill()
    for old in server.folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(copy, server.folder, dirs_exist_ok=True)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        eventually(lambda: not client.info("persistence")["loading"])
        client.config_set("appendonly", "yes")
    return server


def chain(fleet: Fleet) -> str:
    """Start: a stage that ends before the backup, one that runs meanwhile, one that waits for a signal."""
    task = {"name": "t", "implementing_class": "work"}
    stages = [
        {"ref_id": "before", "tasks": [task]},
        {"ref_id": "during", "tasks": [task], "requisite_stage_ref_ids": ["before"], "context": {"sleep_s": 3}},
        {
            "ref_id": "asks",
            "tasks": [{"name": "t", "implementing_class": "approval"}],
            "requisite_stage_ref_ids": ["before"],
            "context": {"signal": "go"},
        },
        {"ref_id": "after", "tasks": [task], "requisite_stage_ref_ids": ["during", "asks"]},
    ]
    return fleet.runtime.submit({"application": "shop", "name": "chain", "stages": stages})


@pytest.mark.parametrize(("copy", "has_log"), [(copy_log, True), (copy_snapshot, False)], ids=["log", "snapshot"])
def test_running_workflows_go_on_from_a_copy(
    tmp_path: Path, copy: Callable[[RedisServer, Path], None], has_log: bool
) -> None:
    """What ended stays ended, what ran runs again, what waited still waits; the old server is never asked."""
    backup, first, second = (tmp_path / name for name in ("backup", "first", "second"))
    for folder in (backup, first, second):
        folder.mkdir()
    with RedisServer(append_only=True) as server:
        fleet = Fleet(server, first, lease_ms="1500")
        try:
            fleet.start_worker()
            workflow_id = chain(fleet)
            eventually(lambda: fleet.journal("start", "during"))
            eventually(lambda: fleet.workflow(workflow_id).stage_by_ref_id("asks").status.name == "SUSPENDED")
            copy(server, backup)
        finally:
            fleet.stop()
    elsewhere = restored(backup, has_log)
    try:
        fleet = Fleet(elsewhere, second, lease_ms="1500")
        try:
            fleet.start_worker()
            eventually(lambda: fleet.journal("end", "during"), 60)
            assert WorkflowHandle(fleet.runtime, workflow_id).signal("asks", "go")
            done = fleet.ended(workflow_id, 60)
        finally:
            fleet.stop()
    finally:
        elsewhere.__exit__(None, None, None)

    assert done.status.name == "SUCCEEDED"
    assert fleet.journal("start", "before") == []
    assert len(fleet.journal("end", "after")) == 1
