"""What one unfinished stage waits for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stabilize_celery.client.why.branches import is_at_work
from stabilize_celery.client.why.doing import doing
from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.held import mutex_reason
from stabilize_celery.client.why.joins import branch_reason
from stabilize_celery.client.why.owed import message_reason
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.why.tasks import task_reason
from stabilize_celery.client.words import clock_time, command_line, duration, listed
from stabilize_celery.engine.completion import failure_status
from stabilize_celery.engine.endings import (
    lock_name,
)
from stabilize_celery.engine.hooks import ON_TIMEOUT, task_at_work
from stabilize_celery.engine.instances import Crowd
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import Run
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import StageView
from stabilize_celery.settings import Settings

__all__ = ["reason_of_stage"]

_MOST_TOLD = 5
"""So many different reasons of the runs of one stage are told (count)."""


def reason_of_stage(facts: Facts, ref_id: str, stage: StageView, settings: Settings) -> Reason:
    """Return what a stage waits for that has not ended."""
    live = [(thread, run) for thread, run in stage.runs if run.instance is None and not run.is_ended]
    if not live:
        return _before_its_start(facts, ref_id, stage)
    reasons = [_of_run(facts, ref_id, stage, thread, run, settings) for thread, run in live]
    return reasons[0] if len(reasons) == 1 else _of_several(ref_id, reasons)


def _of_several(ref_id: str, reasons: Sequence[Reason]) -> Reason:
    """Return the reasons of runs that live at the same time as one; those that read the same are counted."""
    counts = Counter(reason.text for reason in reasons)
    told = [
        f"{number} of them: {text}" if number > 1 else f"one: {text}" for text, number in counts.most_common(_MOST_TOLD)
    ]
    more = len(reasons) - sum(number for _, number in counts.most_common(_MOST_TOLD))
    text = f"{len(reasons)} runs are under way; {'; '.join(told)}{f'; and {more} more' if more else ''}"
    kinds = {reason.kind for reason in reasons}
    detail, advice = (next((value for value in values if value), "") for values in _columns(reasons))
    return Reason(ref_id, kinds.pop() if len(kinds) == 1 else "runs", text, detail, advice)


def _columns(reasons: Sequence[Reason]) -> tuple[list[str], list[str]]:
    return [reason.detail for reason in reasons], [reason.advice for reason in reasons]


def _of_run(facts: Facts, ref_id: str, stage: StageView, thread: str, run: Run, settings: Settings) -> Reason:
    if run.phase == "instances":
        return _instances(facts, ref_id, stage, thread, run, settings)
    if run.status == "BUFFERED":
        return _held(facts, ref_id, stage, thread, run)
    if run.status == "SUSPENDED":
        return _signal(facts, ref_id, thread, run)
    if run.status == "NOT_STARTED":
        return _start(facts, ref_id, thread)
    return _at_work(facts, ref_id, stage, thread, run, settings)


def _held(facts: Facts, ref_id: str, stage: StageView, thread: str, run: Run) -> Reason:
    """Return what keeps an enabled run from starting: a choice, a milestone, its section's or its own mutex."""
    if run.offer:
        return _offered(facts, ref_id, stage, thread, run)
    if run.held_for:
        return _milestone(facts, ref_id, stage)
    name, section = lock_name(stage.plan, facts.view.id), stage.plan.mutex_section
    if section:
        return mutex_reason(facts, ref_id, name, section_thread(section))
    held = facts.entry(f"Lock:{thread}#{run.request}")
    if held is None or facts.is_dead(f"Lock:{thread}#{run.request}"):
        return message_reason(facts, ref_id, f"Lock:{thread}#{run.request}", "its request for the mutex")
    return mutex_reason(facts, ref_id, name, thread)


def _instances(facts: Facts, ref_id: str, stage: StageView, thread: str, run: Run, settings: Settings) -> Reason:
    crowd = facts.crowds.get(thread, Crowd())
    live = [(name, one) for name, one in stage.runs if one.parent == thread and one.instance is not None]
    live = [(name, one) for name, one in live if not one.is_ended]
    if not live:
        what = "its instances have ended; what follows" if crowd.exists else "the start of its instances"
        return message_reason(facts, ref_id, f"Inst:{thread}", what)
    told = [f"#{one.instance} {_of_run(facts, ref_id, stage, name, one, settings).text}" for name, one in live[:5]]
    more = [f"and {len(live) - len(told)} more"] if len(live) > len(told) else []
    turns = crowd.total - crowd.begun
    more += [f"{turns} {'wait' if turns > 1 else 'waits'} for a turn"] if turns > 0 else []
    text = f"{crowd.done} of {crowd.total} instances done{_goes_on(stage, run)}; {'; '.join([*told, *more])}"
    return Reason(ref_id, "instances", text)


def _goes_on(stage: StageView, run: Run) -> str:
    """Return when the thread of a run with instances goes on, if that is not with the last of them."""
    if run.passed_on:
        return " (its thread has continued)"
    config = stage.plan.instances
    if config is not None and config.condition:
        return f" (continues as soon as {config.condition})"
    return f" (continues after {config.threshold})" if config is not None and config.threshold else ""


