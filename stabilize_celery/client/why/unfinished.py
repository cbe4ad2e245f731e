"""What one unfinished stage waits for."""

from collections.abc import Sequence

from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.held import mutex_reason
from stabilize_celery.client.why.owed import message_reason
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.why.tasks import task_reason
from stabilize_celery.client.words import clock_time, duration, listed, plural
from stabilize_celery.engine.endings import (
    lock_name,
)
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import Run
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import StageView
from stabilize_celery.settings import Settings

__all__ = ["reason_of_stage"]


def reason_of_stage(facts: Facts, ref_id: str, stage: StageView, settings: Settings) -> Reason:
    """Return what a stage waits for that has not ended."""
    if stage.newest is None or stage.newest[1].is_ended:
        return _before_its_start(facts, ref_id, stage)
    thread, run = stage.newest
    if run.phase == "instances" and not run.is_ended:
        return _instances(facts, ref_id, stage, settings)
    return _of_run(facts, ref_id, stage, thread, run, settings)


def _of_run(facts: Facts, ref_id: str, stage: StageView, thread: str, run: Run, settings: Settings) -> Reason:
    if run.status == "BUFFERED":
        return _held(facts, ref_id, stage, thread, run)
    if run.status == "SUSPENDED":
        return _signal(facts, ref_id, run)
    if run.status == "NOT_STARTED":
        return _start(facts, ref_id, thread)
    return _at_work(facts, ref_id, stage, thread, run, settings)


def _held(facts: Facts, ref_id: str, stage: StageView, thread: str, run: Run) -> Reason:
    """Return what keeps an enabled run from starting: a choice, a milestone, its section's or its own mutex."""
    if run.offer:
        return _offered(facts, ref_id, stage)
    if run.held_for:
        return _milestone(ref_id, stage)
    name, section = lock_name(stage.plan, facts.view.id), stage.plan.mutex_section
    if section:
        return mutex_reason(facts, ref_id, name, section_thread(section))
    held = facts.entry(f"Lock:{thread}#{run.request}")
    if held is None or facts.is_dead(f"Lock:{thread}#{run.request}"):
        return message_reason(facts, ref_id, f"Lock:{thread}#{run.request}", "its request for the mutex")
    return mutex_reason(facts, ref_id, name, thread)


def _instances(facts: Facts, ref_id: str, stage: StageView, settings: Settings) -> Reason:
    live = [(thread, run) for thread, run in stage.runs if run.instance is not None and not run.is_ended]
    told = [f"#{run.instance} {_of_run(facts, ref_id, stage, thread, run, settings).text}" for thread, run in live[:5]]
    more = [f"and {len(live) - len(told)} more"] if len(live) > len(told) else []
    text = f"waits for {plural(len(live), 'instance', 'instances')}: {'; '.join([*told, *more])}"
    return Reason(ref_id, "instances", text if live else "its instances are being judged")


def _offered(facts: Facts, ref_id: str, stage: StageView) -> Reason:
    group = stage.plan.choice_group
    others = [ref for ref, view in facts.view.stages.items() if view.plan.choice_group == group and ref != ref_id]
    text = f"is offered in the choice {group!r}, beside {listed(others)}; nobody has chosen"
    return Reason(ref_id, "choice", text, "", f"stabilize-celery choose {facts.view.id} {ref_id}")


def _milestone(ref_id: str, stage: StageView) -> Reason:
    plan = stage.plan
    return Reason(ref_id, "milestone", f"waits until stage {plan.milestone} is {plan.milestone_status}")


def _before_its_start(facts: Facts, ref_id: str, stage: StageView) -> Reason:
    plan = stage.plan
    if plan.owner is not None:
        place = "is planned before" if plan.owner == "STAGE_BEFORE" else "is planned after the tasks of"
        return Reason(ref_id, "requisites", f"{place} stage {plan.parent}")
    unfinished = [ref for ref in plan.requisites if not _is_complete(facts, ref)]
    if ref_id in facts.joins:
        return _join(facts, ref_id, plan.requisites, unfinished)
    if unfinished:
        return Reason(ref_id, "requisites", f"can't start before {listed(unfinished)}")
    return Reason(ref_id, "not_reached", f"was not reached: {listed(plan.requisites)} went another way")


def _join(facts: Facts, ref_id: str, requisites: Sequence[str], unfinished: Sequence[str]) -> Reason:
    state = facts.joins[ref_id]
    missing = [
        ref
        for position, ref in enumerate(requisites)
        if not state.waiting.get(position) and position not in state.counted
    ]
    if not missing:
        return message_reason(facts, ref_id, f"Eval:{ref_id}", "all branches have arrived; its join")
    arrived = len(requisites) - len(missing)
    text = f"can't start before {listed(missing)}"
    if arrived:
        text = f"join waits for {len(missing)} of {plural(len(requisites), 'branch', 'branches')}"
        text += f": {listed(missing)}"
    lost = [ref for ref in missing if ref not in unfinished]
    return Reason(ref_id, "join", text, f"{listed(lost)} ended and went another way" if lost else "")


def _is_complete(facts: Facts, ref_id: str) -> bool:
    stage = facts.view.stages[ref_id]
    return WorkflowStatus[stage.status(facts.view.record)].is_complete


def _signal(facts: Facts, ref_id: str, run: Run) -> Reason:
    name = run.waits
    text = f"waits for signal {name!r}" if name else "waits for any signal"
    if run.wait_deadline_ms:
        left = duration(run.wait_deadline_ms - facts.now_ms)
        text += f", until {clock_time(run.wait_deadline_ms, facts.now_ms)} (in {left})"
    detail = "Nobody has sent it" + ("; it ends TERMINAL if nobody does" if run.wait_deadline_ms else "")
    advice = f"stabilize-celery signal {facts.view.id} {ref_id} {name or 'NAME'} '{{}}'"
    return Reason(ref_id, "signal", text, detail, advice)


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
