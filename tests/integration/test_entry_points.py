"""The deployable workers, started by the commands of the compose file, carry a workflow together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.integration.fleet import ROOT, Fleet, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real

TASKS = """
from stabilize_celery import StageExecution, TaskResult
from workers.app import stabilize


@stabilize.task("charge")
def charge(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"receipt": stage.context["order_id"]})
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with RedisServer() as server:
        fleet = Fleet(server, tmp_path)
        fleet.env |= {
            "STABILIZE_BROKER_URL": fleet.broker_url,
            "STABILIZE_REDIS_URL": fleet.state_url,
            "STABILIZE_TASK_MODULES": "shop_tasks",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        }
        (tmp_path / "shop_tasks.py").write_text(TASKS)
        try:
            yield fleet
        finally:
            fleet.stop()


def command_of(service: str) -> list[str]:
    services: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
    program, *rest = services[service]["command"]
    return [str(Path(sys.executable).with_name(program)), *rest]


def alive(fleet: Fleet, file: Path) -> int:
    env = {**fleet.env, "STABILIZE_ALIVE_FILE": str(file)}
    return subprocess.run([sys.executable, "-m", "workers.alive"], env=env, check=False, capture_output=True).returncode


def test_control_and_task_workers_carry_a_workflow_together(fleet: Fleet, tmp_path: Path) -> None:
    """With a task from a module that the environment names; the probe sees each live, and end."""
    files = {}
    for service in ("control", "tasks"):
        files[service] = tmp_path / f"alive-{service}"
        fleet.env["STABILIZE_ALIVE_FILE"] = str(files[service])
        fleet.run_worker([*command_of(service), "-c", "1", "-n", f"{service}@%h"])

    done = fleet.ended(fleet.submit("pay", "charge", order_id=7), 60)

    assert done.stage_by_ref_id("pay").outputs == {"receipt": 7}
    eventually(lambda: [alive(fleet, file) for file in files.values()] == [0, 0])
    assert alive(fleet, tmp_path / "nobody") == 1
    fleet.workers[1].send(signal.SIGTERM)
    assert eventually(lambda: fleet.workers[1].process.poll() is not None, 30)
    assert fleet.workers[1].process.returncode == 0
