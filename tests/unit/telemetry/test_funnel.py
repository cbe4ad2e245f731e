"""Counts made in children reach the main process that forked them."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from stabilize_celery.telemetry.funnel import Funnel
from stabilize_celery.telemetry.tally import Tally

CONFLICT = ("stabilize_commit_conflicts", (), 1.0)


def total(tally: Tally, name: str = CONFLICT[0]) -> float:
    return sum(series.total for found, _, series in tally.read() if found == name)


def add_many(funnel: Funnel, times: int) -> None:
    for _ in range(times):
        funnel.add([CONFLICT])


def forked(funnel: Funnel, children: int, times: int) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_many, args=(funnel, times)) for _ in range(children)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0


def test_counts_of_the_main_process_are_there_at_once() -> None:
    """Pools of threads have no children."""
    tally = Tally()
    Funnel(tally).add([CONFLICT, CONFLICT])

    assert total(tally) == 2


def test_one_that_is_not_read_leaves_no_pipe_open() -> None:
    """A pool without children starts no reader, and a program may start and stop many workers."""
    tally = Tally()
    funnel = Funnel(tally)
    funnel.close()
    funnel.add([CONFLICT])

    assert total(tally) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(funnel._writing)


def test_counts_of_children_come_over_the_pipe() -> None:
    """All of them, from several at once."""
    tally = Tally()
    funnel = Funnel(tally)
    funnel.start()
    forked(funnel, 3, 500)
    funnel.close()

    assert total(tally) == 1_500


def test_a_child_never_waits_for_a_reader() -> None:
    """Nobody reads: the pipe is full, the child goes on, and what fits is counted later."""
    tally = Tally()
    funnel = Funnel(tally)
    forked(funnel, 1, 20_000)
    funnel.start()
    os.set_blocking(funnel._writing, True)
    funnel.close()

    assert 0 < total(tally) < 20_000


def test_metrics_that_this_version_does_not_know_are_left_out() -> None:
    """A child may be older or newer than its main process is after an update in place."""
    tally = Tally()
    tally.add([("stabilize_of_tomorrow", (), 1.0), CONFLICT])

    assert [name for name, _, _ in tally.read()] == [CONFLICT[0]]
