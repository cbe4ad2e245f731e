"""Real Celery workers: claims live as long as their bodies, whatever the pool and whatever is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import psutil
import pytest
import redis

from stabilize_celery.engine.outside import cancel
from tests.integration.fleet import Fleet, eventually
from tests.servers import RedisServer

pytestmark = pytest.mark.real

POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_body_that_outlasts_its_lease_runs_once(new_fleet: Callable[..., Fleet], pool: str) -> None:
    """Heartbeats come from beside the body in every pool, also while a warm shutdown waits for it; then all is given back."""
    if pool == "gevent":
        pytest.importorskip("gevent", reason="needs the gevent package")
    fleet = new_fleet(lease_ms="1500")
    worker = fleet.start_worker(pool=pool)
    workflow_id = fleet.submit("long", sleep_s=7)
    eventually(lambda: fleet.journal("start", "long"))
    time.sleep(1.0)
    worker.send(signal.SIGTERM)

    assert worker.process.wait(30) == 0
    assert len(fleet.journal("start", "long")) == len(fleet.journal("end", "long")) == 1
    assert fleet.store.fleet() == {}
    every = list(range(fleet.store.partitions()))
    assert fleet.store.take_leases("next", every, 1)[0] == every
    fleet.start_worker(pool=pool)
    assert fleet.ended(workflow_id).status.name == "SUCCEEDED"
    assert len(fleet.journal("start", "long")) == 1


@pytest.mark.parametrize("pool", POOLS)
def test_a_body_that_raises_what_ends_workers_fails(new_fleet: Callable[..., Fleet], pool: str) -> None:
    """In every pool alike, and no worker ends: in threads and greenlets it had vanished, and ran for ever."""
    if pool == "gevent":
        pytest.importorskip("gevent", reason="needs the gevent package")
    fleet = new_fleet()
    worker = fleet.start_worker(pool=pool)

    done = fleet.ended(fleet.submit("leaving", "shut down"), 60)

    assert done.status.name == "TERMINAL"
    assert "raised WorkerShutdown" in str(done.stages[0].tasks[0].task_exception_details)
    assert len(fleet.journal("start", "leaving")) == 1
    assert worker.process.poll() is None
    assert fleet.ended(fleet.submit("good")).status.name == "SUCCEEDED"


def test_a_killed_child_is_reported_at_once(new_fleet: Callable[..., Fleet]) -> None:
    """Not when its lease runs out; a task that kills every child is TERMINAL after its tries, and the worker lives."""
    fleet = new_fleet(lease_ms="60000")
    worker = fleet.start_worker()

    done = fleet.ended(fleet.submit("poison", "die"), 60)

    assert done.status.name == "TERMINAL"
    starts = [entry["at"] for entry in fleet.journal("start", "poison")]
    assert 1 < len(starts) <= 5
    assert max(later - sooner for sooner, later in pairwise(starts)) < 15
    assert worker.process.poll() is None
    assert fleet.ended(fleet.submit("good")).status.name == "SUCCEEDED"


def test_a_cold_shutdown_hands_running_bodies_to_others(new_fleet: Callable[..., Fleet]) -> None:
    """Before their lease runs out, and without counting a loss."""
    fleet = new_fleet(lease_ms="60000")
    first = fleet.start_worker()
    workflow_id = fleet.submit("long", sleep_s=6)
    eventually(lambda: fleet.journal("start", "long"))
    first.send(signal.SIGQUIT)
    first.process.wait(30)
    assert not fleet.journal("end", "long")

    fleet.start_worker()

    eventually(lambda: len(fleet.journal("start", "long")) == 2, 15)
    assert fleet.ended(workflow_id).status.name == "SUCCEEDED"
    assert len(fleet.journal("end", "long")) == 1


def test_a_lost_machine_is_replaced_when_its_lease_runs_out(new_fleet: Callable[..., Fleet]) -> None:
    """The keeper of a living worker reaps the claim, also of partitions that the dead one looked after."""
    fleet = new_fleet(lease_ms="3000")
    doomed = fleet.start_worker()
    workflow_id = fleet.submit("long", sleep_s=20)
    eventually(lambda: fleet.journal("start", "long"))
    fleet.start_worker()
    assert not fleet.journal("end", "long"), "the machine would be lost too late to test anything"

    doomed.kill_group()

    eventually(lambda: len(fleet.journal("start", "long")) == 2, 12)
    assert fleet.ended(workflow_id).status.name == "SUCCEEDED"


def test_messages_that_the_broker_lost_come_back(new_fleet: Callable[..., Fleet]) -> None:
    """Nothing of the queue is left, everything is done."""
    fleet = new_fleet()
    ids = [fleet.submit(f"s{n}") for n in range(10)]
    with redis.Redis.from_url(fleet.broker_url) as broker:
        broker.flushdb()
    fleet.start_worker()

    assert {fleet.ended(workflow_id).status.name for workflow_id in ids} == {"SUCCEEDED"}
    assert all(len(fleet.journal("start", f"s{n}")) == 1 for n in range(10))


def test_a_body_past_its_own_time_limit_gets_no_more_heartbeats(new_fleet: Callable[..., Fleet]) -> None:
    """Its lease runs out and the task is tried by somebody else, though the first body hangs."""
    fleet = new_fleet(lease_ms="1500")
    fleet.start_worker()
    fleet.submit("slow", "stuck")

    eventually(lambda: len(fleet.journal("start", "slow")) == 2, 20)


def test_a_running_body_learns_that_its_workflow_was_cancelled(new_fleet: Callable[..., Fleet]) -> None:
    """In the pool's child too, within a heartbeat's time."""
    fleet = new_fleet(lease_ms="1500")
    fleet.start_worker()
    workflow_id = fleet.submit("long", sleep_s=60)
    eventually(lambda: fleet.journal("start", "long"))

    fleet.runtime.ask(workflow_id, lambda: cancel(workflow_id, "event-1", "changed my mind", "somebody"))

    eventually(lambda: fleet.journal("stopped", "long"), 10)
    assert fleet.ended(workflow_id).status.name == "CANCELED"


def test_any_app_can_submit_by_name(new_fleet: Callable[..., Fleet]) -> None:
    """The same key twice is one workflow; a bad definition is one error without a traceback, and starts nothing."""
    fleet = new_fleet()
    worker = fleet.start_worker()
    tasks = [{"name": "work", "implementing_class": "work"}]
    definition = {
        "application": "shop",
        "name": "x",
        "stages": [{"ref_id": "only", "type": "x", "name": "x", "tasks": tasks}],
    }
    for _ in range(2):
        fleet.celery.send_task(
            "stabilize.SubmitWorkflow", kwargs={"definition": definition, "idempotency_key": "order-1"}
        )
    fleet.celery.send_task("stabilize.SubmitWorkflow", kwargs={"definition": {"stages": "none"}})

    eventually(lambda: fleet.journal("end", "only"))
    eventually(lambda: "was refused" in worker.log)
    eventually(lambda: worker.log.count("SubmitWorkflow") >= 6)
    assert len(fleet.journal("start", "only")) == 1
    assert worker.log.count("was refused") == 1
    assert "Traceback" not in worker.log


def test_an_ordinary_task_is_a_stage(new_fleet: Callable[..., Fleet]) -> None:
    """Called with the stage's context; its dict becomes the outputs."""
    fleet = new_fleet()
    fleet.start_worker()

    done = fleet.ended(fleet.submit("hello", "celery:shop.greet", name="Ada"))

    assert done.stages[0].outputs["greeting"] == "hello Ada"


