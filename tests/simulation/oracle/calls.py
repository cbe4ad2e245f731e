"""Inner workflows (1.13): a run starts one, waits for its end, and takes it along."""

from stabilize_celery.models.expressions import ConditionError, evaluate
from tests.simulation.oracle.enabling import end_run
from tests.simulation.oracle.ends import complete, fail, failure_status
from tests.simulation.oracle.parts import end_work
from tests.simulation.oracle.state import Case, Run

__all__ = ["call", "return_from"]


def call(case: Case, run: Run) -> Case | None:
    """Start the inner workflow of a run; None: that fails."""
    run.calls = False
    stage = case.stages[run.ref]
    try:
        context = {name: evaluate(text, case.names(run)) for name, text in stage.sub_context.items()}
    except ConditionError:
        _fail(case, run)
        return None
    if case.depth + 1 > case.workflow.max_depth:
        _fail(case, run)
        return None
    inner = case.home.scenario.workflow(str(stage.sub_workflow))
    run.child = case.home.open(inner, case, context)
    return run.child


def return_from(case: Case, run: Run, child: Case) -> None:
    """Go on behind an inner workflow that has ended."""
    run.child = None
    if child.status == "SUCCEEDED":
        run.outputs |= child.outputs()
        end_work(case, run, "SUCCEEDED")
    elif child.status == "CANCELED":
        end_run(run, "CANCELED")
    else:
        _fail(case, run)


def _fail(case: Case, run: Run) -> None:
    status = failure_status(case.stages[run.ref])
    if status == "FAILED_CONTINUE":
        complete(case, run, status)
    else:
        fail(case, run, status)
