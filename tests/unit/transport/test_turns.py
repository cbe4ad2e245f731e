"""What a process goes on with is known to the worker's main process, and lost with its process."""

from __future__ import annotations

import os

from billiard import get_context

from stabilize_celery.transport.turns import Turns


def _go_on(turns: Turns, has_begun: object, may_end: object) -> None:
    with turns.going_on("wf/Run:a..0", "charge", "RunTask"):
        has_begun.set()  # type: ignore[attr-defined]
        may_end.wait(60)  # type: ignore[attr-defined]


def test_the_main_process_sees_what_a_child_goes_on_with() -> None:
    """For as long as it does, and until it is reported lost."""
    context, turns = get_context("fork"), Turns()
    has_begun, may_end = context.Event(), context.Event()
    child = context.Process(target=_go_on, args=(turns, has_begun, may_end))
    child.index = 3
    child.start()
    try:
        assert has_begun.wait(60)
        (seen,) = turns.all()
        assert (seen.task_id, seen.task_type, seen.pid) == ("wf/Run:a..0", "charge", child.pid)
        assert turns.lost(os.getpid()) == []
        assert turns.lost(child.pid) == [seen]
        assert turns.all() == []
    finally:
        may_end.set()
        child.join(60)


def test_it_is_forgotten_when_the_task_has_ended() -> None:
    """Threads of the main process are seen, too: not every pool forks."""
    turns = Turns()

    with turns.going_on("wf/Run:a..0", "charge", "RunTask"):
        assert [one.task_id for one in turns.all()] == ["wf/Run:a..0"]

    assert turns.all() == []


def test_all_are_counted_whichever_process_handles_them() -> None:
    """Celery counts deliveries only."""
    context, turns = get_context("fork"), Turns()
    has_begun, may_end = context.Event(), context.Event()
    may_end.set()
    for _ in range(2):
        child = context.Process(target=_go_on, args=(turns, has_begun, may_end))
        child.start()
        child.join(60)
    with turns.going_on("wf/Run:a..0", "charge", "RunTask"):
        assert turns.count() == 3

    assert turns.count() == 3


def test_one_may_begin_inside_another() -> None:
    """The first has ended by then: only the newest is at work."""
    turns = Turns()

    with turns.going_on("wf/Run:a..0", "charge", "RunTask"), turns.going_on("wf/Run:b..0", "charge", "RunTask"):
        assert [one.task_id for one in turns.all()] == ["wf/Run:b..0"]

    assert turns.all() == []
