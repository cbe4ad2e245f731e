"""Machines, processes and their children are lost or freeze, one kind of loss at a time, while every kind of work runs."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from stabilize_celery import Workflow
from tests.chaos.crowds import Crowd
from tests.chaos.fleet import ChaosFleet
from tests.chaos.flows import stage
from tests.integration.fleet import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

RECOVERY_S = 15.0
"""The longest that lost work may lie still while a worker with a free process is there, at default settings."""


def test_a_machine_is_lost_in_the_middle_of_everything(fleet: ChaosFleet) -> None:
    """Killed as a whole, twice, each time with another one beside it: every workflow ends as it should."""
    fleet.add_worker()
    crowd = Crowd(fleet, 110)
    for quarter in (30, 60):
        fleet.add_worker()
        crowd.wait_until_ended(quarter)
        fleet.workers[-2].kill_group()

    crowd.check()


@pytest.mark.parametrize(("take_ms", "acks"), [("0", "broker"), ("250", "broker"), ("250", "ledger")])
def test_children_are_killed_in_the_middle_of_everything(
    new_fleet: Callable[..., ChaosFleet], take_ms: str, acks: str
) -> None:
    """As the kernel does when memory runs out; the main process lives on, and says so at once.

    Most messages they take themselves, but for the first case; all of whose queues are ours wait for them, too.
    """
    fleet = new_fleet(take_ms=take_ms, acks=acks)
    worker = fleet.add_worker(options=("-Q", "stabilize.control,stabilize.work") if acks == "ledger" else ())
    crowd = Crowd(fleet, 66)
    for ended in range(5, 60, 10):
        crowd.wait_until_ended(ended)
        fleet.kill(fleet.children(worker)[0])

    crowd.check()
    assert worker.process.poll() is None


@pytest.mark.parametrize("wakes", ["while another one works on it", "when another one has done it"])
def test_a_frozen_machine_cannot_commit_when_it_wakes_up(fleet: ChaosFleet, wakes: str) -> None:
    """Stopped past its lease and continued: its result is refused, and nothing follows from it twice."""
    frozen = fleet.add_worker()
    slow = stage("slow", does="work", context={"sleep_s": 16 if "while" in wakes else 3})
    run = fleet.client.start(Workflow.create("crowd", "slow", [slow, stage("after", "slow")]))
    eventually(lambda: fleet.journal("start", "slow"))
    frozen.kill_group(signal.SIGSTOP)
    fleet.add_worker()
    first, second = eventually(lambda: both if len(both := fleet.journal("start", "slow")) > 1 else None, RECOVERY_S)
    if "when" in wakes:
        assert run.wait(30).status.name == "SUCCEEDED"
    frozen.kill_group(signal.SIGCONT)

    assert run.wait(60).status.name == "SUCCEEDED"
    # The zombie's body was asked to stop, or ended: either way it tells.
    eventually(
        lambda: [e for kind in ("end", "stopped") for e in fleet.journal(kind, "slow") if e["pid"] == first["pid"]]
    )
    assert run.get().stage_by_ref_id("slow").outputs["done_by"] == second["pid"]
    Crowd.check_all(fleet)
    assert len(fleet.journal("start", "slow")) == 2
