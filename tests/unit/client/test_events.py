"""What events say: one line each, with the instance and the run that they are about."""

from collections.abc import Mapping
from typing import Any

import pytest

from stabilize_celery.client import WorkflowHandle
from stabilize_celery.client.events import RunNumbers, WorkflowEvent
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from tests.unit.client.world import World, gate, stage


def event(kind: str, **data: Any) -> WorkflowEvent:
    number = data.pop("run", 0)
    return WorkflowEvent("1-0", kind, "a", 0, data, number)


def lines(handle: WorkflowHandle, ref_id: str, *, from_id: str = "0") -> list[str]:
    return [event.told for event in handle.events(from_id) if event.ref_id == ref_id]


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        ("task.started", {"task": "t", "worker": "n#7", "attempt": 2}, "task t began on n, attempt 2"),
        ("task.failed", {"task": "t", "instance": 0, "error": "x"}, "task t of instance 0 TERMINAL: x"),
        ("task.completed", {"task": "t", "instance": 3, "run": 2}, "task t of instance 3 of run 2 SUCCEEDED"),
        ("task.skipped", {"task": "t", "run": 2}, "task t of run 2 SKIPPED"),
        ("task.retried", {"task": "t", "run": 1, "error": "x"}, "task t failed and is tried again: x"),
        ("stage.completed", {"run": 1}, "SUCCEEDED"),
        ("stage.completed", {"run": 2}, "run 2 SUCCEEDED"),
        ("stage.suspended", {"signal": "go", "instance": 4}, "instance 4 waits for signal 'go'"),
        ("stage.buffered", {"mutex_key": "dock"}, "waits for mutex 'dock'"),
        ("stage.buffered", {"milestone": "gate"}, "waits for its milestone, stage gate"),
        ("stage.offered", {"group": "way"}, "is offered in the choice 'way'"),
        ("instance.failed", {"instance": 3, "reason": "x"}, "instance 3 TERMINAL: x"),
        ("instance.started", {"instance": 3, "run": 2}, "instance 3 of run 2 started"),
        ("lock.granted", {"key": "dock", "token": 7, "run": 2}, "run 2 holds mutex 'dock', token 7"),
        ("workflow.repaired", {"found": "lost", "done": "owe it"}, "repaired: lost; owe it"),
        ("something.new", {"thread": "t1", "x": 1}, "something.new x=1"),
    ],
)
def test_an_event_is_one_line(kind: str, data: Mapping[str, Any], told: str):
    assert event(kind, **dict(data)).told == told


def test_tasks_of_instances_say_which_instance():
    """All that happens to a task of an instance has the instance's number, in words and as a field."""
    there = World(fail=lambda _: TaskResult.terminal(error="no card"))
    handle = there.start(stage("a", does="fail", mi_config=MultiInstanceConfig(count=1)))

    told = [line for line in lines(handle, "a") if line.startswith("task")]

    assert [line.partition(" began")[0] for line in told] == [
        "task fail of instance 0",
        "task fail of instance 0 TERMINAL: no card",
    ]
    assert all(one.data["instance"] == 0 for one in handle.events() if one.kind.startswith("task."))


def test_signals_say_which_instance_takes_them():
    there = World()
    handle = there.start(gate("a", mi_config=MultiInstanceConfig(count=3)))
    handle.signal("a", "approve", instance=2)

    assert lines(handle, "a")[-1] == "instance 2 got signal 'approve'"


def looping() -> WorkflowHandle:
    passes: list[str] = []

    def again(_stage: StageExecution) -> TaskResult:
        passes.append("x")
        return TaskResult.jump_to("a") if len(passes) < 3 else TaskResult.success()

    return World(again=again).start(stage("a"), stage("b", "a", does="again", jump_targets=["a"]))


def test_a_stage_that_runs_again_says_which_run_it_is():
    """The first run needs no number; from the second one on all its lines have it."""
    handle = looping()

    told = [line.partition(" began")[0] for line in lines(handle, "a")]

    assert told == [
        *("started", "task work", "task work SUCCEEDED", "SUCCEEDED"),
        *("run 2 started", "task work of run 2", "task work of run 2 SUCCEEDED", "run 2 SUCCEEDED"),
        *("run 3 started", "task work of run 3", "task work of run 3 SUCCEEDED", "run 3 SUCCEEDED"),
    ]
    assert [line for line in lines(handle, "b") if "jumps" in line] == ["jumps to a", "run 2 jumps to a"]
    assert [one.run for one in handle.events() if one.kind == "stage.started" and one.ref_id == "a"] == [
        1,
        2,
        3,
    ]


def test_history_that_begins_in_the_middle_guesses_no_run():
    """Starts that were not read can't be counted."""
    handle = looping()
    middle = list(handle.events())[10].id

    assert all(one.run == 0 for one in handle.events(middle))
    assert RunNumbers("5-0").told([event("stage.started", thread="t")])[0].run == 0
