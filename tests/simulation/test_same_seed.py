"""The same seed is the same run, whatever the process; a pipeline that has much of everything runs on any day."""

import contextlib
import io
import os
import subprocess
import sys
from typing import Any

import pytest

from stabilize_celery import TransientError, Workflow, current_call, instances
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.testing import Faults, Simulation, run_workflow
from tests.pages import ROOT
from tests.simulation.stories import stage, workflow
from tests.simulation.tuning import seeds


def work(stage: StageExecution) -> dict[str, Any]:
    return {stage.ref_id: 1}


def everything() -> Workflow:
    """Branches, locks, instances, an inner workflow, failures, polls: much that may come in another order."""
    branches = [stage(f"b{n}", "s", mutex_key="dock" if n % 2 else None) for n in range(6)]
    return workflow(
        stage("s"),
        *branches,
        stage("z", *(branch.ref_id for branch in branches)),
        StageExecution(ref_id="sub", requisite_stage_ref_ids={"s"}, sub_workflow="inner"),
        instances(stage("m", "s"), count=4, at_once=2),
        stage("flaky", does="flaky"),
        sub_workflows={"inner": workflow(stage("x"), stage("y", mutex_key="dock"))},
    )


def diary(seed: int, faults: Faults | None) -> list[str]:
    """All that a run of `everything` shows: bodies with their keys and times, statuses, events."""
    lines: list[str] = []

    def note(stage: StageExecution) -> dict[str, Any]:
        call = current_call()
        lines.append(f"{call.now_ms} {stage.ref_id} {call.attempt} {call.idempotency_key} {call.fencing_token}")
        return {stage.ref_id: 1}

    def flaky(stage: StageExecution) -> dict[str, Any]:
        note(stage)
        if current_call().attempt < 3:
            raise TransientError("again")
        return {}

    simulation = Simulation(seed, {"work": note, "flaky": flaky}, faults=faults)
    done = simulation.finish(simulation.start(everything()))
    lines += [f"{one.ref_id} {one.status} {one.start_time} {one.end_time} {one.outputs}" for one in done.stages]
    lines += [
        f"{event.id} {sorted(event.fields.items())}" for event in simulation.store.events(done.id, "0", None, 9999)
    ]
    again = run_workflow(everything(), {"work": note, "flaky": flaky}, seed, faults=faults)
    return [*lines, f"{again.id} {again.end_time}"]


@pytest.mark.parametrize("faults", [None, Faults(die=0.05)])
def test_the_same_seed_is_the_same_run(faults: Faults | None) -> None:
    """To the microsecond, and to the last key; another seed is another run."""
    runs = {seed: diary(seed, faults) for seed in range(3)}

    assert runs == {seed: diary(seed, faults) for seed in range(3)}
    assert runs[0] != runs[1] != runs[2]


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    """Whatever order the process's sets and hashes have."""
    program = (
        "import hashlib; from stabilize_celery.testing import Faults; from tests.simulation.test_same_seed import diary;"
        "print([hashlib.md5(repr(diary(s, f)).encode()).hexdigest() for s in range(3) for f in (None, Faults())])"
    )

    def told(hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    here = eval_here(program)
    assert told("0") == told("1") == told("4711") == here


def eval_here(program: str) -> str:
    """What the program prints in this process, whose hashes are again others."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(program, {})
    return out.getvalue()


@pytest.mark.parametrize("faults", [None, Faults()])
@pytest.mark.parametrize("seed", seeds(5))
def test_locks_instances_and_inner_workflows_are_run(seed: int, faults: Faults | None) -> None:
    """Nothing of the engine is left out, on good days and on bad ones."""
    done = run_workflow(everything(), {"work": work, "flaky": lambda _: None}, seed, faults=faults)

    assert done.status.name == "SUCCEEDED"
    assert done.get_context()["m"] == [1, 1, 1, 1]
    assert (done.get_context()["x"], done.get_context()["y"]) == (1, 1)
    assert {one.status.name for one in done.stages} == {"SUCCEEDED"}
