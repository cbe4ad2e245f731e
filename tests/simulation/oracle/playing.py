"""A second opinion on wcp part 1: a direct interpreter of its rules, one thread step at a time, in any order.

It shares nothing with the engine but the scenario format and the expression language, keeps everything in plain
objects, and looks at the whole graph whenever it wants to know what can still arrive. This is its loop: whatever can
happen next, chosen at random, until every case has ended.
"""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import TypeAlias

from stabilize_celery.testing.conformance.scenario import EventScript, Scenario, WorkflowScript
from tests.simulation.oracle.calls import call, return_from
from tests.simulation.oracle.enabling import choose, offer_or_enable, offered
from tests.simulation.oracle.ends import end_if_nothing_is_left, finish, judge_cancelling
from tests.simulation.oracle.instances import judge_instances
from tests.simulation.oracle.joins import cancelling, judge_joins, untie
from tests.simulation.oracle.outside import deliver, is_addressed, look_at_triggers
from tests.simulation.oracle.parts import continue_run
from tests.simulation.oracle.reach import ended
from tests.simulation.oracle.starting import close_sections, may_try, milestone, try_to_start
from tests.simulation.oracle.state import Case, Ended, Installation, Run, StuckError
from tests.simulation.oracle.work import do_work

__all__ = ["Result", "play"]

Result: TypeAlias = tuple[tuple[str, tuple[Ended, ...]], ...]
"""What is compared: what became of the cases of each workflow, in no order."""

_Step: TypeAlias = tuple[object, Callable[[], None]]
"""Whose step it is, and what it does."""
MAX_STEPS = 3_000


def play(scenario: Scenario, seed: int) -> Result:
    """Return what becomes of a scenario in one order of steps. Raises StuckError."""
    home = Installation(scenario, Random(seed))
    for case in list(home.cases):
        _begin(case)
    look_at_triggers(home)
    for _ in range(MAX_STEPS):
        if not (home.starting or home.unstarted or any(case.is_live for case in home.cases)):
            if any(not is_addressed(home, event.do) for event in home.due):
                raise StuckError("an event is for a workflow that was never started")
            return tuple((one.name, tuple(sorted(map(ended, home.of(one.name))))) for one in scenario.workflows)
        steps = [step for case in home.cases for step in _steps(case)]
        steps += [(one.name, partial(_start, home, one)) for one in home.starting]
        steps += [(id(event), partial(_deliver, home, event)) for event in home.due if is_addressed(home, event.do)]
        steps += [(run, partial(choose, case, run)) for case, run, at in _choosing_themselves(home) if at <= home.now]
        if steps:
            home.pick(steps)()
            _after(home)
        else:
            _pass_time(home)
    raise StuckError("it goes on for ever")


def _begin(case: Case) -> None:
    offer_or_enable(case, [ref for ref in case.top if not case.sources[ref]], 1, {})
    _settle(case)


def _start(home: Installation, workflow: WorkflowScript) -> None:
    home.starting.remove(workflow)
    _begin(home.open(workflow))


def _after(home: Installation) -> None:
    for case in home.cases:
        _settle(case)
    look_at_triggers(home)


def _settle(case: Case) -> None:
    """Look at the joins, now or later: what waits at one is still there for whoever comes first."""
    if case.is_live:
        random, haste = case.home.random, case.home.haste
        case.is_judged = random.random() < haste
        judge_joins(case, [ref for ref in case.top if case.is_judged or random.random() < haste])
        if case.is_judged:
            end_if_nothing_is_left(case)
        close_sections(case)


def _steps(case: Case) -> Iterator[_Step]:
    if not case.is_live:
        return
    if case.is_doomed:
        yield case, partial(_take_away, case)
    for run in case.runs:
        yield from _steps_of(case, run)
    acting = cancelling(case)
    for ref in acting:
        yield (case, ref), partial(judge_cancelling, case, ref)
    if not case.is_judged:
        yield None, lambda: None
    elif not acting and _is_still(case):
        yield case, partial(untie, case)


def _steps_of(case: Case, run: Run) -> Iterator[_Step]:
    if run.status == "NOT_STARTED" and may_try(case, run):
        yield run, partial(try_to_start, case, run)
    elif run.status == "RUNNING":
        yield from _steps_inside(case, run)


def _steps_inside(case: Case, run: Run) -> Iterator[_Step]:
    if run.has_news:
        yield run, partial(continue_run, case, run)
    if run.is_unjudged:
        yield run, partial(judge_instances, case, run)
    if run.calls:
        yield run, partial(_call, case, run)
    if run.child is not None and not run.child.is_live:
        yield run, partial(return_from, case, run, run.child)
    for work in run.works:
        if run.phase == "work" and work.status == "RUNNING" and not work.waits:
            yield work, partial(do_work, case, run, work)


def _take_away(case: Case) -> None:
    judge_joins(case, case.top)
    finish(case, "CANCELED")


def _call(case: Case, run: Run) -> None:
    inner = call(case, run)
    if inner is not None:
        _begin(inner)


def _deliver(home: Installation, event: EventScript) -> None:
    home.due.remove(event)
    if event.id:
        home.delivered.add(event.id)
    deliver(home, event.do)


def _is_still(case: Case) -> bool:
    return all(
        run.status == "NOT_STARTED" and not may_try(case, run) and milestone(case, run) == "wait" for run in case.live()
    )


def _pass_time(home: Installation) -> None:
    """Nothing can happen without waiting: the next thing that only time keeps back."""
    triggers = [trigger for one in (*home.events, *home.unstarted) for trigger in one.triggers]
    ticks = [trigger.tick for trigger in triggers if trigger.tick is not None]
    later = [tick for tick in [*ticks, *(at for _, _, at in _choosing_themselves(home))] if tick > home.now]
    if not later:
        raise StuckError("nothing can move")
    home.now = min(later)
    look_at_triggers(home)


def _choosing_themselves(home: Installation) -> Iterator[tuple[Case, Run, int]]:
    """Yield the offers that some time chooses, and when."""
    for case in home.cases:
        for run in offered(case):
            wait = case.stages[run.ref].choose_after
            if wait is not None:
                yield case, run, run.offered_at + wait
