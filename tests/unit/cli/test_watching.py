"""Watching a workflow on a terminal, and what the demo makes of a state."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from stabilize_celery.cli import watching
from stabilize_celery.cli.demonstration import _progress
from stabilize_celery.cli.instances import read_instances
from stabilize_celery.cli.session import Session, Shared
from stabilize_celery.cli.watching import follow_tree, watch
from stabilize_celery.models.patterns import instances
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


def test_progress_is_one_line(world: World):
    """Stages by their status; instances of one are counted."""
    many = instances(stage("b", "a"), count=40, at_once=1)
    view = read_view(world.client.store, world.start(stage("a"), many, gate("c", "a"), stage("d", "b", "c")).id)

    told = _progress(view, read_instances(world.client.store, view))

    assert told.startswith("a SUCCEEDED · b ")
    assert " of 40 done" in told
    assert told.endswith(" · c SUSPENDED")


def test_a_workflow_in_a_pipe_is_a_history(world: World):
    """What two hundred instances do takes a few lines, and nothing of it is lost."""
    console = Console(file=io.StringIO(), width=80, color_system=None)
    session = Session(Shared(), out=console)
    handle = world.start(instances(stage("many"), count=200), stage("last", "many"))
    world.settle(20)

    watch(session, world.client, handle.id)

    lines = printed(session).splitlines()
    assert len(lines) < 40
    assert sum("+197 instances started" in line for line in lines) == 1
    assert any("last" in line and "SUCCEEDED" in line for line in lines)
