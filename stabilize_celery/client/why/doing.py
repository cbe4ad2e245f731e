"""What a stage is at, or how it ended, in a few words: for those who wait for it."""

from stabilize_celery.client.why.branches import Reach
from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.locks import told_key
from stabilize_celery.client.words import clock_time
from stabilize_celery.engine.endings import lock_name
from stabilize_celery.engine.moves import GOES_ON, SYNTHETIC_PHASES
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.state import Run
from stabilize_celery.models.messages import run_name
from stabilize_celery.runtime.reading import StageView

__all__ = ["doing", "why_lost"]

_LONGEST_REASON = 120


def doing(facts: Facts, ref_id: str) -> str:
    """Return what the newest live run of a stage is at: `waits for signal 'go'`."""
    stage = facts.view.stages[ref_id]
    thread, run = stage.newest or ("", Run())
    if run.status == "BUFFERED":
        return _held(facts, stage.plan, run)
    if run.status == "SUSPENDED":
        return f"waits for signal {run.waits!r}" if run.waits else "waits for any signal"
    if run.status == "NOT_STARTED":
        return "is about to start"
    if (inside := _inside(run)) is not None:
        return f"waits for its {inside}"
    entry = facts.entry(run_name(thread, None, run.task_index))
    if entry is not None and entry.own:
        return "is at work"
    if entry is not None and entry.nb > facts.now_ms and not entry.parked:
        return f"continues at {clock_time(entry.nb, facts.now_ms)}"
    return "waits for a worker"


def _inside(run: Run) -> str | None:
    """Return what of its own a run waits for, or None."""
    if run.phase == "instances":
        return "instances"
    if run.phase in SYNTHETIC_PHASES:
        return f"{'on-failure' if run.phase == 'failure' else run.phase} stages"
    return "inner workflow" if run.child and run.sub is None else None


def _held(facts: Facts, plan: StagePlan, run: Run) -> str:
    if run.offer:
        return f"waits to be chosen (choice {plan.choice_group!r})"
    if run.held_for:
        return f"waits until stage {plan.milestone} is {plan.milestone_status}"
    return f"waits for mutex {told_key(lock_name(plan, facts.view.id))}"


def why_lost(facts: Facts, reach: Reach, join: StageView, ref_id: str) -> str:
    """Return why a branch can't bring anything to a join any more: `b was cancelled`."""
    stage = facts.view.stages[ref_id]
    if stage.newest is None:
        source, target = reach.cause_of_loss(ref_id)
        if not source:
            return f"{ref_id} was not reached"
        if _went_on(facts.view.stages[source]):
            other = "another way" if target == ref_id else f"another way than to {target}"
            return f"{ref_id} was not reached: {source} went {other}"
        return f"{ref_id} was not reached: {_ended(facts.view.stages[source])}"
    used = join.place.used.get(join.plan.requisites.index(ref_id)) if join.place else 0
    if used:
        return f"{ref_id} has come before and does not come again"
    if stage.newest[1].jump:
        return f"{ref_id} jumped to {stage.newest[1].jump}"
    return f"{ref_id} went another way" if _went_on(stage) else _ended(stage)


def _went_on(stage: StageView) -> bool:
    """Return whether the thread of a stage's newest run went on."""
    run = stage.newest[1] if stage.newest else Run()
    may_be_withdrawn = bool(stage.plan.choice_group or stage.plan.milestone)
    is_withdrawn = run.status == "SKIPPED" and not run.has_started and may_be_withdrawn
    return not run.is_ended or (run.status in GOES_ON and not is_withdrawn)


def _ended(stage: StageView) -> str:
    """Return how a stage ended whose thread did not go on, with the reason that was given."""
    run = stage.newest[1] if stage.newest else Run()
    reason = " ".join(run.reason.split())[:_LONGEST_REASON]
    told = {"CANCELED": "was cancelled", "SKIPPED": "was withdrawn"}.get(run.status, f"failed ({run.status})")
    return f"{stage.plan.ref} {told}{f': {reason}' if reason else ''}"
