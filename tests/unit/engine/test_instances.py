"""What a run makes of its instances, and what an instance knows of the others."""

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.instances import Crowd, failures_told, instance_thread, summed_tasks
from stabilize_celery.engine.state import Run, TaskState
from stabilize_celery.engine.steps import Hash, workflow_slot
from stabilize_celery.models.patterns import instances
from stabilize_celery.runtime.reading import read_view
from tests.unit.client.world import World, gate


def ended(index: int, status: str, *tasks: TaskState, reason: str = "") -> Run:
    return Run(ref="m", status=status, instance=index, tasks=list(tasks), reason=reason)


def task(status: str, started_ms: int, ended_ms: int, error: str = "", attempts: int = 1) -> TaskState:
    told = {"message": error} if error else {}
    return TaskState(status, started_ms, ended_ms, attempts=attempts, error=told)


def test_failures_that_are_borne_are_counted_and_the_first_is_told() -> None:
    """By its index; with its own words, or its task's."""
    runs = [ended(0, "SUCCEEDED"), ended(1, "FAILED_CONTINUE", reason="no disk"), ended(2, "FAILED_CONTINUE")]

    assert failures_told(runs) == "2 of 3 instances failed, first instance 1: no disk"
    assert failures_told([ended(4, "FAILED_CONTINUE", task("TERMINAL", 1, 2, "no"))]).endswith("first instance 4: no")
    assert failures_told([ended(5, "FAILED_CONTINUE")]).endswith("first instance 5: no reason was given")
    assert failures_told(runs[:1]) == ""


def test_tasks_of_a_run_are_those_of_its_instances() -> None:
    """From the first start to the last end; how often single ones were tried says nothing of the run."""
    runs = [
        ended(0, "SUCCEEDED", task("SUCCEEDED", 20, 30, attempts=3), task("SUCCEEDED", 31, 40)),
        ended(1, "SUCCEEDED", task("SUCCEEDED", 10, 25), task("SKIPPED", 0, 50)),
    ]

    assert summed_tasks(runs) == [TaskState("SUCCEEDED", 10, 30), TaskState("SUCCEEDED", 31, 50)]
    assert summed_tasks([]) == []


def test_a_failed_task_stands_for_all() -> None:
    """With its error, so that whoever asks why sees it."""
    failed = task("TERMINAL", 12, 14, "no disk")
    runs = [ended(0, "SUCCEEDED", task("SUCCEEDED", 10, 11)), ended(1, "FAILED_CONTINUE", failed)]

    (found,) = summed_tasks(runs)

    assert (found.status, found.error, found.started_ms, found.ended_ms) == ("TERMINAL", {"message": "no disk"}, 10, 14)


def test_an_instance_knows_its_own_item_and_no_other() -> None:
    """Else what a thousand instances carry would be a million items."""
    world = World()
    items = [f"{number}:{'x' * 100}" for number in range(50)]
    handle = world.start(instances(gate("m"), over="items"), context={"items": items})

    view = read_view(world.client.store, handle.id)
    thread, _ = view.stages["m"].newest or ("", Run())
    key = Hash(places.run(instance_thread(thread, 7)))
    stored = world.client.store.look(workflow_slot(handle.id), [key])[key]

    held = b"".join(stored.values())
    assert items[7].encode() in held
    assert len(held) < 1_000


@pytest.mark.parametrize(
    ("crowd", "is_open"),
    [
        (Crowd(exists=True, total=2), True),
        (Crowd(exists=True, total=2, done=1), True),
        (Crowd(exists=True, total=2, done=2), False),
        (Crowd(exists=True, total=2, failed=1), False),
        (Crowd(exists=True, total=2, is_closed=True), False),
    ],
)
def test_more_are_taken_until_the_thread_goes_on_or_the_run_fails(crowd: Crowd, *, is_open: bool) -> None:
    """WCP-15: one that has failed is about to end the run."""
    assert crowd.is_open is is_open
