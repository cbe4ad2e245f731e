"""The parts of a run (1.3): its before stages, its own work, its after stages."""

from tests.simulation.oracle.enabling import enable_part
from tests.simulation.oracle.ends import complete, fail, failure_status, pass_on
from tests.simulation.oracle.pasts import Past, merged, with_outputs
from tests.simulation.oracle.state import GOES_ON, Case, Run, Work

__all__ = ["begin", "continue_run", "end_work"]


def begin(case: Case, run: Run) -> None:
    """Begin with the first part that there is."""
    run.phase, run.has_news = "before", True
    if not case.parts_of(run.ref, "before"):
        continue_run(case, run)


def continue_run(case: Case, run: Run) -> None:
    """Look at the parts that have ended: start the next ones, or the next phase; one that failed fails the run."""
    run.has_news = False
    if run.phase != "work":
        _go_on(case, run)
    elif run.wanted is not None:
        count, run.wanted = run.wanted, None
        _begin_instances(case, run, count)


def _go_on(case: Case, run: Run) -> None:
    refs = case.parts_of(run.ref, run.phase)
    mine = {part.ref: part for part in case.children_of(run) if part.ref in refs}
    failed = next((part for part in mine.values() if not part.is_live and part.status not in GOES_ON), None)
    done = {ref for ref, part in mine.items() if part.status in GOES_ON}
    if failed is not None:
        _fail(case, run, failed.status)
    elif len(done) == len(refs):
        run.past = merged([run.past, *(part.past_out for part in mine.values())])
        _next_phase(case, run)
    else:
        for ref in refs:
            if ref not in mine and set(case.stages[ref].requisite_stage_ref_ids) <= done:
                enable_part(case, ref, run, merged([_base(case, run), *(part.past_out for part in mine.values())]))


def _base(case: Case, run: Run) -> Past:
    return run.past if run.phase == "before" else with_outputs(run.past, run.outputs, case.tick())


def _fail(case: Case, run: Run, status: str) -> None:
    if status == "TERMINAL":
        status = failure_status(case.stages[run.ref])
    if status in GOES_ON:
        complete(case, run, status)
    else:
        fail(case, run, status)


def _next_phase(case: Case, run: Run) -> None:
    stage = case.stages[run.ref]
    if run.phase == "after":
        complete(case, run, run.outcome)
        return
    run.phase, run.bears = "work", any(part.status == "FAILED_CONTINUE" for part in case.children_of(run))
    if stage.sub_workflow is not None:
        run.calls = True
    elif run.wanted is not None:
        run.has_news = True
    elif stage.tasks:
        run.works = [Work()]
    else:
        end_work(case, run, "SUCCEEDED")


def _begin_instances(case: Case, run: Run, count: int) -> None:
    config = case.stages[run.ref].mi_config
    if count == 0:
        end_work(case, run, "SUCCEEDED")
        return
    if config is not None and not config.sync_on_complete:
        pass_on(case, run)
        if not run.passed_on:
            return
    case.instances[run.ref][0] += count
    run.works = [Work(number) for number in range(count)]


def end_work(case: Case, run: Run, status: str) -> None:
    """Go on behind the tasks: to the after stages, if there are any."""
    if status == "SUCCEEDED" and run.bears:
        status = "FAILED_CONTINUE"
    if case.parts_of(run.ref, "after"):
        run.phase, run.outcome, run.has_news = "after", status, True
    else:
        complete(case, run, status)
