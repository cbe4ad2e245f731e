"""A workflow that was cut short: which joins held something then (wcp 1.2, 1.10). Pure."""

from collections.abc import Iterable, Mapping
from copy import deepcopy

from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.region import Place, joins_that_held
from stabilize_celery.engine.state import Run, WorkflowRecord

__all__ = ["joins_cut_short"]


def joins_cut_short(places: Mapping[str, Place], runs: Mapping[str, Iterable[Run]], record: WorkflowRecord) -> set[str]:
    """Return the joins whose arrivals went with the workflow, which has been cleared or is about to be.

    `places`: all stages, with the runs that still live; `runs`: all runs of each stage that count.
    """
    found = deepcopy(dict(places))
    for ref, place in found.items():
        ended = (run for run in runs[ref] if run.ended_ms >= record.ended_ms)
        place.runs += sum(_was_there(place.plan, run, record) for run in ended)
    return joins_that_held(found)


def _was_there(plan: StagePlan, run: Run, record: WorkflowRecord) -> bool:
    """Whether a run that ended with its workflow, or after it, ended because of that, or ended it."""
    if run.instance is not None:
        return False
    if run.passed_on:
        return plan.terminates_workflow  # its thread ended the workflow, its other instances were cleared
    was_cleared = run.status == "CANCELED" and run.reason == record.reason
    return was_cleared or run.status == "TERMINAL" or plan.terminates_workflow
