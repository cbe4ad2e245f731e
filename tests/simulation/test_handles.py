"""A `WorkflowHandle` on a simulation: what tests send from outside, and how they wait without waiting."""

import pytest

from stabilize_celery import WorkflowHandle, WorkflowNotFoundError, deferred_choice, instances
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.testing import Faults, Simulation, SimulationStuckError
from tests.simulation.stories import stage, workflow
from tests.simulation.tuning import seeds

HOUR_MS = 3_600_000


def asking(ref_id: str, *after: str) -> StageExecution:
    return stage(ref_id, *after, does="approval", context={"signal": "go"})


def started(flow: Workflow, seed: int = 0, faults: Faults | None = None) -> tuple[Simulation, WorkflowHandle]:
    simulation = Simulation(seed, {"work": lambda _: {}, "fail": lambda _: 1 / 0}, faults=faults)
    return simulation, WorkflowHandle(simulation.runtime, simulation.start(flow))


@pytest.mark.parametrize("seed", seeds(5))
def test_waiting_runs_the_fleet(seed: int) -> None:
    """`wait` returns when the workflow has ended, well or not, after however much virtual time."""
    _, good = started(workflow(stage("a", does="wait", context={"seconds": 3600}), stage("b", "a")), seed, Faults())
    _, bad = started(workflow(stage("a", does="fail")), seed, Faults())

    assert good.wait().status.name == "SUCCEEDED"
    assert bad.wait(timeout_s=30).status.name == "TERMINAL"
    assert "ZeroDivisionError" in str(bad.why()[0])


def test_waiting_for_ever_is_told_at_once() -> None:
    """What it waits for, in words; a real handle would wait on."""
    _, handle = started(workflow(asking("a"), stage("b", "a")))

    with pytest.raises(SimulationStuckError, match="'a' waits for signal 'go'"):
        handle.wait()
    assert handle.signal("a", "go")
    assert handle.wait().status.name == "SUCCEEDED"


def test_waiting_for_what_is_not_there_is_an_error() -> None:
    """As with a client."""
    simulation, _ = started(workflow(stage("a")))

    with pytest.raises(WorkflowNotFoundError, match="there is no workflow 'nobody'"):
        WorkflowHandle(simulation.runtime, "nobody").wait()


@pytest.mark.parametrize("seed", seeds(5))
def test_events_can_be_followed_and_answered(seed: int) -> None:
    """Whoever follows may act on what he sees; following ends with the workflow, its stages cleared."""
    _, handle = started(workflow(asking("a"), asking("b", "a"), stage("c", "b")), seed)
    seen = []
    for event in handle.events(follow=True):
        seen.append((event.kind, event.ref_id))
        if event.kind == "stage.suspended":
            assert handle.signal(event.ref_id, "go")

    assert ("stage.suspended", "b") in seen
    assert seen[-1][0] == "workflow.succeeded"
    assert handle.status().name == "SUCCEEDED"


def test_following_sees_the_stages_of_a_cancelled_workflow_cleared() -> None:
    """The last event is not the workflow's end, but that of its last stage."""
    _, handle = started(workflow(asking("a"), asking("b")))
    kinds = []
    for event in handle.events(follow=True):
        kinds.append(event.kind)
        if (
            kinds.count("stage.suspended") == 2
            and "workflow.canceled" not in kinds
            and handle.status().name == "RUNNING"
        ):
            assert handle.cancel("enough")

    assert kinds.count("stage.canceled") == 2
    assert {one.status.name for one in handle.get().stages} == {"CANCELED"}


@pytest.mark.parametrize("seed", seeds(8))
def test_what_comes_later_finds_the_workflow_at_work(seed: int) -> None:
    """A choice an hour later, more instances meanwhile, and a signal: each at its time."""
    flow = workflow(
        *deferred_choice("answer", stage("yes"), stage("no")),
        instances(stage("m", does="wait", context={"seconds": 7200}), count=1, dynamic=True),
        asking("ask"),
    )
    simulation, handle = started(flow, seed, Faults())
    begin_ms = simulation.now_ms
    simulation.after(HOUR_MS, lambda: handle.choose("yes"))
    simulation.after(HOUR_MS // 2, lambda: handle.add_instances("m", 2))
    simulation.after(2 * HOUR_MS, lambda: handle.signal("ask", "go"))

    done = handle.wait()

    assert done.status.name == "SUCCEEDED"
    assert {one.ref_id: one.status.name for one in done.stages}["no"] == "SKIPPED"
    assert (done.stages[0].start_time or 0) >= begin_ms + HOUR_MS
    assert sum(event.kind == "instance.completed" for event in handle.events()) == 3


def test_what_fails_later_comes_out_of_the_run() -> None:
    """An assertion half-way is a failed test, not a failed handler."""
    simulation, handle = started(workflow(asking("a")))

    def look() -> None:
        assert handle.status().name == "SUCCEEDED", "looked too early"

    simulation.after(1_000, look)

    with pytest.raises(AssertionError, match="looked too early"):
        handle.wait()


def diary(seed: int) -> list[str]:
    simulation, handle = started(workflow(asking("a"), asking("b"), stage("z", "a", "b")), seed, Faults(die=0.05))
    simulation.after(500, lambda: handle.signal("a", "go"))
    simulation.after(500, lambda: handle.signal("b", "go"))
    handle.wait()
    return [f"{event.id} {event}" for event in handle.events()]


def test_the_same_seed_is_the_same_run_with_what_comes_from_outside() -> None:
    """Though each thing that is sent has an id of its own."""
    assert [diary(seed) for seed in range(10)] == [diary(seed) for seed in range(10)]
