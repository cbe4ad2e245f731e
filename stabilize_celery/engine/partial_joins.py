"""Partial joins of instances: at which of their ends the thread of the run goes on (wcp 1.11: WCP-34, 35, 36).

Ends are counted without WATCH, so several may be looked at together. Each is judged as if it had been seen alone, in
the order in which they were committed: what came after the one that was enough changes nothing.
"""

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import evaluated
from stabilize_celery.engine.instances import Crowd
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.plan import InstancesPlan
from stabilize_celery.engine.steps import Items, Read, Snapshot
from stabilize_celery.models.evaluation import EvaluationError
from stabilize_celery.models.expressions import evaluate_condition, names_in

__all__ = ["as_found_by_addition", "first_done", "number_that_is_enough"]


def number_that_is_enough(frame: Frame, crowd: Crowd) -> Generator[Read, Snapshot, int]:
    """Return with how many done instances the thread goes on by a threshold or a condition; 0: with none so far.

    Raises:
        EvaluationError: the condition can't be evaluated at an end before that.

    """
    config = frame.plan.instances
    if config is None or crowd.is_closed or not config.is_partial:
        return 0
    done = len((yield from _done_before_failure(frame))) if crowd.failed else crowd.done
    ends = range(crowd.judged + 1, done + 1)
    if not config.condition:
        return config.threshold if config.threshold in ends else 0

    def first(values: Mapping[str, Any]) -> int:
        return next((end for end in ends if _is_enough(config, values, end, crowd.total)), 0)

    counts = _counts(crowd.done, crowd.total)
    return (yield from evaluated(frame, names_in(config.condition), counts, first)) if ends else 0


def _is_enough(config: InstancesPlan, values: Mapping[str, Any], done: int, total: int) -> bool:
    reached = bool(config.threshold) and done >= config.threshold
    return reached or evaluate_condition(config.condition, {**values, **_counts(done, total)})


def _counts(done: int, total: int) -> dict[str, int]:
    return {"completed": done, "total": total, "active": total - done}


def first_done(frame: Frame, number: int) -> Generator[Read, Snapshot, list[int]]:
    """Return the indexes of the instances that were done first, in the order of their ends."""
    return (yield from _done_before_failure(frame))[:number]


def _done_before_failure(frame: Frame) -> Generator[Read, Snapshot, list[int]]:
    ends = Items(places.instance_ends(frame.thread))
    done = []
    for end in (yield Read((ends,)))[ends]:
        kind, _, index = end.partition(":")
        if kind == "failed":
            break
        done.append(int(index))
    return done


def as_found_by_addition(frame: Frame, crowd: Crowd) -> Generator[Read, Snapshot, Crowd]:
    """Return what an addition finds: closed if an end that is not judged yet lets the thread go on, or fails the run.

    Else all ends so far are judged: those that are added change nothing about them.
    """
    if not crowd.is_open:
        return crowd
    try:
        is_enough = bool((yield from number_that_is_enough(frame, crowd)))
    except EvaluationError:
        is_enough = True
    return replace(crowd, is_closed=True) if is_enough else replace(crowd, judged=crowd.done)
