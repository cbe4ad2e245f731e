"""What `locks` shows: who holds, who waits, and deadlocks; and how `why` prints one."""

import io

import pytest
from rich.console import Console

from stabilize_celery.cli.locking import deadlock_lines, lock_lines, lock_object
from stabilize_celery.cli.session import Session, Shared
from stabilize_celery.cli.showing import print_reasons, reason_object
from stabilize_celery.client import WorkflowHandle
from stabilize_celery.client.why.deadlocks import Deadlocks, deadlocks_among
from stabilize_celery.client.why.locks import LockFacts, all_locks
from stabilize_celery.models.stage.enums import MutexScope
from tests.simulation.nesting import gated, joining
from tests.unit.client.world import World, gate, stage


@pytest.fixture
def world() -> World:
    return World()


def shown(world: World) -> list[str]:
    """The lines of all locks and deadlocks."""
    store, found = world.client.store, all_locks(world.client.store)
    deadlocks = deadlocks_among(store, found, 500)
    lines = [line for lock in found for line in lock_lines(lock, deadlocks, world.now_ms)]
    return lines + [line for one in deadlocks.found for line in deadlock_lines(one, world.now_ms)]


def objects(world: World) -> list[dict]:
    found = all_locks(world.client.store)
    return [lock_object(lock, deadlocks_among(world.client.store, found, 500)) for lock in found]


def circle(world: World) -> list[WorkflowHandle]:
    handles = [world.start(*gated("dock", "gate"), name="tour"), world.start(*gated("gate", "dock"), name="round")]
    for handle in handles:
        handle.signal("gate", "go")
    world.settle(5)
    return handles


def test_a_lock_has_its_holder_and_its_line_in_order(world: World):
    """Key, scope, limit; who holds it, for how long, with which token; who waits, in which order, for how long."""
    holder = world.start(gate("one", mutex_key="crane"))
    waiting = [world.start(stage(name, mutex_key="crane")) for name in ("two", "three")]
    world.fleet.advance_us(40_000_000)

    head, held, *line = shown(world)

    assert head == "crane  GLOBAL, 1 at a time"
    (facts,) = all_locks(world.client.store)
    assert held == f"  held       40 s  tested …{holder.id[-6:]} / one  token {facts.holders[0].token}"
    assert [one.split()[0] for one in line] == ["1st", "2nd"]
    for handle, name, one in zip(waiting, ("two", "three"), line, strict=True):
        assert one.endswith(f"  40 s  tested …{handle.id[-6:]} / {name}")
    assert all(len(one) <= 80 for one in [head, held, *line])


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        (MutexScope.APPLICATION, "k  APPLICATION tests, 2 at a time"),
        (MutexScope.WORKFLOW, "k  WORKFLOW …{}, 2 at a time"),
    ],
)
def test_a_lock_is_shown_with_its_scope_and_limit(world: World, scope: MutexScope, told: str):
    handle = world.start(gate("one", mutex_key="k", mutex_scope=scope, mutex_limit=2))

    assert shown(world)[0] == told.format(handle.id[-6:])
    assert objects(world)[0]["key"] == "k"
    assert (objects(world)[0]["scope"], objects(world)[0]["limit"]) == (scope.name, 2)


def test_a_section_is_shown_by_its_name(world: World):
    """It holds its lock between its stages, too, when none of them runs."""
    (handle, *_) = [world.start(*joining("k", "other"), stage("z"))]
    world.start(gate("one", mutex_key="other"))
    held = world.start(gate("begin", mutex_key="s", mutex_section="loading"))

    assert any(line.split("  token")[0].endswith(f"…{held.id[-6:]} / section loading") for line in shown(world))
    assert handle.status().name == "SUCCEEDED"


def test_json_has_whole_ids(world: World):
    holder = world.start(gate("one", mutex_key="crane"))
    waiting = world.start(stage("two", mutex_key="crane"))

    (told,) = objects(world)

    assert (told["key"], told["name"], told["is_stuck"], told["deadlocks"]) == ("crane", "GLOBAL:crane", False, [])
    assert [one["workflow_id"] for one in told["holders"]] == [holder.id]
    assert [one["workflow_id"] for one in told["waiters"]] == [waiting.id]
    assert told["holders"][0]["token"] > 0


def test_a_deadlock_is_marked_and_told(world: World):
    """Locks that are part of it, with its parties below; a lock behind it; one that has nothing to do with it."""
    handles = circle(world)
    behind = world.start(*gated("yard", "dock"))
    behind.signal("gate", "go")
    world.start(stage("late", mutex_key="yard"))
    world.start(gate("free", mutex_key="other"))
    world.start(stage("later", mutex_key="other"))
    world.settle(5)

    lines = shown(world)

    heads = {line.split()[0]: line for line in lines if " at a time" in line}
    assert heads["dock"].endswith("  DEADLOCK")
    assert heads["gate"].endswith("  DEADLOCK")
    assert heads["yard"].endswith("  BEHIND A DEADLOCK")
    assert heads["other"].endswith("1 at a time")
    below = lines[lines.index("Deadlock: each of these waits for another one to end. To break it, end one of them:") :]
    assert [line for line in below if line.startswith("  → stabilize-celery cancel-stage")] == [
        f"  → stabilize-celery cancel-stage {handle.id} load" for handle in handles
    ]
    told = {one["key"]: (one["is_stuck"], len(one["deadlocks"])) for one in objects(world)}
    assert told == {"dock": (True, 1), "gate": (True, 1), "yard": (True, 0), "other": (False, 0)}


def test_a_long_line_is_cut_on_the_screen(world: World):
    world.start(gate("one", mutex_key="crane"))
    for _ in range(25):
        world.start(stage("two", mutex_key="crane"))

    assert shown(world)[-1] == "  and 5 others (--json shows all)"
    assert len(objects(world)[0]["waiters"]) == 25


def test_who_is_far_back_in_a_very_long_line_is_told_by_its_id(world: World):
    """Reading the names of thousands would take longer than anybody reads them."""
    world.start(gate("one", mutex_key="crane"))
    handles = [world.start(stage("two", mutex_key="crane")) for _ in range(103)]

    (lock,) = all_locks(world.client.store)

    assert [party.workflow_id for party in lock.waiters] == [handle.id for handle in handles]
    assert [bool(party.ref_id) for party in lock.waiters] == [True] * 100 + [False] * 3
    (reason,) = handles[-1].why()
    assert "103rd of 103 in line" in reason.text


def test_locks_without_parties_are_free() -> None:
    """Nothing to mark, nothing to show below."""
    assert list(lock_lines(LockFacts("GLOBAL:k", 1, [], []), Deadlocks(), 0)) == ["k  GLOBAL, 1 at a time"]


def test_why_prints_a_deadlock_line_by_line(world: World):
    """On a terminal nothing sticks out to the left of its reason."""
    first, _ = circle(world)
    reasons = first.why()
    for is_live in (False, True):
        console = Console(file=io.StringIO(), force_terminal=is_live, width=80, color_system=None)
        print_reasons(Session(Shared(), out=console), reasons)
        lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
        assert lines[0] == "workflow  deadlock: each of these 2 waits for another one to end"
        assert all(line.startswith(("workflow", "load", "check", " " * 10)) for line in lines)
        assert any(line.startswith("          or `stabilize-celery cancel") for line in lines)
    told = reason_object(reasons[0])
    assert (told["kind"], len(told["deadlock"])) == ("deadlock", 2)
    assert all("deadlock" not in reason_object(reason) for reason in reasons[1:])
