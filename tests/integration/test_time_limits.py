"""Celery's own time limits on real workers: a child that is killed for its time is a loss, and its task says so."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.integration.fleet import Fleet, eventually

pytestmark = pytest.mark.real

_SOON_S = 6.0
"""Sooner than a lease runs out (s)."""


@pytest.mark.parametrize(
    ("take_ms", "mode"), [("0", "per_message"), ("5000", "per_message"), ("250", "fused"), ("0", "continuation")]
)
def test_a_child_that_celerys_hard_limit_kills_is_a_loss(
    new_fleet: Callable[..., Fleet], take_ms: str, mode: str
) -> None:
    """Also if it has gone on from another message: tried again at once, TERMINAL in the end, others are not held up."""
    fleet = new_fleet(take_ms=take_ms, mode=mode, max_lost="2")
    worker = fleet.start_worker("--time-limit", "3", "-Q", "stabilize.control,stabilize.work", concurrency=1)
    tasks = [{"name": "work", "implementing_class": "work"}]
    quick = {"ref_id": "quick", "type": "x", "name": "quick", "tasks": tasks}
    hangs = {**quick, "ref_id": "hangs", "name": "hangs", "requisite_stage_ref_ids": ["quick"]}
    stages = [quick, {**hangs, "context": {"sleep_s": 60}}]

    done = fleet.ended(fleet.runtime.submit({"application": "shop", "name": "limited", "stages": stages}), 60)
    after = fleet.ended(fleet.submit("after"))

    assert done.status.name == "TERMINAL"
    told = str(done.stage_by_ref_id("hangs").tasks[0].task_exception_details)
    assert "lost its worker 2 times in a row; the last time: Celery's time limit of 3 s ended it" in told
    starts = [entry["at"] for entry in fleet.journal("start", "hangs")]
    assert len(starts) == 2
    assert all(later - earlier < 3 + _SOON_S for earlier, later in pairwise(starts))
    assert after.status.name == "SUCCEEDED"
    assert worker.process.poll() is None


@pytest.mark.parametrize("mode", ["per_message", "fused", "continuation"])
def test_bodies_that_follow_each_other_have_a_limit_each(new_fleet: Callable[..., Fleet], mode: str) -> None:
    """A process that has handled one for long takes no other, for which too little of Celery's limit would be left."""
    fleet = new_fleet(mode=mode)
    worker = fleet.start_worker("--time-limit", "3", "-Q", "stabilize.control,stabilize.work", concurrency=1)
    stages = [
        {
            "ref_id": f"s{at}",
            "type": "x",
            "name": f"s{at}",
            "requisite_stage_ref_ids": [f"s{at - 1}"] if at else [],
            "context": {"sleep_s": 2},
            "tasks": [{"name": "work", "implementing_class": "work"}],
        }
        for at in range(4)
    ]

    done = fleet.ended(fleet.runtime.submit({"application": "shop", "name": "chain", "stages": stages}), 60)

    assert done.status.name == "SUCCEEDED"
    assert [len(fleet.journal("start", f"s{at}")) for at in range(4)] == [1, 1, 1, 1]
    assert "time limit" not in worker.log


def test_celerys_soft_limit_is_an_error_of_the_task(new_fleet: Callable[..., Fleet]) -> None:
    """It is raised in the body, like anything that code raises: the task fails with its name, nothing is lost."""
    fleet = new_fleet()
    worker = fleet.start_worker("--soft-time-limit", "2", concurrency=1)

    done = fleet.ended(fleet.submit("hangs", sleep_s=60), 30)

    assert done.status.name == "TERMINAL"
    assert "SoftTimeLimitExceeded" in str(done.stages[0].tasks[0].task_exception_details)
    assert len(fleet.journal("start", "hangs")) == 1
    assert "is gone" not in worker.log


def test_a_task_that_takes_longer_than_its_own_limit_and_is_deaf_is_ended(new_fleet: Callable[..., Fleet]) -> None:
    """`timeout_s` of its registration: the workflow goes on at once; Celery's limit frees the process later."""
    fleet = new_fleet()
    worker = fleet.start_worker("--time-limit", "8")

    done = fleet.ended(fleet.submit("deaf", "deaf"), 30)
    after = fleet.ended(fleet.submit("after"), 60)

    assert done.status.name == "TERMINAL"
    assert "took longer than 1 s" in str(done.stages[0].tasks[0].task_exception_details)
    assert (done.end_time - done.start_time) < 5_000
    assert after.status.name == "SUCCEEDED"
    assert len(fleet.journal("start", "deaf")) == 1
    eventually(lambda: "Hard time limit" in worker.log)
