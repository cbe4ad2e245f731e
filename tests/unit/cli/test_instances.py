"""Stages with instances on the screen and as JSON."""

import io

import pytest
from rich.console import Console

from stabilize_celery.cli.instances import MOST_FAILURES, Instances, read_instances
from stabilize_celery.cli.rows import INSTANCES_SHOWN, Row, rows_of
from stabilize_celery.cli.showing import workflow_object
from stabilize_celery.cli.tree import Tree
from stabilize_celery.client import WorkflowHandle
from stabilize_celery.client.why.explain import explain_view
from stabilize_celery.errors import TransientError
from stabilize_celery.models.patterns import instances
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.runtime.reading import read_view, workflow_from
from tests.unit.client.world import World, gate, stage

NAMES = [f"package{number}" for number in range(202)]


def mixed(stage: StageExecution) -> TaskResult:
    """Of each ten instances, the fourth fails, the sixth waits for a signal; one is tried again and again."""
    index = stage.context["instance_index"]
    if index == 8:
        raise TransientError("gateway timeout", retry_after=1_000)
    if index % 10 == 3:
        raise ValueError(f"no files in {stage.context['instance_item']}")
    return TaskResult.suspend() if index % 10 == 5 else TaskResult.success()


@pytest.fixture
def world() -> World:
    return World(mixed=mixed, fail=lambda stage: TaskResult.terminal("no"))


def read(world: World, handle: WorkflowHandle) -> dict[str, Instances]:
    return read_instances(world.client.store, read_view(world.client.store, handle.id))


def rows(world: World, handle: WorkflowHandle) -> list[Row]:
    view = read_view(world.client.store, handle.id)
    return rows_of(view, explain_view(world.client.store, view, world.client.settings), read(world, handle))


def shown(world: World, handle: WorkflowHandle, *, live: bool = False, height: int = 40) -> list[str]:
    view = read_view(world.client.store, handle.id)
    file = io.StringIO()
    console = Console(file=file, width=80, height=height, force_terminal=live, color_system=None)
    reasons = explain_view(world.client.store, view, world.client.settings)
    console.print(Tree(view, reasons, read(world, handle), live=live))
    return file.getvalue().splitlines()


def start_mixed(world: World) -> WorkflowHandle:
    goes_on = {"continuePipelineOnFailure": True}
    audit = instances(stage("audit", does="mixed", context=goes_on), over="names")
    handle = world.start(audit, stage("rank", "audit"), context={"names": NAMES})
    world.settle(3)
    return handle


def test_instances_are_counted(world: World) -> None:
    """Done, at work, waiting, failed: together they are all; those that failed are named with their reason."""
    found = read(world, start_mixed(world))["audit"]

    assert (found.total, found.done, found.at_work, found.waiting, found.failed) == (202, 181, 1, 20, 20)
    assert found.failures[0].name == "#3 package3"
    assert "no files in package3" in found.failures[0].reason


def test_two_hundred_instances_take_a_dozen_lines(world: World) -> None:
    """Failures, what is at work and what waits for a signal by name; the rest as a number."""
    handle = start_mixed(world)

    head, *named, more, rank = rows(world, handle)

    assert (head.name, head.done, head.total) == ("audit", 181, 202)
    assert head.note == "181 of 202 done, 1 at work, 20 wait, 20 failed"
    assert len(named) == INSTANCES_SHOWN
    assert {"#3 package3", "#8 package8", "#5 package5"} <= {row.name for row in named}
    assert {row.status for row in named} == {"FAILED_CONTINUE", "RUNNING", "SUSPENDED"}
    assert "gateway timeout" in next(row.note for row in named if row.status == "RUNNING")
    assert (more.name, more.status, more.depth) == ("+31 more", "", 1)
    assert rank.name == "rank"


def test_a_tree_of_instances_fits_eighty_columns(world: World) -> None:
    """In a pipe and live; on a low terminal what is at work stays."""
    handle = start_mixed(world)

    plain, live = shown(world, handle), shown(world, handle, live=True, height=14)

    assert all(len(line) <= 80 for line in [*plain, *live])
    assert any("181 of 202 done" in line and "89 %" in line for line in plain)
    assert any("└─ · +31 more" in line for line in plain)
    assert len(live) <= 14
    assert any("#8 package8" in line for line in live)


