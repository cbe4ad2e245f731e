"""The outside (4.4): which of its events are due, and what they do."""

from stabilize_celery.testing.conformance.scenario import Effect, Trigger
from tests.simulation.oracle.enabling import choose, end_run
from tests.simulation.oracle.ends import cancel, complete, finish
from tests.simulation.oracle.instances import add_instances, complete_early, takes_more
from tests.simulation.oracle.joins import judge_joins
from tests.simulation.oracle.reach import stage_status
from tests.simulation.oracle.starting import may_try
from tests.simulation.oracle.state import WELL, Case, Installation, Run

__all__ = ["deliver", "is_addressed", "look_at_triggers"]


def look_at_triggers(home: Installation) -> None:
    """Note the events, and the workflows that start, whose triggers hold now."""
    for workflow in list(home.unstarted):
        if all(_holds(home, trigger) for trigger in workflow.triggers):
            home.unstarted.remove(workflow)
            home.starting.append(workflow)
    for event in list(home.events):
        if all(_holds(home, trigger) for trigger in event.triggers):
            home.events.remove(event)
            home.due.append(event)


def _holds(home: Installation, trigger: Trigger) -> bool:
    if trigger.tick is not None:
        return trigger.tick <= home.now
    if trigger.event is not None:
        return trigger.event in home.delivered
    if trigger.ended is not None:
        cases = home.of(trigger.ended)
        return bool(cases) and not any(case.is_live for case in cases)
    name, ref = home.scenario.resolve(trigger.stage or "")
    return _holds_of_stage(trigger, ref, home.of(name))


def _holds_of_stage(trigger: Trigger, ref: str, cases: list[Case]) -> bool:
    runs = [(case, run) for case in cases for run in case.runs if run.ref == ref]
    match trigger.kind:
        case "started":
            return sum(case.started[ref] for case in cases) >= trigger.count
        case "completed":
            return sum(bool(run.started) and run.status in WELL for _, run in runs) >= trigger.count
        case "suspended":
            return sum(bool(work.waits) for _, run in runs if run.is_live for work in run.works) >= trigger.count
        case "instances_completed":
            return sum(case.instances[ref][1] for case in cases) >= trigger.count
        case "offered":
            return any(run.offer for _, run in runs)
        case "held":
            waiting = [(case, run) for case, run in runs if run.is_live and not run.started]
            return any(run.offer or not may_try(case, run) for case, run in waiting)
        case status:
            return any(stage_status(case, ref) == status.upper() for case in cases)


def is_addressed(home: Installation, effect: Effect) -> bool:
    """Whether there is a workflow that an event could be delivered to."""
    return bool(home.of(_address(home, effect)[0]))


def _address(home: Installation, effect: Effect) -> tuple[str, str]:
    if effect.verb == "cancel_workflow":
        return effect.cancel_workflow or "", ""
    if effect.verb == "cancel_region":
        return effect.workflow or home.scenario.main.name, ""
    return home.scenario.resolve(effect.target or "")


def deliver(home: Installation, effect: Effect) -> None:
    """Let an event take its effect, where it can."""
    name, ref = _address(home, effect)
    for case in home.of(name):
        if case.is_live:
            _do(case, ref, effect)


def _do(case: Case, ref: str, effect: Effect) -> None:  # noqa: PLR0912 - a case per event
    if effect.verb.startswith("cancel_"):
        judge_joins(case, case.top)
    live = sorted((run for run in case.live() if run.ref == ref), key=lambda run: run.created)
    match effect.verb:
        case "signal":
            _signal(case, ref, effect)
        case "cancel_workflow":
            finish(case, "CANCELED")
        case "cancel_stage":
            cancel(case, [ref])
        case "cancel_region":
            cancel(case, [other for other in case.stages if case.stages[other].cancel_region == effect.cancel_region])
        case "skip_stage":
            if live:
                _skip(case, live[0])
        case "choose":
            for run in [run for run in live if run.offer][:1]:
                choose(case, run)
        case "add_instances":
            for run in [run for run in live if takes_more(case, run)][:1]:
                add_instances(case, run, effect.add_instances or 0, effect.context)
        case "complete_mi":
            for run in [run for run in live if run.started and case.stages[ref].mi_config][:1]:
                complete_early(case, run)


def _skip(case: Case, run: Run) -> None:
    if run.offer:
        choose(case, run)
    if run.passed_on:
        end_run(run, "SKIPPED")
    else:
        complete(case, run, "SKIPPED")


def _signal(case: Case, ref: str, effect: Effect) -> None:
    name = effect.signal or ""
    waiting = [
        (run.started, work.index or 0, work)
        for run in case.live()
        if run.ref == ref
        for work in run.works
        if work.waits == name and effect.instance in (None, work.index)
    ]
    if waiting:
        work = min(waiting, key=lambda found: found[:2])[2]
        work.waits, work.names["signal"] = "", effect.data
    elif effect.persistent:
        case.kept[ref].append((name, effect.data))
