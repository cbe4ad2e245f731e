"""Who goes before whom: priorities of workflows, and a wide one that lets others pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from kombu.transport.redis import Channel

from stabilize_celery import StageExecution, TaskExecution, TaskResult, Workflow, WorkflowStatus
from stabilize_celery.runtime.lanes import BURST, STEPS, lane_of, lanes, queue_and_step, shown
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.settings import FUSED, PER_MESSAGE, Settings
from stabilize_celery.testing.simulation import Faults, Simulation

CONTROL, WORK = Settings().control_queue, Settings().work_queue
BEFORE, USUAL, BEHIND = 0, 3, 6


def stage(ref_id: str, *requisites: str, **more: Any) -> StageExecution:
    tasks = [TaskExecution.create("work", "work")]
    return StageExecution(ref_id=ref_id, tasks=tasks, requisite_stage_ref_ids=set(requisites), **more)


def sent_by(workflow: Workflow, mode: str = PER_MESSAGE) -> list[Outgoing]:
    """Run a workflow, and those that it calls, to the end; return all messages that the broker got."""
    settings = Settings(mode=mode, fused_slice_ms=0)
    simulation = Simulation(1, {"work": lambda _: TaskResult.success()}, faults=Faults.none(), settings=settings)
    sent = noted_by(simulation)
    assert simulation.finish(simulation.start(workflow)).status is WorkflowStatus.SUCCEEDED
    return [one for one in sent if one.kind != PROBE]


def noted_by(simulation: Simulation) -> list[Outgoing]:
    """Return the list of all messages that the broker of a simulation will have got."""
    sent: list[Outgoing] = []
    publish = simulation.publish

    def noted(batch: Sequence[Outgoing]) -> None:
        sent.extend(batch)
        publish(batch)

    simulation.publish = noted  # type: ignore[method-assign]
    return sent


def steps(batch: Sequence[Outgoing], kind: str) -> list[int]:
    return [queue_and_step(one.queue)[1] for one in batch if one.kind == kind]


@pytest.mark.parametrize("priority", range(10))
def test_a_lane_is_the_list_that_kombu_reads_for_a_priority(priority: int) -> None:
    """So whatever worker Celery starts reads it, and in that order."""
    channel = Channel.__new__(Channel)

    assert lane_of("q", priority) == channel._q_for_pri("q", priority)
    assert list(STEPS) == Channel.priority_steps


def test_the_lanes_of_a_queue_begin_with_the_most_urgent() -> None:
    """Each tells its queue, and where it begins."""
    assert [queue_and_step(name) for name in lanes("q")] == [("q", 0), ("q", 3), ("q", 6), ("q", 9)]
    assert lanes("q")[0] == "q"


def test_people_read_no_control_characters() -> None:
    """Ids and results of probes stand in Flower and in logs."""
    assert [shown(name) for name in lanes("q")] == ["q", "q@3", "q@6", "q@9"]


@pytest.mark.parametrize(
    ("priority", "begins", "ends"), [(0, 0, 0), (2, 0, 0), (3, 3, 0), (4, 3, 0), (6, 6, 3), (9, 9, 6)]
)
def test_all_messages_of_a_workflow_are_as_urgent_as_it_is(priority: int, begins: int, ends: int) -> None:
    """From the first to the last; what ends work goes one lane before, if there is any."""
    sent = sent_by(Workflow.create("app", "w", [stage("a"), stage("b"), stage("c", "a", "b")], priority=priority))

    assert set(steps(sent, "StartStage")) == set(steps(sent, "RunTask")) == {begins}
    assert set(steps(sent, "CompleteStage")) == set(steps(sent, "EvaluateJoin")) == {ends}
    assert set(steps(sent, "SettleWorkflow")) == {ends}


def test_a_wide_workflow_lets_others_pass() -> None:
    """What is beyond a burst waits in the next lane, and so does all that follows from it, up to the join."""
    branches = [stage(f"b{number}", "in") for number in range(BURST + 10)]
    seconds = [stage(f"c{number}", branch.ref_id) for number, branch in enumerate(branches)]
    out = stage("out", *(second.ref_id for second in seconds))

    sent = sent_by(Workflow.create("app", "wide", [stage("in"), *branches, *seconds, out]))

    usual = 2 * BURST + 2
    assert steps(sent, "StartStage")[: 1 + BURST + 10] == [USUAL] * (1 + BURST) + [BEHIND] * 10
    assert sorted(steps(sent, "StartStage")) == [USUAL] * usual + [BEHIND] * 20
    assert sorted(steps(sent, "RunTask")) == [USUAL] * usual + [BEHIND] * 20
    assert sorted(steps(sent, "CompleteStage")) == [BEFORE] * usual + [USUAL] * 20
    assert set(steps(sent, "EvaluateJoin")) == {BEFORE}


@pytest.mark.parametrize("priority", [0, 9])
def test_a_branch_of_many_stays_behind_in_every_workflow(priority: int) -> None:
    """Also behind the end of its first stage, whose message goes first."""
    branches = [stage(f"b{number}", "in") for number in range(BURST + 10)]
    seconds = [stage(f"c{number}", branch.ref_id) for number, branch in enumerate(branches)]

    sent = sent_by(Workflow.create("app", "wide", [stage("in"), *branches, *seconds], priority=priority))

    behind = min(priority + 3, 9)
    assert sorted(steps(sent, "StartStage"))[-20:] == [behind] * 20
    assert len([step for step in steps(sent, "RunTask") if step == behind]) >= 20


def test_tasks_of_a_wide_workflow_wait_in_fused_mode_too() -> None:
    """There a split's branches start in commits of up to 32 decisions: each as if it were alone."""
    branches = [stage(f"b{number}", "in") for number in range(BURST + 10)]

    sent = sent_by(Workflow.create("app", "wide", [stage("in"), *branches]), FUSED)

    assert sorted(steps(sent, "RunTask")) == [USUAL] * (1 + BURST) + [BEHIND] * 10


def test_a_wide_workflow_can_not_be_put_behind_the_last_lane() -> None:
    """There is none."""
    sent = sent_by(Workflow.create("app", "wide", [stage(f"b{n}") for n in range(BURST + 5)], priority=9))

    assert steps(sent, "StartStage") == [9] * (BURST + 5)


def test_an_inner_workflow_is_as_urgent_as_its_caller_unless_it_says_so_itself() -> None:
    """Its caller waits for it."""
    quiet, loud = Workflow.create("app", "i", [stage("x")]), Workflow.create("app", "l", [stage("x")], priority=0)
    calls = [StageExecution(ref_id="a", sub_workflow="i"), StageExecution(ref_id="b", sub_workflow="l")]
    outer = Workflow.create("app", "outer", calls, priority=7, sub_workflows={"i": quiet, "l": loud})

    sent = sent_by(outer)

    tasks = {queue_and_step(one.queue)[1] for one in sent if one.kind == "RunTask"}
    assert tasks == {6, 0}


def test_who_gets_a_mutex_is_told_in_the_lane_of_its_own_workflow() -> None:
    """Whoever gives the lock back may be less urgent."""
    simulation = Simulation(1, {"work": lambda _: TaskResult.success()}, faults=Faults.none())
    sent = noted_by(simulation)
    ids = [
        simulation.start(Workflow.create("app", "w", [stage("a", mutex_key="k")], priority=priority))
        for priority in (9, 0, 9)
    ]

    simulation.run(*ids)

    asked = {one.kwargs["workflow_id"]: steps([one], "AcquireLock") for one in sent if one.kind == "AcquireLock"}
    assert asked == {ids[0]: [6], ids[1]: [0], ids[2]: [6]}
