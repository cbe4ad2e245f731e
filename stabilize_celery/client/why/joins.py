"""What a stage waits for that no thread has started yet: its branches, what it needs of them, who could bring it."""

from collections.abc import Iterator, Sequence

from stabilize_celery.client.why.branches import Branches, Reach, evaluation_name, is_at_work
from stabilize_celery.client.why.doing import doing, why_lost
from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.owed import message_reason
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.words import listed, plural
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.region import Place
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import StageView

__all__ = ["branch_reason", "idle_join_reason"]

_MOST_TOLD = 3
"""So many branches are told one by one (count)."""


def branch_reason(facts: Facts, reach: Reach, ref_id: str) -> Reason:
    """Return what a stage without a live run waits for, before its first run or before its next one."""
    stage = facts.view.stages[ref_id]
    branches = reach.branches(ref_id)
    again = "" if stage.newest is None else "to run again it "
    if not stage.is_reachable:
        return _given_up(facts, reach, stage, branches)
    if branches.again:
        told = f"to run again it waits until {_come_or_not(branches.to_come)}; {_have(branches.again)} come again"
        return _reason(facts, reach, stage, branches, told)
    if _has_enough(stage, branches):
        return message_reason(facts, ref_id, evaluation_name(stage.plan), "all that its join needs has come; the join")
    if not branches.to_come:
        return _only_by_jump(reach, stage)
    if len(stage.plan.requisites) == 1 and stage.plan.is_direct:
        return Reason(ref_id, "requisites", _after(facts, branches.to_come[0]))
    return _reason(facts, reach, stage, branches, f"{again}{_needs(stage, branches)}")


def idle_join_reason(facts: Facts, reach: Reach, ref_id: str) -> Reason | None:
    """Return what to tell of a stage that counts as ended: threads wait at its join, or come and do not start it."""
    stage = facts.view.stages[ref_id]
    place = stage.place
    if place is None or stage.plan.is_direct or is_at_work(stage):
        return None
    holds = any(place.waiting.values()) or bool(place.counted and not place.has_fired)
    is_missed = stage.newest is None and bool(_came(stage) or reach.branches(ref_id).to_come)
    return branch_reason(facts, reach, ref_id) if holds or is_missed else None


def _after(facts: Facts, ref_id: str) -> str:
    stage = facts.view.stages[ref_id]
    has_ended = WorkflowStatus[stage.status(facts.view.record)].is_complete
    return f"can't start before {ref_id}{' runs again, and comes this way' if has_ended else ''}"


def _only_by_jump(reach: Reach, stage: StageView) -> Reason:
    ref_id = stage.plan.ref
    jumpers = reach.jumpers(ref_id)
    return Reason(ref_id, "requisites", f"starts only if {' or '.join(jumpers)} jumps to it")


def _has_enough(stage: StageView, branches: Branches) -> bool:
    plan, place = stage.plan, stage.place or Place(stage.plan)
    if plan.is_direct:
        return False
    if plan.thread_merge:
        return len(place.waiting.get(0, ())) >= plan.thread_merge
    if plan.join == "OR":
        return bool(branches.here) and not branches.to_come
    return len(branches.here) >= plan.need


def _needs(stage: StageView, branches: Branches) -> str:
    """Return in words what a join has, and what it needs of the branches that can still come."""
    plan, come = stage.plan, listed(branches.to_come)
    if plan.thread_merge:
        return _threads(stage, plan.thread_merge)
    if len(branches.to_come) == 1 and not branches.here:
        return f"can't start before {come}"
    if plan.is_direct:
        return f"starts with each of {come} that comes"
    if plan.join == "OR":
        return f"{_has(branches, 'branches', len(plan.requisites))}; starts once {_come_or_not(branches.to_come)}"
    if plan.need == 1:
        return f"starts with the first of {come} that comes"
    if plan.need == len(plan.requisites) and not branches.here:
        return f"can't start before {come}"
    missing = plan.need - len(branches.here)
    still = f"still needs {missing}{':' if missing == len(branches.to_come) else ' of'} {come}"
    what = "branches" if plan.need == len(plan.requisites) else "branches that it needs"
    return f"{_has(branches, what, plan.need)}, {still}"


