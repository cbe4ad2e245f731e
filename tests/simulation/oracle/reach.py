"""What can still arrive (1.5), and what that makes of a stage's status (1.2)."""

from tests.simulation.oracle.state import Case, Ended, Run

__all__ = ["ended", "may_come", "passable", "stage_status"]


def passable(case: Case, judged: str | None = None) -> set[str]:
    """Return the stages out of which a live thread may still come, but not through the join that is judged."""
    found = {run.ref for run in case.runs if run.is_thread}
    while True:
        more = {ref for ref in case.top if ref not in found and ref != judged and _may_pass(case, ref, found)}
        if not more:
            return found
        found |= more


def _may_pass(case: Case, ref: str, found: set[str]) -> bool:
    if any(ref in case.stages[source].jump_targets for source in found):
        return True
    join, stage = case.joins[ref], case.stages[ref]
    filled = [
        at
        for at, source in enumerate(case.sources[ref])
        if join.waiting[at] or source in found or (at in join.counted and not join.has_fired)
    ]
    if case.is_direct(ref) or stage.thread_merge:
        return bool(filled)
    if stage.join_type == "AND":
        return len(filled) == len(join.waiting)
    if stage.join_type == "N_OF_M":
        return len(filled) >= (stage.join_threshold or len(join.waiting))
    return bool(filled)


def may_come(case: Case, ref: str) -> bool:
    """Whether a thread may still come to a stage; to a part of another with that, or if it is there."""
    whole = ref
    while parent := case.stages[whole].parent_stage_id:
        whole = parent
    return whole in passable(case) or (whole != ref and any(run.ref == whole for run in case.live()))


def stage_status(case: Case, ref: str) -> str:
    """Return the status of a stage: that of its newest unfinished run, else of the newest."""
    of_stage = [run for run in case.runs if run.ref == ref]
    newest = [run for run in of_stage if run.is_live] or of_stage
    if not newest:
        return "NOT_STARTED" if case.is_live and may_come(case, ref) else "SKIPPED"
    run = max(newest, key=lambda run: run.created)
    return _run_status(case, run)


def _run_status(case: Case, run: Run) -> str:
    if run.status != "RUNNING":
        return run.status
    waits = [bool(work.waits) for work in run.works if work.status == "RUNNING"]
    waits += [_run_status(case, part) == "SUSPENDED" for part in case.children_of(run) if part.is_live]
    return "SUSPENDED" if waits and all(waits) else "RUNNING"


def ended(case: Case) -> Ended:
    """Return what became of a case."""
    return Ended(
        case.status,
        tuple((ref, stage_status(case, ref)) for ref in case.stages),
        tuple((ref, case.started[ref]) for ref in case.stages),
        tuple((ref, started, done) for ref, (started, done) in case.instances.items()),
        tuple(sorted((name, repr(value)) for name, value in case.outputs().items())),
        tuple((ref, repr(sorted(found))) for ref, found in case.records.items()),
    )
