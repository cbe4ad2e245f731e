"""The package is typed for its users: their editors complete, their type checkers find their mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import stabilize_celery

ROOT = Path(__file__).parents[2]

PROGRAM = """
from stabilize_celery import (
    AsyncClient, Client, StageExecution, TaskExecution, TaskResult, Workflow, WorkflowStatus, exclusive_choice, instances
)

def charge(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"receipt": stage.context["order_id"]})

pay = StageExecution(ref_id="pay", tasks=[TaskExecution.create("charge", "charge")])
order = Workflow.create("shop", "order", [pay], context={"order_id": 7})
handle = Client("redis://localhost").start(order, idempotency_key="order-7")
status: WorkflowStatus = handle.wait(timeout_s=60).status
rows: list[str] = [item.id for item in Client("redis://localhost").list(status=WorkflowStatus.RUNNING).items]

async def wait(client: AsyncClient) -> Workflow:
    return await (await client.start(order)).wait()
"""

MISTAKES = {
    "handle.wait(timeout=60)": "timeout_s",
    "Client(1)": "incompatible type",
    "StageExecution(ref='pay')": "ref",
    "Workflow.create('shop', 'order', pay)": "incompatible type",
    "handle.singal('pay', 'go')": "singal",
    "handle.status().nam": "nam",
}


def checked(code: str, tmp_path: Path) -> str:
    file = tmp_path / "program.py"
    file.write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), str(file)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout


def test_the_package_says_that_it_is_typed() -> None:
    """Without this file type checkers of its users would take everything for Any."""
    assert (Path(stabilize_celery.__file__).parent / "py.typed").is_file()


def test_a_users_program_passes_strict_checks_and_mistakes_are_found(tmp_path: Path) -> None:
    """One run for all: each mistake on a line of its own, told at its line."""
    lines = PROGRAM.count("\n")
    told = checked(PROGRAM + "\n".join(MISTAKES) + "\n", tmp_path)
    errors = [line for line in told.splitlines() if ": error:" in line]

    assert len(errors) >= len(MISTAKES), told
    for number, (code, words) in enumerate(MISTAKES.items(), lines + 1):
        found = [line for line in errors if line.startswith(f"program.py:{number}:")]
        assert found, (code, told)
        assert any(words in line for line in found), (code, found)
    assert [line for line in errors if int(line.split(":")[1]) <= lines] == []