def test_few_instances_are_shown_with_what_they_wait_for(world: World) -> None:
    """Who has not answered yet is what a person wants to know."""
    handle = world.start(instances(gate("ask"), over="names"), context={"names": ["ann", "bob"]})

    head, *named = rows(world, handle)

    assert (head.status, head.note) == ("SUSPENDED", "0 of 2 done, 2 wait")
    assert [(row.name, row.note) for row in named] == [
        ("#0 ann", "waits for signal 'approve'"),
        ("#1 bob", "waits for signal 'approve'"),
    ]


def test_when_all_are_done_one_line_is_enough(world: World) -> None:
    handle = world.start(instances(stage("many"), count=50, at_once=5))
    world.settle(20)

    assert [(row.name, row.note) for row in rows(world, handle)] == [("many", "50 of 50 done")]


def test_a_failed_stage_names_the_instance_and_counts_the_others(world: World) -> None:
    """Which one, why, and how many were taken away with it."""
    handle = world.start(instances(stage("audit", does="mixed"), over="names"), context={"names": NAMES})
    world.settle(20)

    head, first, *_ = rows(world, handle)
    found = read(world, handle)["audit"]

    assert head.status == "TERMINAL"
    assert "cancelled; instance " in head.note
    assert found.done + found.failed + found.canceled == 202
    assert (first.status, first.depth) == ("TERMINAL", 1)


def test_not_every_failure_of_many_is_read_in_full(world: World) -> None:
    """The count is exact, the reasons are those of the first."""
    goes_on = {"continuePipelineOnFailure": True}
    handle = world.start(instances(stage("audit", does="fail", context=goes_on), count=80))
    world.settle(20)

    found, (head, *named) = read(world, handle)["audit"], rows(world, handle)

    assert (found.failed, len(found.failures)) == (80, MOST_FAILURES)
    assert head.note == "80 of 80 done, 80 failed; 80 of 80 instances failed, first instance 0: no"
    assert [row.name for row in named] == [*(f"#{index}" for index in range(INSTANCES_SHOWN)), "+70 more"]


def test_names_that_would_break_a_line_are_left_out(world: World) -> None:
    """An item may be anything: only a few printable words are shown."""
    items = ["a\nb", "\x1b[31mred", "x" * 200, {"a": 1}, "", "fine", 7]
    handle = world.start(instances(gate("ask"), over="items"), context={"items": items})

    assert [row.name for row in rows(world, handle)[1:]] == ["#0", "#1", "#2", "#3", "#4", "#5 fine", "#6 7"]


def test_json_carries_the_counts(world: World) -> None:
    """For stages that have instances; a failure by its index."""
    handle = start_mixed(world)
    view = read_view(world.client.store, handle.id)

    audit, rank = workflow_object(workflow_from(view), (), read(world, handle))["stages"]

    counts = {"total": 202, "done": 181, "at_work": 1, "waiting": 20, "failed": 20, "canceled": 0}
    assert {name: audit["instances"][name] for name in counts} == counts
    assert audit["instances"]["failures"][0]["index"] == 3
    assert "instances" not in rank


def test_added_instances_count(world: World) -> None:
    """Also those that wait for their turn."""
    handle = world.start(instances(gate("ask"), count=2, dynamic=True, at_once=2))
    assert handle.add_instances("ask", 3)
    world.settle()

    (head, *named) = rows(world, handle)

    assert head.note == "0 of 5 done, 5 wait"
    assert [row.name for row in named] == ["#0", "#1"]


def test_a_stage_that_has_not_begun_any_is_shown_as_it_is(world: World) -> None:
    """No count of nothing, no question to the store that could be spared."""
    handle = world.start(gate("first"), instances(stage("many", "first"), count=3), instances(stage("none"), count=0))

    assert read(world, handle) == {}
    assert [(row.name, row.total) for row in rows(world, handle)] == [("first", 0), ("many", 0), ("none", 0)]