def _offered(facts: Facts, ref_id: str, stage: StageView, thread: str, run: Run) -> Reason:
    group = stage.plan.choice_group
    others = [
        ref
        for ref, view in facts.view.stages.items()
        if ref != ref_id and any(one.offer == run.offer and not one.is_ended for _, one in view.runs)
    ]
    beside = f", beside {listed(others)}" if others else ""
    text = f"is offered in the choice {group!r}{beside}; nobody has chosen"
    timer = facts.entry(f"Choose:{thread}")
    left = f"It is chosen automatically at {clock_time(timer.nb, facts.now_ms)} if nobody does" if timer else ""
    return Reason(ref_id, "choice", text, left, command_line("choose", facts.view.id, ref_id))


def _milestone(facts: Facts, ref_id: str, stage: StageView) -> Reason:
    ref, wanted = str(stage.plan.milestone), stage.plan.milestone_status
    milestone = facts.view.stages[ref]
    at = f", and {doing(facts, ref)}" if is_at_work(milestone) else ""
    detail = f"{ref} is {milestone.status(facts.view.record)} now{at}"
    return Reason(ref_id, "milestone", f"waits until stage {ref} is {wanted}", detail)


def _before_its_start(facts: Facts, ref_id: str, stage: StageView) -> Reason:
    plan = stage.plan
    if plan.owner is None:
        return branch_reason(facts, facts.reach, ref_id)
    place = "is planned before" if plan.owner == "STAGE_BEFORE" else "is planned after the tasks of"
    unfinished = [ref for ref in plan.requisites if not _is_complete(facts, ref)]
    after = f", and can't start before {listed(unfinished)}" if unfinished else ""
    return Reason(ref_id, "requisites", f"{place} stage {plan.parent}{after}")


def _is_complete(facts: Facts, ref_id: str) -> bool:
    stage = facts.view.stages[ref_id]
    return WorkflowStatus[stage.status(facts.view.record)].is_complete


def _signal(facts: Facts, ref_id: str, thread: str, run: Run) -> Reason:
    name = run.waits
    text = f"waits for signal {name!r}" if name else "waits for any signal"
    end = ""
    if until_ms := run.waits_until_ms(facts.view.record, facts.now_ms):
        left = duration(until_ms - facts.now_ms)
        is_paused = facts.view.record.status == "PAUSED"
        text += f", for {left} more" if is_paused else f", until {clock_time(until_ms, facts.now_ms)} (in {left})"
        end = f"; {_without_signal(facts.contexts.get(thread, {}), run)} if nobody does"
    which = () if run.instance is None else ("--instance", str(run.instance))
    advice = command_line("signal", facts.view.id, ref_id, name or "NAME", "{}", options=which)
    return Reason(ref_id, "signal", text, f"Nobody has sent it{end}", advice)


def _without_signal(context: Mapping[str, Any], run: Run) -> str:
    state = task_at_work(run)
    if state is not None and ON_TIMEOUT in state.hooks:
        return "its on_timeout is asked"
    return f"it ends {failure_status(context)}"


def _start(facts: Facts, ref_id: str, thread: str) -> Reason:
    name = f"Start:{thread}"
    entry = facts.entry(name)
    if entry is not None and entry.nb > facts.now_ms and not entry.parked and name not in facts.view.parked:
        left = duration(entry.nb - facts.now_ms)
        return Reason(ref_id, "scheduled", f"is scheduled for {clock_time(entry.nb, facts.now_ms)} (in {left})")
    return message_reason(facts, ref_id, name, "its start")


def _at_work(facts: Facts, ref_id: str, stage: StageView, thread: str, run: Run, settings: Settings) -> Reason:
    if facts.entry(f"Done:{thread}") is not None:
        return message_reason(facts, ref_id, f"Done:{thread}", "its work is done; its end")
    if run.phase in ("before", "after", "failure"):
        return _synthetic(facts, ref_id, thread, run)
    if run.child and run.sub is None:
        if facts.entry(f"Child:{thread}") is not None:
            return message_reason(facts, ref_id, f"Child:{thread}", "the start of its inner workflow")
        advice = f"stabilize-celery why {run.child}"
        return Reason(ref_id, "sub_workflow", f"waits for its inner workflow {run.child}", advice=advice)
    return task_reason(facts, ref_id, stage.plan, thread, run, settings)


def _synthetic(facts: Facts, ref_id: str, thread: str, run: Run) -> Reason:
    owner = {"before": "STAGE_BEFORE", "after": "STAGE_AFTER"}.get(run.phase)
    children = [
        ref
        for ref, stage in facts.view.stages.items()
        if stage.plan.parent == ref_id and stage.plan.owner == owner and not _is_complete(facts, ref)
    ]
    if run.phase == "failure":
        children = [ref for ref in run.planned.get("failure", []) if not _is_complete(facts, ref)]
    if not children:
        return message_reason(facts, ref_id, f"Continue:{thread}", f"its {run.phase} stages are done; what follows")
    kind = "on-failure" if run.phase == "failure" else run.phase
    return Reason(ref_id, "synthetic", f"waits for its {kind} stages: {listed(children)}")
