"""Watching a workflow: a live tree on a terminal, lines of history in a pipe. Woken by the event stream."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live

from stabilize_celery.cli.instances import read_instances
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.showing import print_events
from stabilize_celery.cli.tree import Tree
from stabilize_celery.client import Client
from stabilize_celery.client.following import EventFeed
from stabilize_celery.client.why.explain import explain_view
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import WorkflowView, read_view

__all__ = ["follow_lines", "follow_tree", "views", "watch"]

_LOOK_AGAIN_S = 5.0
"""How long nothing may happen before the workflow is looked at all the same: workers come and go without events."""
_SHORTEST_PAUSE_S = 0.15
_SHARE = 4
"""At most one part in so many, plus one, of the time goes into reading."""
_CLEARING_S = 5.0


def watch(session: Session, client: Client, workflow_id: str) -> WorkflowStatus:
    """Show a workflow until it has ended; return its status."""
    if session.is_live:
        return follow_tree(session, client, workflow_id)
    return follow_lines(session, client, workflow_id)


def follow_lines(session: Session, client: Client, workflow_id: str) -> WorkflowStatus:
    """Print the history as it happens."""
    handle = client.handle(workflow_id)
    handle.status()
    print_events(session, handle.events(follow=True))
    return handle.status()


def follow_tree(session: Session, client: Client, workflow_id: str) -> WorkflowStatus:
    """Show the workflow as a tree that follows what happens."""
    changes = views(client, workflow_id)
    view = next(changes)
    with _screen(session) as show:
        show(_tree(client, view, live=True))
        for view in changes:
            show(_tree(client, view, live=True))
        show(_tree(client, view, live=False))
    return WorkflowStatus.stored(view.record.status)


@contextmanager
def _screen(session: Session) -> Iterator[Callable[[Tree], None]]:
    with Live(console=session.out, refresh_per_second=8, vertical_overflow="ellipsis") as live:
        yield lambda tree: live.update(tree, refresh=True)


def _tree(client: Client, view: WorkflowView, *, live: bool) -> Tree:
    reasons, instances = explain_view(client.store, view, client.settings), read_instances(client.store, view)
    return Tree(view, reasons, instances, live=live)


def views(client: Client, workflow_id: str) -> Iterator[WorkflowView]:
    """Yield the workflow again each time that something happened, until it has ended and is cleared."""
    view, cost_s = _timed(client, workflow_id)
    feed = EventFeed(client.store, workflow_id, f"{max(0, view.now_ms - 1000)}-0")
    ended_at = 0.0
    while True:
        yield view
        if not view.record.is_live:
            ended_at = ended_at or time.monotonic()
            if _is_clear(view) or time.monotonic() > ended_at + _CLEARING_S:
                return
        feed.next_batch(_LOOK_AGAIN_S if view.record.is_live else 0.25)
        # Many things happen at once: they are shown together.
        time.sleep(max(_SHORTEST_PAUSE_S, _SHARE * cost_s))
        while feed.next_batch():
            continue
        view, cost_s = _timed(client, workflow_id)


def _timed(client: Client, workflow_id: str) -> tuple[WorkflowView, float]:
    began = time.monotonic()
    view = read_view(client.store, workflow_id, without_payloads=True)
    return view, time.monotonic() - began


def _is_clear(view: WorkflowView) -> bool:
    return all(run.is_ended for stage in view.stages.values() for _, run in stage.runs)
