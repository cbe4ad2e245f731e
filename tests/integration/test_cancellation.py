"""Real Celery workers: running bodies learn that they were cancelled or take too long, and what they do then is fenced."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from stabilize_celery.engine import outside
from tests.integration.fleet import Fleet, eventually

pytestmark = pytest.mark.real

POOLS = ["prefork", "threads", "solo", "gevent"]


def started(fleet: Fleet, pool: str, mode: str, concurrency: int = 1) -> str:
    """Start a worker and a workflow of one stage `a`, and wait until its body runs."""
    if pool == "gevent":
        pytest.importorskip("gevent", reason="needs the gevent package")
    fleet.start_worker(pool=pool, concurrency=concurrency)
    workflow_id = fleet.submit("a", "job", mode=mode)
    eventually(lambda: fleet.journal("start", "a"), 60)
    return workflow_id


def cancel(fleet: Fleet, workflow_id: str, what: str) -> None:
    ways = {
        "stage": lambda: outside.cancel_stage(workflow_id, "event-1", "a"),
        "workflow": lambda: outside.cancel(workflow_id, "event-1", "changed my mind", "ann"),
    }
    assert fleet.runtime.ask(workflow_id, ways[what]).took_effect


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("what", ["stage", "workflow"])
def test_a_running_body_is_asked_to_stop_and_told_once(new_fleet: Callable[..., Fleet], pool: str, what: str) -> None:
    """Within seconds, in its own process, though the only slot is its own; its late success changes nothing."""
    fleet = new_fleet(lease_ms="60000")
    workflow_id = started(fleet, pool, "loop")
    began = time.monotonic()
    cancel(fleet, workflow_id, what)

    eventually(lambda: fleet.journal("stopped", "a") and fleet.journal("told", "a"), 30)
    took_s = time.monotonic() - began
    done = fleet.ended(workflow_id)
    eventually(lambda: _told(fleet, workflow_id))

    assert took_s < 20, "a look is made every 3 s"
    assert done.stage_by_ref_id("a").status.name == "CANCELED"  # type: ignore[union-attr]
    assert fleet.workflow(workflow_id).stages[0].outputs == {}
    (start,), (told,) = fleet.journal("start", "a"), fleet.journal("told", "a")
    assert told["pid"] == start["pid"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_on_cancel_ends_what_a_body_is_blocked_on(new_fleet: Callable[..., Fleet], pool: str) -> None:
    """It is called beside the body, on the very object that executes it."""
    fleet = new_fleet()
    workflow_id = started(fleet, pool, "block")
    cancel(fleet, workflow_id, "stage")

    eventually(lambda: fleet.journal("stopped", "a"), 30)

    assert len(fleet.journal("told", "a")) == 1


def test_a_polled_job_is_told_by_any_worker(new_fleet: Callable[..., Fleet]) -> None:
    """Nobody executes it when it is cancelled."""
    fleet = new_fleet()
    workflow_id = started(fleet, "prefork", "poll")
    cancel(fleet, workflow_id, "workflow")

    eventually(lambda: _told(fleet, workflow_id), 30)

    assert len(fleet.journal("told", "a")) == 1
    assert fleet.ended(workflow_id).status.name == "CANCELED"


def test_a_cancelled_body_whose_worker_dies_is_told_by_another(new_fleet: Callable[..., Fleet]) -> None:
    """The machine is lost before it has seen the cancellation: half a minute later somebody else calls the hook."""
    fleet = new_fleet()
    workflow_id = started(fleet, "prefork", "loop")
    fleet.workers[0].kill_group()
    cancel(fleet, workflow_id, "stage")
    fleet.start_worker()

    eventually(lambda: fleet.journal("told", "a"), 60)

    (start,), (told,) = fleet.journal("start", "a"), fleet.journal("told", "a")
    assert told["pid"] != start["pid"]


@pytest.mark.parametrize("pool", POOLS)
def test_an_execution_that_takes_too_long_is_fenced_by_its_own_process(
    new_fleet: Callable[..., Fleet], pool: str
) -> None:
    """With an `on_timeout` its answer counts; without one the task is TERMINAL; the body is asked to stop."""
    if pool == "gevent":
        pytest.importorskip("gevent", reason="needs the gevent package")
    fleet = new_fleet(lease_ms="60000")
    fleet.start_worker(pool=pool, concurrency=1)
    plain, asked = fleet.submit("plain", "too long", sleep_s=60), fleet.submit("asked", "long job")

    assert fleet.ended(plain, 60).status.name == "TERMINAL"
    assert fleet.ended(asked, 60).stages[0].outputs == {"by": "on_timeout"}
    error = fleet.workflow(plain).stages[0].tasks[0].task_exception_details
    assert (error["type"], error["message"]) == ("TaskTimeoutError", "one execution took longer than 1 s")
    assert len(fleet.journal("start", "plain")) == len(fleet.journal("stopped", "plain")) == 1
    assert len(fleet.journal("start", "asked")) == len(fleet.journal("asked", "asked")) == 1


def _told(fleet: Fleet, workflow_id: str) -> bool:
    events = fleet.store.events(workflow_id, "0", None, 1000)
    return any(event.fields["kind"] == b"task.cancel_told" for event in events)
