"""A child that waits for messages is called back by its main process, and tells it what is done."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from billiard import get_context

from stabilize_celery.transport.consumed_queues import ConsumedQueues
from stabilize_celery.transport.turns import Delivered
from stabilize_celery.transport.waiting import Turn, Waiting, Waits

QUEUES = ("stabilize.control", "späte.arbeit")
DONE = Delivered("wf/Start:a", "'applied'", 0.25, 7)


def in_child(act: Callable[[], object]) -> Any:
    """Return what `act` does in a forked child."""
    context = get_context("fork")
    receives, sends = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sends.send(act()))
    child.start()
    try:
        assert receives.poll(60)
        return receives.recv()
    finally:
        child.join(60)


def turn_of(waiting: Waiting, clock: Callable[[], float] = lambda: 0.0) -> Turn:
    """Return a turn of 250 ms that waits for up to a second."""
    return Turn(clock, 0.25, Waits(waiting, 1000))


def test_only_children_wait() -> None:
    """The main process would hold up its worker."""
    waiting = Waiting(ConsumedQueues(QUEUES))

    assert not waiting.is_here
    assert in_child(lambda: waiting.is_here)


def test_a_child_takes_from_what_the_worker_consumes() -> None:
    """Also if that changes after the fork."""
    consumed = ConsumedQueues(QUEUES)
    waiting = Waiting(consumed)
    assert in_child(waiting.queues) == QUEUES

    def told_of_a_change() -> list[tuple[str, ...]]:
        before = waiting.queues()
        consumed.set(QUEUES[:1])
        return [before, waiting.queues(), waiting.queues()]

    assert in_child(told_of_a_change) == [QUEUES, QUEUES[:1], QUEUES[:1]]
    consumed.set(())
    assert in_child(waiting.queues) == ()


def test_more_names_than_there_is_room_for_are_none() -> None:
    """Celery delivers all messages then."""
    assert ConsumedQueues(["q" * 70_000]).names() == ()


def test_what_a_child_told_early_is_of_its_own_delivery() -> None:
    """Another process may have another delivery of the same message."""
    waiting = Waiting(ConsumedQueues(QUEUES))
    waiting.keep_early(DONE)

    assert waiting.told_early(DONE.task_id, DONE.pid + 1) is None
    assert waiting.told_early(DONE.task_id, DONE.pid) == DONE
    assert waiting.told_early(DONE.task_id, DONE.pid) is None


def test_what_was_told_early_of_deliveries_that_never_came_is_forgotten() -> None:
    waiting = Waiting(ConsumedQueues(QUEUES))
    for pid in range(2_000):
        waiting.keep_early(Delivered("wf/Start:a", "", 0.0, pid))

    kept = [pid for pid in range(2_000) if waiting.told_early("wf/Start:a", pid) is not None]
    assert kept == list(range(1_000, 2_000))


def test_the_main_process_ends_turns() -> None:
    """Those that have begun; not those that begin after it."""
    waiting = Waiting(ConsumedQueues(QUEUES))

    def called_back() -> tuple[bool, float, bool]:
        turn = turn_of(waiting)
        waiting.end_turns()
        return turn.is_over(), turn.wait_s(), turn_of(waiting).is_over()

    assert in_child(called_back) == (True, 0.0, False)


def test_a_turn_waits_no_longer_when_a_message_waits_for_a_process() -> None:
    """It ends as one that never waits: another one may have been handed over at once."""
    waiting = Waiting(ConsumedQueues(QUEUES))

    def asked() -> list[tuple[float, bool]]:
        times = iter([0.0, 0.3, 0.3])
        turn = turn_of(waiting, lambda: next(times))
        before = turn.wait_s(), turn.is_over()
        waiting.ask_for_a_process()
        return [before, (turn.wait_s(), turn.is_over())]

    assert in_child(asked) == [(1.0, False), (0.0, True)]


@pytest.mark.parametrize(("wait_ms", "ends_s"), [(1_000, 10.0), (60_000, 60.0)])
def test_the_longest_turn_ends(wait_ms: int, ends_s: float) -> None:
    """Celery looks after its children between two deliveries; one wait may be longer, if so set."""
    waiting = Waiting(ConsumedQueues(QUEUES))

    def ends_at() -> float:
        clock = count(0, 0.5)
        now = [0.0]

        def tick() -> float:
            now[0] = next(clock)
            return now[0]

        turn = Turn(tick, 0.25, Waits(waiting, wait_ms))
        while not turn.is_over():
            pass
        return now[0]

    assert in_child(ends_at) == ends_s


def test_what_is_done_is_told_to_the_main_process() -> None:
    """In order, from any number of children."""
    waiting = Waiting(ConsumedQueues(QUEUES))
    other = Delivered("wf/Run:a..0", "'é'", 1.0, 8)
    in_child(lambda: waiting.tell(DONE))
    in_child(lambda: waiting.tell(other))

    assert waiting.delivered() == [DONE, other]
    assert waiting.delivered() == []


@pytest.mark.parametrize("result", ["x" * 5_000])
def test_what_is_too_long_to_tell_is_learned_at_the_end_of_the_turn(result: str) -> None:
    """It would mix with what other children tell."""
    waiting = Waiting(ConsumedQueues(QUEUES))
    waiting.tell(Delivered("wf/Start:a", result, 0.0, 7))

    assert waiting.delivered() == []


def test_what_nobody_reads_holds_up_no_child() -> None:
    """The pipe is full: the rest is learned at the end of the turns."""
    waiting = Waiting(ConsumedQueues(QUEUES))
    for _ in range(10_000):
        waiting.tell(DONE)

    assert set(waiting.delivered()) == {DONE}


def test_a_child_whose_main_process_has_died_is_called_back() -> None:
    """Nobody extends the leases of what it would take."""
    waiting = Waiting(ConsumedQueues(QUEUES))
    turn = turn_of(waiting)

    assert in_child(turn.was_called_back) is False
    assert turn.was_called_back()
