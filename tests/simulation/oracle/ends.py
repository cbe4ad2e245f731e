"""How runs, threads and cases end: splits (1.4), failures (1.3), cancellation (1.8), the end of a case (1.10)."""

from stabilize_celery.models.expressions import ConditionError, evaluate_condition
from stabilize_celery.testing.conformance.scenario import StageScript
from tests.simulation.oracle.enabling import end_run, offer_or_enable
from tests.simulation.oracle.joins import judge, judge_joins
from tests.simulation.oracle.pasts import with_outputs
from tests.simulation.oracle.state import Case, Run

__all__ = [
    "cancel", "complete", "end_if_nothing_is_left", "fail", "failure_status", "finish", "judge_cancelling", "leave",
    "pass_on",
]  # fmt: skip


def complete(case: Case, run: Run, status: str) -> None:
    """End a run whose thread goes on, unless it has before."""
    if run.passed_on:
        leave(case, run)
        end_run(run, status)
        return
    try:
        taken = _taken(case, run)
    except ConditionError:
        fail(case, run, "TERMINAL")
        return
    _let_joins_act(case, run)
    leave(case, run)
    end_run(run, status)
    _go_on(case, run, taken, is_bypassed=status == "SKIPPED")


def pass_on(case: Case, run: Run) -> None:
    """Let the thread go on while the run is still at work."""
    try:
        taken = _taken(case, run)
    except ConditionError:
        fail(case, run, "TERMINAL")
        return
    _let_joins_act(case, run)
    leave(case, run)
    run.passed_on = True
    _go_on(case, run, taken)


def _let_joins_act(case: Case, run: Run) -> None:
    """Where this end takes away what is elsewhere: what a join gives up before is not taken away (1.5)."""
    stage = case.stages[run.ref]
    if stage.terminates_workflow or stage.cancels_regions:
        judge_joins(case, case.top)


def leave(case: Case, run: Run) -> None:
    """Write down what is seen behind a run."""
    run.past_out = with_outputs(run.past, run.outputs, case.tick())


def _taken(case: Case, run: Run) -> list[str]:
    stage, targets = case.stages[run.ref], case.targets.get(run.ref, [])
    if stage.split_type == "AND" or not targets:
        return targets
    names, taken = case.names(run), set[str]()
    for target, expression in stage.split_conditions.items():
        if evaluate_condition(expression, names):
            taken.add(target)
            if stage.split_type == "XOR":
                break
    if stage.split_type == "OR":
        taken |= {t for t in targets if t not in stage.split_conditions and t != stage.split_default}
    if not taken and stage.split_default is None:
        raise ConditionError("no branch")
    return [t for t in targets if t in (taken or {stage.split_default})]


def _go_on(case: Case, run: Run, taken: list[str], *, is_bypassed: bool = False) -> None:
    stage = case.stages[run.ref]
    if not is_bypassed:
        if stage.terminates_workflow:
            finish(case, "TERMINAL" if case.failure_put_off else "SUCCEEDED")
            return
        cancel(case, [ref for ref in case.stages if case.stages[ref].cancel_region in stage.cancels_regions], spare=run)
    direct = []
    for target in taken:
        if case.is_direct(target):
            direct.append(target)
        else:
            waiting = case.joins[target].waiting[case.sources[target].index(run.ref)]
            waiting += [run.past_out] * stage.thread_split
    offer_or_enable(case, direct, stage.thread_split, run.past_out)


def failure_status(stage: StageScript) -> str:
    """Return what a failure makes of a run of this stage."""
    if stage.context.get("continuePipelineOnFailure"):
        return "FAILED_CONTINUE"
    return "TERMINAL" if stage.context.get("failPipeline", True) else "STOPPED"


def fail(case: Case, run: Run, status: str) -> None:
    """End a run whose thread does not go on, TERMINAL or STOPPED, with what that means for the case."""
    stage = case.stages[run.ref]
    ends_all = status == "TERMINAL" and not stage.context.get("allowSiblingStagesToContinueOnFailure")
    if ends_all and run.parent is None:
        judge_joins(case, case.top)
    end_run(run, status)
    if run.parent is not None:
        return
    if ends_all:
        finish(case, "TERMINAL")
    elif status == "TERMINAL" or (status == "STOPPED" and stage.context.get("completeOtherBranchesThenFail")):
        case.failure_put_off = True


def finish(case: Case, status: str) -> None:
    """End a case: what is left in it is cancelled."""
    case.status = status
    cancel(case, list(case.stages))


def cancel(case: Case, refs: list[str], spare: Run | None = None) -> bool:
    """Take away what is in these stages now, but for `spare` and what it is a part of. Returns whether there was anything."""
    found = False
    for ref in refs:
        for run in case.runs:
            if run.ref == ref and run.is_live and (spare is None or run.whole is not spare.whole):
                end_run(run, "CANCELED")
                found = True
        if ref in case.joins:
            found |= _drop(case, ref)
    return found


def judge_cancelling(case: Case, ref: str) -> None:
    """Judge a cancelling join; if it fires, take away what leads to it."""
    before = len(case.runs)
    judge(case, ref)
    if len(case.runs) > before:
        judge_joins(case, case.top)
        cancel(case, _upstream(case, ref))


def _upstream(case: Case, ref: str) -> list[str]:
    found: set[str] = set()
    left = [ref]
    while left:
        fresh = set(case.sources[left.pop()]) - found
        found |= fresh
        left += fresh
    return sorted(found)


def _drop(case: Case, ref: str) -> bool:
    join = case.joins[ref]
    dropped = join.holds
    join.empty()
    if not join.has_fired:
        join.counted = {}
    if dropped:
        case.runs.append(Run(ref, case.tick(), "CANCELED"))
    return dropped


def end_if_nothing_is_left(case: Case) -> None:
    """End a case in which there is no thread and nothing at work."""
    is_empty = all(join.is_empty for join in case.joins.values())
    if case.is_live and is_empty and not any(case.live()):
        case.status = "TERMINAL" if case.failure_put_off else "SUCCEEDED"
