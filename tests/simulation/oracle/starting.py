"""When an enabled run starts (1.7): its milestone holds (WCP-18), and its key is free (WCP-39)."""

from collections.abc import Iterator

from stabilize_celery.models.expressions import ConditionError, evaluate_condition
from stabilize_celery.testing.conformance.scenario import StageScript
from tests.simulation.oracle.enabling import end_run
from tests.simulation.oracle.ends import complete, fail
from tests.simulation.oracle.instances import number_of
from tests.simulation.oracle.parts import begin
from tests.simulation.oracle.reach import may_come, stage_status
from tests.simulation.oracle.state import Case, Run

__all__ = ["close_sections", "may_try", "milestone", "try_to_start"]

SAME = {"SUSPENDED": "RUNNING", "BUFFERED": "NOT_STARTED"}


def milestone(case: Case, run: Run) -> str:
    """Return whether a run's milestone holds, is to be waited for, or is gone."""
    stage = case.stages[run.ref]
    if stage.milestone_ref_id is None:
        return "holds"
    ref = stage.milestone_ref_id
    status = stage_status(case, ref)
    if stage.milestone_status in (status, SAME.get(status)):
        return "holds"
    is_active = any(other.ref == ref for other in case.live())
    return "wait" if is_active or may_come(case, ref) else "gone"


def may_try(case: Case, run: Run) -> bool:
    """Whether an enabled run has something to do now: to start, or to be withdrawn."""
    verdict = milestone(case, run)
    return verdict == "gone" or (verdict == "holds" and _key_is_free(case, run))


def _key_is_free(case: Case, run: Run) -> bool:
    stage = case.stages[run.ref]
    if stage.mutex_key is None:
        return True
    return all(
        one.mutex_key != stage.mutex_key
        or (is_own and stage.mutex_section and one.mutex_section == stage.mutex_section)
        for is_own, one in _holders(case, str(stage.mutex_scope))
    )


def _holders(case: Case, scope: str) -> Iterator[tuple[bool, StageScript]]:
    """Yield the stages that hold a key of this scope; first whether it is one of this case."""
    for other in case.home.cases if scope == "GLOBAL" else [case]:
        holding = [other.stages[run.ref] for run in other.live() if run.started]
        holding += [one for one in other.stages.values() if one.mutex_section in other.sections]
        yield from ((other is case, one) for one in holding if str(one.mutex_scope) == scope)


def close_sections(case: Case) -> None:
    """Give back the keys of sections in which there is nothing any more."""
    present = {run.ref for run in case.live()}
    present |= {ref for ref, join in case.joins.items() if join.holds}
    case.sections &= {case.stages[ref].mutex_section for ref in present}


def try_to_start(case: Case, run: Run) -> None:
    """Start an enabled run, bypass it, or withdraw it."""
    if milestone(case, run) == "gone":
        end_run(run, "SKIPPED")
        return
    stage = case.stages[run.ref]
    try:
        if not _is_enabled(case, run):
            complete(case, run, "SKIPPED")
            return
    except ConditionError:
        fail(case, run, "TERMINAL")
        return
    case.started[run.ref] += 1
    run.status, run.started = "RUNNING", case.started[run.ref]
    if stage.mutex_section is not None:
        case.sections.add(stage.mutex_section)
    if stage.mi_config is not None:
        run.wanted = number_of(case, run)
        if run.wanted is None:
            fail(case, run, "TERMINAL")
            return
    begin(case, run)


def _is_enabled(case: Case, run: Run) -> bool:
    switch = case.stages[run.ref].context.get("stageEnabled", True)
    return evaluate_condition(switch["expression"], case.names(run)) if isinstance(switch, dict) else bool(switch)
