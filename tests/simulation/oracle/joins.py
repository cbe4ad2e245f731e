"""Joins (1.6): which of them fires, gives up, or is reset; and what happens when all wait for each other."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from stabilize_celery.testing.conformance.scenario import StageScript
from tests.simulation.oracle.enabling import enable, end_run
from tests.simulation.oracle.pasts import Past, merged
from tests.simulation.oracle.reach import passable
from tests.simulation.oracle.state import Case, Join

__all__ = ["cancelling", "judge", "judge_joins", "untie"]

REDUCERS: dict[str, Callable[[list[Any]], Any]] = {
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "append": lambda values: [part for value in values for part in (value if isinstance(value, list) else [value])],
}


def judge_joins(case: Case, refs: list[str]) -> None:
    """Let each of these joins act that may, but for those that cancel."""
    is_changed = True
    while is_changed and case.is_live:
        is_changed = False
        for ref in refs:
            if not case.is_direct(ref) and case.stages[ref].join_mode != "CANCELLING" and judge(case, ref):
                is_changed = True


def cancelling(case: Case) -> list[str]:
    """Return the cancelling joins that may act: what they cancel may end first, so that is a step of its own."""
    held = [ref for ref, join in case.joins.items() if not join.is_empty or join.counted]
    return [ref for ref in held if case.stages[ref].join_mode == "CANCELLING" and _would_act(case, ref)]


def _would_act(case: Case, ref: str) -> bool:
    joins, runs, clock = deepcopy(case.joins), list(case.runs), case.clock
    acts = judge(case, ref)
    case.joins, case.runs, case.clock = joins, runs, clock
    return acts


def judge(case: Case, ref: str) -> bool:
    """Judge one join, but for what it cancels. Returns whether it did something."""
    join, stage = case.joins[ref], case.stages[ref]
    found = passable(case, ref)
    is_open = [at for at, source in enumerate(case.sources[ref]) if source in found]
    filled = join.filled
    if stage.thread_merge:
        return _merge(case, ref, join, stage.thread_merge, is_open=bool(is_open))
    if stage.join_type in ("DISCRIMINATOR", "N_OF_M"):
        return _judge_cycle(case, ref, join, stage, is_open)
    if not filled:
        return False
    if stage.join_type == "OR":
        return _fire(case, ref, filled) if not set(is_open) - set(filled) else False
    if len(filled) == len(join.waiting):
        return _fire(case, ref, filled)
    if any(at not in filled and at not in is_open for at in range(len(join.waiting))):
        join.empty()
        return True
    return False


def _merge(case: Case, ref: str, join: Join, group: int, *, is_open: bool) -> bool:
    if len(join.waiting[0]) >= group:
        enable(case, ref, _met(case, ref, join.waiting[0][:group]))
        del join.waiting[0][:group]
        return True
    if join.waiting[0] and not is_open:
        join.empty()
        return True
    return False


def _met(case: Case, ref: str, pasts: list[Past]) -> Past:
    """Return what a join's run sees; where the stage has a reducer, what the branches wrote, each write once."""
    found = merged(pasts)
    for name, reducer in case.stages[ref].output_reducers.items():
        writes = dict(past[name] for past in pasts if name in past)
        if writes:
            found[name] = (case.tick(), REDUCERS[reducer](list(writes.values())))
    return found


def _fire(case: Case, ref: str, edges: list[int]) -> bool:
    waiting = case.joins[ref].waiting
    enable(case, ref, _met(case, ref, [waiting[at].pop(0) for at in edges]))
    return True


def _judge_cycle(case: Case, ref: str, join: Join, stage: StageScript, is_open: list[int]) -> bool:
    size = len(join.waiting)
    need = 1 if stage.join_type == "DISCRIMINATOR" else (stage.join_threshold or size)
    for at in range(size):
        if join.waiting[at] and at not in join.counted:
            join.counted[at] = join.waiting[at].pop(0)
            if not join.has_fired and len(join.counted) >= need:
                join.has_fired = True
                enable(case, ref, _met(case, ref, list(join.counted.values())))
                alive = {*is_open, *join.filled, *join.counted}
                # What is dead now has no part in this cycle, though the new run may revive it.
                join.counted |= {dead: {} for dead in range(size) if dead not in alive}
                if stage.join_mode == "CANCELLING":
                    join.empty()
                    join.counted, join.has_fired = {}, False
            return True
    to_come = [at for at in is_open if at not in join.counted]
    is_doomed = not join.has_fired and len(join.counted) + len(to_come) < need
    if join.counted and (is_doomed or (join.has_fired and not to_come)):
        join.counted, join.has_fired = {}, False
        return True
    return False


def _order(case: Case) -> list[str]:
    order: list[str] = []
    while len(order) < len(case.top):
        order.append(next(r for r in case.top if r not in order and set(case.sources[r]) <= set(order)))
    return order


def untie(case: Case) -> None:
    """Break a standstill: an OR-join fires, else a held run is withdrawn, else what is left over is given up."""
    for ref in _order(case):
        filled = case.joins[ref].filled
        if filled and case.stages[ref].join_type == "OR" and not case.is_direct(ref):
            _fire(case, ref, filled)
            return
    held = [run for ref in _order(case) for run in case.live() if run.ref == ref]
    if held:
        end_run(held[0], "SKIPPED")
        return
    for join in case.joins.values():
        join.empty()