def test_a_worker_that_is_told_its_queues_leaves_ours_alone(new_fleet: Callable[..., Fleet]) -> None:
    """`-Q celery` runs the app's own tasks, and no stage."""
    fleet = new_fleet()
    fleet.start_worker("-Q", "celery")
    fleet.submit("later")
    fleet.celery.send_task("shop.ping")
    eventually((fleet.folder / "pinged").exists)
    assert not fleet.journal("start", "later")

    fleet.start_worker("-Q", "stabilize.control,stabilize.work")

    eventually(lambda: fleet.journal("end", "later"))


def test_control_and_task_workers_run_from_the_environment(new_fleet: Callable[..., Fleet]) -> None:
    """`workers.control` moves on, `workers.tasks` runs bodies, of the modules that are named to it."""
    fleet = new_fleet()
    fleet.env |= {
        "STABILIZE_BROKER_URL": fleet.broker_url,
        "STABILIZE_REDIS_URL": fleet.state_url,
        "STABILIZE_TASK_MODULES": "own_tasks",
        "PYTHONPATH": f"{fleet.env['PYTHONPATH']}{os.pathsep}{fleet.folder}",
    }
    (fleet.folder / "own_tasks.py").write_text(
        "from workers.app import stabilize\nstabilize.task('double')(lambda stage: {'twice': 2 * stage.context['n']})\n"
    )
    control = fleet.run_worker([sys.executable, "-m", "workers.control", "-n", "control@%h", "-c", "1"])
    workflow_id = fleet.submit("sum", "double", n=21)
    eventually(lambda: "stabilize.StartStage" in control.log)
    fleet.run_worker([sys.executable, "-m", "workers.tasks", "-n", "tasks@%h", "-c", "1"])

    assert fleet.ended(workflow_id).stages[0].outputs == {"twice": 42}
    assert "RunTask" not in control.log.split("ready.")[1]


def test_an_idle_worker_costs_next_to_nothing(new_fleet: Callable[..., Fleet]) -> None:
    """Fewer than 5 round trips and 100 commands a second to the state server, and under 2 % of a core."""
    fleet = new_fleet()
    with RedisServer() as state:
        fleet.env["SHOP_STATE"] = state.url
        worker = fleet.start_worker("--without-gossip")
        time.sleep(3)
        with redis.Redis.from_url(state.url) as client:
            before, cpu, since = client.info(), _cpu_s(worker.process.pid), time.monotonic()
            time.sleep(10)
            after, seconds = client.info(), time.monotonic() - since
        used = _cpu_s(worker.process.pid) - cpu
    commands = after["total_commands_processed"] - before["total_commands_processed"]
    assert commands / seconds < 100
    # Reads of the server's event loop: at least one per round trip, and one for this test's own question.
    assert (after["total_reads_processed"] - before["total_reads_processed"] - 1) / seconds < 5
    assert used / seconds < 0.02


def _cpu_s(pid: int) -> float:
    """Return the processor time of one process so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
