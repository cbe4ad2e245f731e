"""Watching a workflow on a terminal, and what `locks` and the demo make of a state."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from stabilize_celery.cli import watching
from stabilize_celery.cli.demonstration import _progress
from stabilize_celery.cli.looking import _lock_object, _lock_rows
from stabilize_celery.cli.session import Session, Shared
from stabilize_celery.cli.watching import follow_tree, watch
from stabilize_celery.client.why.locks import all_locks
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import read_view
from tests.unit.client.world import World, gate, stage


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def session() -> Session:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=20, color_system=None)
    return Session(Shared(), out=console)


def printed(session: Session) -> str:
    return session.out.file.getvalue()


def test_an_ended_workflow_is_shown_once(session: Session, world: World):
    handle = world.start(stage("a"))

    assert watch(session, world.client, handle.id) is WorkflowStatus.SUCCEEDED
    assert "✔ a" in printed(session)


def test_the_tree_follows_what_happens(session: Session, world: World, monkeypatch: pytest.MonkeyPatch):
    """It is woken by the event, shows the end, and leaves."""
    monkeypatch.setattr(watching, "_CLEARING_S", 0.2)
    handle = world.start(gate())
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(follow_tree, session, world.client, handle.id)
        handle.cancel("enough")

        assert ended.result(timeout=20) is WorkflowStatus.CANCELED
    assert "CANCELED" in printed(session)


def test_a_lock_is_a_row_per_party(world: World):
    """Key, holder, since, token; each waiter on a line of its own."""
    world.start(gate("one", mutex_key="crane"))
    waiting = [world.start(stage(name, mutex_key="crane")) for name in ("two", "three")]

    (lock,) = all_locks(world.client.store)
    rows = _lock_rows(lock, world.now_ms)

    assert [row[0] for row in rows] == ["crane", ""]
    assert rows[0][1].endswith("/ one")
    assert [handle.id[-6:] in row[4] for handle, row in zip(waiting, rows, strict=True)] == [True, True]
    told = _lock_object(lock)
    assert (told["key"], told["holders"][0]["ref_id"], len(told["waiters"])) == ("crane", "one", 2)


def test_progress_is_one_line(world: World):
    view = read_view(world.client.store, world.start(stage("a"), gate("b", "a"), stage("c", "b")).id)

    assert _progress(view) == "a SUCCEEDED · b SUSPENDED"
