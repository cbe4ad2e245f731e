"""A workflow as rows and as a tree."""

import io

from rich.console import Console

from stabilize_celery.cli.rows import FOLD_ABOVE, Row, rows_of
from stabilize_celery.cli.session import Session, Shared
from stabilize_celery.cli.showing import print_status, print_table
from stabilize_celery.cli.tree import Tree
from stabilize_celery.client.why.explain import explain_view
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import read_view
from tests.unit.client.world import World, gate, stage


def view_of(world, handle):
    return read_view(world.client.store, handle.id)


def shown(world, handle, width=80, *, live=False, height=None):
    view = view_of(world, handle)
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=live, color_system=None)
    console.print(Tree(view, explain_view(world.client.store, view, world.client.settings), live=live))
    return console.file.getvalue()


def fan(world, width, **more):
    handle = world.client.start(
        __import__("tests.unit.client.world", fromlist=["workflow"]).workflow(
            stage("first"),
            *(stage(f"m{n}", "first", **more) for n in range(width)),
            stage("last", *(f"m{n}" for n in range(width))),
        )
    )
    world.settle(3)
    return handle


def test_a_tree_says_what_each_stage_does():
    """One line per stage: status, time, what it waits for; 80 columns are enough."""
    world = World(fail=lambda stage: TaskResult.terminal(error="card declined"))
    handle = world.start(
        stage("a"),
        stage("b", "a", does="fail", context={"continuePipelineOnFailure": True}),
        gate("g", "a"),
        stage("c", "b", "g"),
    )

    text = shown(world, handle)

    lines = text.splitlines()
    assert f"tested · tests · {handle.id}" in lines[0]
    assert "RUNNING" in lines[0]
    assert all(len(line) <= 80 for line in lines)
    assert "✔ a" in text
    assert "FAILED_CONTINUE" in text
    assert "card declined" in text
    assert "waits for signal 'approve'" in text
    assert lines[-1].startswith("└─ · c")


def test_many_stages_alike_are_one_line_with_a_bar():
    world = World()
    width = FOLD_ABOVE + 5
    handle = fan(world, width)

    rows = rows_of(view_of(world, handle))

    assert [row.name for row in rows] == ["first", f"{width} work", "last"]
    assert (rows[1].done, rows[1].total, rows[1].status) == (width, width, "SUCCEEDED")
    assert "100 %" in shown(world, handle)


def status_told(world, handle, *, terminal, **more):
    session = Session(Shared())
    session.out = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)
    print_status(session, view_of(world, handle), (), **more)
    return session.out.file.getvalue()


def test_a_status_names_each_stage():
    """In a pipe always; on a terminal many alike are one line, which says how to see them all."""
    world = World()
    handle = fan(world, FOLD_ABOVE + 1)

    on_terminal = status_told(world, handle, terminal=True)
    everything = [
        status_told(world, handle, terminal=False),
        status_told(world, handle, terminal=True, shows_each=True),
    ]

    assert "✔ m0 " not in on_terminal
    assert "--all" in on_terminal
    for told in everything:
        assert all(f" m{n} " in told for n in range(FOLD_ABOVE + 1))
        assert "--all" not in told


def test_failures_among_many_are_shown_by_name():
    world = World(fail=lambda stage: TaskResult.terminal(error="no"))
    handle = fan(world, FOLD_ABOVE + 5, does="fail", context={"continuePipelineOnFailure": True})

    rows = rows_of(view_of(world, handle))

    assert "35 failed" in rows[1].note
    assert rows[2] == Row("m0", "FAILED_CONTINUE", 1, rows[2].span, "no")
    assert rows[1 + FOLD_ABOVE + 1].name == "… 5 more failures"


def test_few_stages_alike_are_shown_one_by_one():
    world = World()
    assert len(rows_of(view_of(world, fan(world, 5)))) == 7


def test_stages_that_wait_alike_are_counted():
    world = World()
    handle = fan(world, FOLD_ABOVE + 1, does="unknown")

    (row,) = [row for row in rows_of(view_of(world, handle)) if row.total]

    assert (row.status, row.done, row.note) == ("RUNNING", 0, "0 of 31 done, 31 wait")


def test_what_belongs_to_a_stage_stands_under_it():
    world = World()
    outer = gate("outer")
    before = stage("check")
    before.parent_stage_id, before.synthetic_stage_owner = outer.id, SyntheticStageOwner.STAGE_BEFORE
    handle = world.start(outer, before)

    assert [(row.name, row.depth) for row in rows_of(view_of(world, handle))] == [("outer", 0), ("check", 1)]
    assert "└─ ▶ outer" in shown(world, handle) or "└─ ⏸ outer" in shown(world, handle)
    assert "\n   └─ ✔ check" in shown(world, handle)


def test_a_live_tree_fits_its_terminal():
    """What is at work stays; how much is left out is said."""
    world = World()
    handle = world.start(*(stage(f"s{n}", *([f"s{n - 1}"] if n else [])) for n in range(20)), gate("g", "s19"))

    lines = shown(world, handle, live=True, height=12).splitlines()

    assert len(lines) <= 12
    assert any("⏸ g" in line for line in lines)
    assert "… and 14 more" in lines[-1]


def test_a_restarted_stage_shows_its_newest_run():
    answers = iter([TaskResult.terminal(error="no"), TaskResult.success()])
    world = World(flaky=lambda stage: next(answers))
    handle = world.start(stage("a", does="flaky"))
    handle.restart("a")
    world.settle()

    (row,) = rows_of(view_of(world, handle))

    assert (row.status, handle.status()) == ("SUCCEEDED", WorkflowStatus.SUCCEEDED)


def test_a_narrow_terminal_shows_what_one_copies_whole() -> None:
    """Ids and states; a name gives way, and the times are left out."""
    console = Console(file=(printed := io.StringIO()), width=40, force_terminal=True, color_system=None)
    workflow_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

    print_table(
        Session(Shared(), console),
        ("ID", "STATUS", "APPLICATION", "NAME", "STARTED", "TOOK"),
        [(workflow_id, "RUNNING", "shop", "an order", "10:00:00", "10 s")],
    )

    assert printed.getvalue().splitlines()[1] == f"{workflow_id}  RUNNING  an…"


def test_in_a_live_tree_all_times_go_on():
    """That of the workflow and that of its stage: between two looks at the state, too."""
    world = World()
    view = view_of(world, world.start(gate()))
    seconds = iter([0.0, *[7_200.0] * 9])
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    console.print(Tree(view, live=True, clock=lambda: next(seconds)))

    header, stage_line = console.file.getvalue().splitlines()[:2]
    assert "2:00 h" in header
    assert "2:00 h" in stage_line