def _have(refs: Sequence[str]) -> str:
    return f"{listed(refs)} {'has' if len(refs) == 1 else 'have'}"


def _come_or_not(refs: Sequence[str]) -> str:
    return f"{_have(refs)} come or can't any more"


def _has(branches: Branches, what: str, number: int) -> str:
    count = f"{len(branches.here)} of {number}" if branches.here else f"none of {number}"
    return f"has {count} {what}{f' ({listed(branches.here)})' if branches.here else ''}"


def _threads(stage: StageView, group: int) -> str:
    number = len((stage.place or Place(stage.plan)).waiting.get(0, ()))
    missing = plural(group - number, "thread")
    has = f"has {number or 'none'} of {group} threads that it merges"
    return f"{has}, needs {missing} more from {stage.plan.requisites[0]}"


def _reason(facts: Facts, reach: Reach, stage: StageView, branches: Branches, told: str) -> Reason:
    details = [_movers(facts, reach, stage.plan, branches.to_come), *_losses(facts, reach, stage, branches.lost)]
    return Reason(stage.plan.ref, "join", told, ". ".join(filter(None, details)))


def _movers(facts: Facts, reach: Reach, plan: StagePlan, branches: Sequence[str]) -> str:
    """Return what the branches that may come are at, and so who could make them come."""
    told = [words for ref in branches[:_MOST_TOLD] if (words := _mover(facts, reach, plan, ref))]
    return "; ".join(told)


def _mover(facts: Facts, reach: Reach, plan: StagePlan, branch: str) -> str:
    at_work = reach.at_work_before(branch, plan.ref)
    if not at_work:
        return ""
    first = f"{at_work[0]} {doing(facts, at_work[0])}"
    if at_work[0] == branch:
        return first
    more = f" (and {plural(len(at_work) - 1, 'other stage')})" if len(at_work) > 1 else ""
    return f"{branch} comes after {at_work[0]}{more}, which {doing(facts, at_work[0])}"


def _losses(facts: Facts, reach: Reach, stage: StageView, branches: Sequence[str]) -> Iterator[str]:
    if branches:
        told = "; ".join(why_lost(facts, reach, stage, ref) for ref in branches[:_MOST_TOLD])
        more = len(branches) - _MOST_TOLD
        others = f"; and {plural(more, 'other')}" if more > 0 else ""
        yield f"No longer to come: {told}{others}"


def _given_up(facts: Facts, reach: Reach, stage: StageView, branches: Branches) -> Reason:
    """Return why a join can't fire any more, and what becomes of the threads that have come, or still may."""
    plan, came = stage.plan, _came(stage)
    if plan.thread_merge:
        need = f"it merges {plan.thread_merge} threads, and so many can't come"
    else:
        need = f"it needs {'all' if plan.need == len(plan.requisites) else plan.need or 1} of its branches"
    told = f"can't start {'any more' if stage.newest is None else 'again'}: {need}"
    told += f"; what {listed(came)} brought is given up" if came else ""
    if branches.to_come:
        told += f"; what {listed(branches.to_come)} may still bring{', too' if came else ' is given up'}"
    lost = [ref for ref in branches.lost if ref not in came]
    return Reason(plan.ref, "join_closed", told, ". ".join(_losses(facts, reach, stage, lost)))


def _came(stage: StageView) -> list[str]:
    """Return the branches of a join that have brought something that no run of it had."""
    place, is_first = stage.place or Place(stage.plan), stage.newest is None
    edges = [edge for edge in place.edges if place.waiting.get(edge) or (is_first and place.used.get(edge))]
    return [stage.plan.requisites[edge] for edge in edges]
